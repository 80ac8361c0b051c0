"""The baseline of the words beside a run's scores: fitted when the run is trained, kept with its scores after that."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import replace

import numpy as np

from finetune_cli.config.fields import RunConfig
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import counted
from finetune_cli.evaluation.comparison import compare_predictions
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.scoring import ScoringRules, metric_values
from finetune_cli.evaluation.text_baseline import fit_text_baseline
from finetune_cli.records.evaluation import EvalReport, PairedDifference, TextBaseline
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.tasks import METRICS

logger = logging.getLogger(__name__)

TEST_SAMPLES = 1000  # of the paired test, where evaluation.bootstrap.samples is 0


def with_text_baseline(
    report: EvalReport, logits: np.ndarray, prepared: PreparedData, config: RunConfig, rules: ScoringRules
) -> EvalReport:
    """The report with the baseline's scores and the paired test of the model (logits (N, C)) against it.

    As it is where the config wants none, and where train has nothing to learn from.
    """
    train, rows, began = prepared.splits.get("train"), prepared.splits[report.split], time.monotonic()
    if not config.evaluation.baseline or train is None or train.labels is None:
        return report
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
    found = compare_predictions(
        names,
        labels=labels,
        scores_a=fitted.scores,
        scores_b=task.scores(logits),
        kind=rules.kind,
        samples=rules.samples or TEST_SAMPLES,
        level=rules.level,
        seed=rules.seed,
    )
    differences = {
        name: PairedDifference(one.difference, one.low, one.high, one.p_value, one.method)
        for name, one in found.items()
        if all(map(math.isfinite, (one.difference, one.low, one.high, one.p_value)))
    }
    logger.info("TF-IDF baseline: %s in %.1f s", counted(fitted.num_rows, "row"), time.monotonic() - began)
    return replace(report, text_baseline=TextBaseline(fitted.num_rows, scores, differences))


def with_known_baseline(report: EvalReport, run: RunDir) -> EvalReport:
    """The report with the baseline that the run's files have for these very scores."""
    file = run.evaluation(report.split) / "metrics.json"
    try:
        known = EvalReport.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError):
        return report  # not scored yet, or by another version
    same = (known.n, known.to_json()["metrics"]) == (report.n, report.to_json()["metrics"])
    return replace(report, text_baseline=known.text_baseline) if same else report
