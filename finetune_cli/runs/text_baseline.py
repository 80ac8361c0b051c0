"""The baseline of the words beside a run's scores: fitted where its files do not have it beside the same scores."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import replace

import numpy as np

from finetune_cli.config.fields import RunConfig
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import counted
from finetune_cli.evaluation.comparison import compare_predictions
from finetune_cli.evaluation.intervals.by_family import scored_metrics
from finetune_cli.evaluation.scored_rows import scored_rows
from finetune_cli.evaluation.scoring import ScoringRules
from finetune_cli.evaluation.text_baseline import fit_text_baseline
from finetune_cli.records.evaluation import EvalReport, PairedDifference, TextBaseline
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.tasks import METRICS

logger = logging.getLogger(__name__)


def with_text_baseline(
    report: EvalReport,
    logits: np.ndarray,
    prepared: PreparedData,
    config: RunConfig,
    rules: ScoringRules,
    *,
    run: RunDir,
) -> EvalReport:
    """The report with the baseline's scores and the paired test of the model (logits (N, C), with its decision rule
    where it has one) against it, on each metric where that is defined.

    It is taken from the run's files where these have the same scores, and else fitted. The report as it is where the
    config wants none, where train has nothing to learn from, and for the rows of train.
    """
    train, rows, began = prepared.splits.get("train"), prepared.splits[report.split], time.monotonic()
    if not config.evaluation.baseline or train is None or train.labels is None or report.split == "train":
        return report
    if known := _known(report, run):
        return replace(report, text_baseline=known)
    labels = rows.known_labels()
    fitted = fit_text_baseline(
        train,
        train.labels,
        rows,
        kind=rules.kind,
        num_classes=len(rules.classes),
        pair=len(config.data.text) == 2,
        seed=config.seed,
    )
    if fitted is None:
        return report
    names = [name for name in rules.names if name in METRICS]
    of_words, of_model = scored_rows(labels, fitted.scores, rules.kind), rules.scored(logits, labels)
    scores = scored_metrics(names, of_words, rules.resampling)
    differences = {
        name: PairedDifference(test.difference, test.low, test.high, test.p_value, test.method)
        for name, test in compare_predictions(names, of_words, of_model, rules.resampling.to_compare).items()
        if all(map(math.isfinite, (test.difference, test.low, test.high, test.p_value)))
    }
    logger.info("TF-IDF baseline: %s in %.1f s", counted(fitted.num_rows, "row"), time.monotonic() - began)
    return replace(report, text_baseline=TextBaseline(fitted.num_rows, scores, differences))


def _known(report: EvalReport, run: RunDir) -> TextBaseline | None:
    """What the run's files have beside these very scores."""
    try:
        known = run.read_scores(report.split)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not scored yet, or by another version
    same = (known.n, known.to_json()["metrics"]) == (report.n, report.to_json()["metrics"])
    return known.text_baseline if same else None
