"""The answers to a row's windows become the row's: against the same worked out with plain probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax

from finetune_cli.data.windows import Pool, WholeRows, Windows, WindowSettings
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.window_pooling import pool_windows
from finetune_cli.tasks import Kind

COUNTS = (1, 3, 2)


def pieces(kind: Kind, pool: Pool) -> Windows:
    """Rows of 1, 3 and 2 windows of 10 tokens without special ones."""
    ends = np.cumsum([10 * count for count in COUNTS])
    edges = np.tile([0, 0, 10], (3, 1))
    return Windows(np.array([0, *ends]), edges, WindowSettings(0, pool, kind, 10))


def logits(columns: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 4, (sum(COUNTS), columns)).astype(np.float32)


def by_row(values: np.ndarray) -> list[np.ndarray]:
    return np.split(values, np.cumsum(COUNTS)[:-1])


def scores(kind: Kind, pool: Pool, columns: int) -> np.ndarray:
    return KINDS[kind].scores(pool_windows(logits(columns), pieces(kind, pool)))


@pytest.mark.parametrize("columns", [2, 5])
def test_one_class_a_row(columns: int) -> None:
    probabilities = by_row(softmax(logits(columns).astype(float), axis=1))
    mean = np.stack([of_row.mean(axis=0) for of_row in probabilities])
    assert scores("classification", "mean", columns) == pytest.approx(mean, abs=1e-6)
    highest = np.stack([of_row.max(axis=0) / of_row.max(axis=0).sum() for of_row in probabilities])
    assert scores("classification", "max", columns) == pytest.approx(highest, abs=1e-6)
    of_means = np.stack([softmax(of_row.mean(axis=0)) for of_row in by_row(logits(columns).astype(float))])
    assert scores("classification", "logits", columns) == pytest.approx(of_means, abs=1e-6)


def test_several_classes_a_row() -> None:
    probabilities = by_row(expit(logits(4).astype(float)))
    assert scores("multilabel", "mean", 4) == pytest.approx(np.stack([p.mean(axis=0) for p in probabilities]), abs=1e-6)
    assert scores("multilabel", "max", 4) == pytest.approx(np.stack([p.max(axis=0) for p in probabilities]), abs=1e-6)
    of_means = expit(np.stack([of_row.mean(axis=0) for of_row in by_row(logits(4).astype(float))]))
    assert scores("multilabel", "logits", 4) == pytest.approx(of_means, abs=1e-6)


def test_numbers() -> None:
    numbers = by_row(logits(1)[:, 0].astype(float))
    means = [values.mean() for values in numbers]
    assert scores("regression", "mean", 1) == pytest.approx(means, rel=1e-6)
    assert scores("regression", "logits", 1) == pytest.approx(means, rel=1e-6)
    assert scores("regression", "max", 1) == pytest.approx([values.max() for values in numbers], rel=1e-6)


@pytest.mark.parametrize("pool", ["mean", "max", "logits"])
@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_nothing_under_or_overflows_and_one_window_changes_nothing(kind: Kind, pool: Pool) -> None:
    large = np.array([[300, -300], [1000, -1000], [-1000, 1000], [0, 0], [-900, 900], [-900, 900]], np.float32)
    pooled = pool_windows(large, pieces(kind, pool))
    assert np.isfinite(pooled).all()
    assert pooled[0].tolist() == [300, -300]
    assert pool_windows(large, WholeRows(np.arange(7))) is large
