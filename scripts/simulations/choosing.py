"""Is the corrected score of the best of K models right? Bias and coverage over simulated trainings, as a table.

Each training has K candidates on the same rows, of two classes. A row has a difficulty that all candidates share, and
each candidate some luck of its own with it (a Gaussian for each; `rho` is the share of the first in the variance). The
truth is known: how often a candidate is right on other rows of the kind. The candidates are

  equal    of the same true accuracy, 0.85
  unequal  of true accuracies that spread by 2 points (standard deviation)
  trend    of accuracies that rise towards 0.85, as over epochs: 10, 4, 1.6 ... points below it

The one with the best score on the rows is kept, by accuracy or by F1. Three numbers are compared with its true score:
the score as it is, the corrected one, and the interval around that, the package's own for the kept model, moved.

  python -m scripts.simulations.choosing --trainings 400

The luck of the rows is taken out of the biases: over all candidates, whose true scores are known, it is seen exactly.
That makes them as precise as many times the trainings would.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import ndtri

from finetune_cli.evaluation.choosing import Candidate, moved_interval, price_of_choosing
from finetune_cli.evaluation.intervals.by_family import score_intervals
from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.evaluation.scored_rows import scored_rows
from finetune_cli.records.resampling import Resampling

ACCURACY, SPREAD, TREND = 0.85, 0.02, 0.10


@dataclass(frozen=True)
class Setting:
    """One kind of training: how many candidates on how many rows, how alike in their errors and in truth."""

    candidates: int
    rows: int
    rho: float
    truth: str
    metric: str = "accuracy"


@dataclass(frozen=True)
class Outcome:
    """Over all trainings: mean error of the score and of the corrected one, in points, with the standard error of the
    latter, and shares of the intervals that hold the truth."""

    bias: float
    corrected_bias: float
    standard_error: float
    coverage: float
    corrected_coverage: float


def simulate(setting: Setting, trainings: int, *, seed: int = 0, samples: int = 1000) -> Outcome:
    """Repeat one kind of training. samples: of the interval of each."""
    generator = np.random.default_rng(
        [seed, setting.candidates, setting.rows, round(100 * setting.rho), len(setting.truth)]
    )
    found = np.array([_training(setting, generator, samples) for _ in range(trainings)])
    error, corrected, luck, coverage, corrected_coverage = found.T
    (bias, _), (corrected_bias, standard_error) = (_without_luck(values, luck) for values in (error, corrected))
    return Outcome(100 * bias, 100 * corrected_bias, 100 * standard_error, coverage.mean(), corrected_coverage.mean())


def _without_luck(values: np.ndarray, luck: np.ndarray) -> tuple[float, float]:
    """The mean of values, one a training, and its standard error: luck, whose true mean is 0, as a control variate."""
    spread = float(luck.var())
    rest = values - (float(np.cov(values, luck)[0, 1]) / spread if spread else 0.0) * luck
    return float(rest.mean()), float(rest.std(ddof=1)) / math.sqrt(len(rest))


def _training(setting: Setting, generator: np.random.Generator, samples: int) -> tuple[float, ...]:
    labels, right, truths = _candidates(setting, generator)
    answers = np.where(right, labels, 1 - labels)
    scores = [_score(setting.metric, labels, one) for one in answers]
    kept = int(np.argmax(scores))
    price = price_of_choosing(
        [setting.metric],
        setting.metric,
        [Candidate(one, None) for one in answers],
        num_candidates=len(answers),
        kept=kept,
        labels=labels,
        kind="classification",
        num_classes=2,
        seed=int(generator.integers(2**31)),
    )[setting.metric]
    score, truth = scores[kept], _true_score(setting.metric, truths[kept])
    interval = score_intervals(
        [setting.metric],
        scored_rows(labels, np.eye(2)[answers[kept]], "classification"),
        Resampling(samples, 0.95, int(generator.integers(2**31))),
    )[setting.metric]
    low, high = interval or (math.nan, math.nan)  # too few rows for one: counted as missed
    corrected = score + price
    first, last = moved_interval(score, low, high, corrected, (0.0, 1.0))
    luck = float(np.mean(scores) - np.mean([_true_score(setting.metric, one) for one in truths]))
    return score - truth, corrected - truth, luck, low <= truth <= high, first <= truth <= last


def _candidates(setting: Setting, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (N,), half of them 1 on average; which answers are right (K, N); true accuracies (K,)."""
    count, rows = setting.candidates, setting.rows
    truths = np.full(count, ACCURACY)
    if setting.truth == "unequal":
        truths = truths + generator.normal(0, SPREAD, count)
    if setting.truth == "trend":
        truths = truths - TREND * 0.4 ** np.arange(count)
    shared, own = generator.standard_normal(rows), generator.standard_normal((count, rows))
    luck = np.sqrt(setting.rho) * shared + np.sqrt(1 - setting.rho) * own
    labels = generator.integers(0, 2, rows)
    return labels, luck < ndtri(truths)[:, None], truths


def _score(metric: str, labels: np.ndarray, answers: np.ndarray) -> float:
    return compute_metrics([metric], scored_rows(labels, np.eye(2)[answers], "classification"))[metric]


def _true_score(metric: str, accuracy: float) -> float:
    """With two classes alike, each answered rightly with the same probability, F1 equals the accuracy."""
    assert metric in ("accuracy", "f1")
    return accuracy


def settings() -> Iterator[Setting]:
    for count, rows in product((1, 3, 10, 20), (182, 408, 872)):
        for rho, truth, metric in product((0.8, 0.95), ("equal", "unequal", "trend"), ("accuracy", "f1")):
            yield Setting(count, rows, rho, truth, metric)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainings", type=int, default=400, help="of each kind")
    parser.add_argument("--metric", choices=("accuracy", "f1"), help="this one alone")
    parser.add_argument("--candidates", type=int, nargs="+", default=[1, 3, 10, 20])
    parser.add_argument("--seed", type=int, default=2, help="0 and 1 were used in development")
    options = parser.parse_args()
    print("| K | rows | rho | truth | metric | bias | corrected | standard error | coverage | corrected |")
    print("| ---: | ---: | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for one in settings():
        if options.metric not in (None, one.metric) or one.candidates not in options.candidates:
            continue
        if one.candidates == 1 and (one.rho != 0.8 or one.truth != "equal"):
            continue
        found = simulate(one, options.trainings, seed=options.seed, samples=300)
        print(
            f"| {one.candidates} | {one.rows} | {one.rho} | {one.truth} | {one.metric} | {found.bias:+.2f} | "
            f"{found.corrected_bias:+.2f} | {found.standard_error:.2f} | {100 * found.coverage:.1f} | "
            f"{100 * found.corrected_coverage:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
