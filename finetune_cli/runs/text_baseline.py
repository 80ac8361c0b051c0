"""The baseline of the words beside a run's scores: fitted where its files do not have it beside the same scores."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from finetune_cli.config.fields import RunConfig
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import counted
from finetune_cli.evaluation.comparison import Difference, compare_predictions
from finetune_cli.evaluation.decision import answers_of, calibrated
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.metrics import metric_parts
from finetune_cli.evaluation.scoring import ScoringRules, metric_values
from finetune_cli.evaluation.text_baseline import fit_text_baseline
from finetune_cli.records.evaluation import EvalReport, PairedDifference, TextBaseline
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.tasks import METRICS

logger = logging.getLogger(__name__)

TEST_SAMPLES = 1000  # of the paired test, where evaluation.bootstrap.samples is 0


def with_text_baseline(
    report: EvalReport,
    logits: np.ndarray,
    prepared: PreparedData,
    config: RunConfig,
    rules: ScoringRules,
    *,
    run: RunDir,
) -> EvalReport:
    """The report with the baseline's scores and the paired test of the model (logits (N, C)) against it.

    It is taken from the run's files where these have the same scores, and else fitted. The report as it is where the
    config wants none, where train has nothing to learn from, and for the rows of train.
    """
    train, rows, began = prepared.splits.get("train"), prepared.splits[report.split], time.monotonic()
    if not config.evaluation.baseline or train is None or train.labels is None or report.split == "train":
        return report
    if known := _known(report, run):
        return replace(report, text_baseline=known)
    labels, task, num_classes = rows.known_labels(), KINDS[rules.kind], len(rules.label_names or ())
    fitted = fit_text_baseline(
        train,
        train.labels,
        rows,
        kind=rules.kind,
        num_classes=num_classes,
        pair=len(config.data.text) == 2,
        seed=config.seed,
    )
    if fitted is None:
        return report
    names = [name for name in rules.metrics if name in METRICS and name != "loss"]
    scores = metric_values(names, labels, fitted.scores, rules, answers=task.answers(fitted.scores))
    differences = _differences(names, labels, fitted.scores, logits, rules)
    logger.info("TF-IDF baseline: %s in %.1f s", counted(fitted.num_rows, "row"), time.monotonic() - began)
    return replace(report, text_baseline=TextBaseline(fitted.num_rows, scores, differences))


def _differences(
    names: Sequence[str], labels: np.ndarray, of_words: np.ndarray, logits: np.ndarray, rules: ScoringRules
) -> dict[str, PairedDifference]:
    """The model, with its decision rule where it has one, less the baseline, on each metric where that is defined."""
    task, classes = KINDS[rules.kind], rules.label_names or ()
    of_model = task.scores(calibrated(logits, rules.decision))
    answers = answers_of(of_model, rules.decision, classes, rules.kind)
    differences: dict[str, Difference] = {}
    for part, look_at_scores in metric_parts(names):
        differences |= compare_predictions(
            part,
            labels=labels,
            scores_a=of_words,
            scores_b=of_model if look_at_scores else task.as_scores(answers, len(classes)),
            kind=rules.kind,
            samples=rules.samples or TEST_SAMPLES,
            level=rules.level,
            seed=rules.seed,
        )
    return {
        name: PairedDifference(one.difference, one.low, one.high, one.p_value, one.method)
        for name, one in differences.items()
        if all(map(math.isfinite, (one.difference, one.low, one.high, one.p_value)))
    }


def _known(report: EvalReport, run: RunDir) -> TextBaseline | None:
    """What the run's files have beside these very scores."""
    try:
        known = run.read_scores(report.split)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not scored yet, or by another version
    same = (known.n, known.to_json()["metrics"]) == (report.n, report.to_json()["metrics"])
    return known.text_baseline if same else None
