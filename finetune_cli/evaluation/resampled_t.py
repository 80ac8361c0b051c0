"""The interval of a score over the folds of a cross-validation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from finetune_cli.evaluation.seed_summary import SeedSummary
from finetune_cli.evaluation.student_t import t_quantile


def summarise_folds(values: Sequence[float], *, n: int, level: float = 0.95) -> SeedSummary:
    """Mean, standard deviation and corrected resampled t interval over the folds' values.

    n: parts in each repeat, so that a fold tests 1 / (n - 1) as many rows as it trains on. The folds share most of
    their training rows, so their scores are not independent, and the plain standard error is too small: the variance of
    the mean is taken as (1 / J + 1 / (n - 1)) times that of J values (Nadeau and Bengio 2003, "Inference for the
    Generalization Error", equation 10). One value has no interval (nan).
    """
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return SeedSummary(tuple(values), mean, math.nan, math.nan, math.nan)
    sd = float(array.std(ddof=1))
    margin = t_quantile(level, len(array) - 1) * sd * math.sqrt(1 / len(array) + 1 / (n - 1))
    return SeedSummary(tuple(values), mean, sd, mean - margin, mean + margin)
