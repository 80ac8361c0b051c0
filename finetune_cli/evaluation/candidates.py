"""What is kept of each evaluation during training: enough to score it again on any resample of the rows, and small.

Answers of all rows take 1 or 2 bytes each (with several labels a row, a bit a class). Scores are kept only when a
metric looks at them, float32, of all rows or of every so many, so that they take 2 MB at most.

Dimensions: N rows, C classes, n rows whose scores are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune_cli.evaluation.choosing import Candidate
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.kinds.base import Array
from finetune_cli.tasks import KIND_SPECS, METRICS, Kind

MAX_SCORES = 500_000  # numbers of one evaluation
ANSWERS, LOGITS = "answers", "logits"


def deciding_metric(metric_for_best: str, kind: Kind) -> str:
    """The metric that stands for `metric_for_best`: of the loss, the one that equals it."""
    return KIND_SPECS[kind].metric_of_loss if metric_for_best == "loss" else metric_for_best


def compact(logits: Array, metrics: Sequence[str], kind: Kind) -> dict[str, Array]:
    """The arrays to keep of logits (N, C): "answers" for metrics of the answers, "logits" for those of the scores."""
    task, kept = KINDS[kind], {}
    if any(name in task.count_metrics for name in metrics):
        answers = task.answers(task.scores(logits))
        if KIND_SPECS[kind].several_labels:
            kept[ANSWERS] = np.packbits(answers.astype(bool), axis=1)
        else:
            kept[ANSWERS] = answers.astype(np.min_scalar_type(logits.shape[1] - 1))
    if any(name in METRICS and name in task.score_metrics for name in metrics):
        kept[LOGITS] = logits[:: _step(logits.shape)].astype(np.float32)
    return kept


def expand(arrays: Mapping[str, Array], num_rows: int, num_classes: int, kind: Kind) -> Candidate:
    """What `compact` was given, as far as it was kept."""
    answers, logits = arrays.get(ANSWERS), arrays.get(LOGITS)
    if answers is not None:
        several = KIND_SPECS[kind].several_labels
        answers = np.unpackbits(answers, axis=1, count=num_classes) if several else answers.astype(np.int64)
    step = 1 if logits is None else _step((num_rows, logits.shape[1]))
    return Candidate(answers, None if logits is None else KINDS[kind].scores(logits), step)


def _step(shape: tuple[Any, ...]) -> int:
    """Every how many rows the scores (N, C) are kept."""
    return max(1, -(-int(np.prod(shape)) // MAX_SCORES))
