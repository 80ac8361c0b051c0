"""The bootstrap: equal to resampling rows one by one, and deterministic."""

import itertools

import numpy as np
import pytest
import scipy.stats

from finetune_cli.evaluation import uncertainty
from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.evaluation.scored_rows import scored_rows
from finetune_cli.evaluation.uncertainty import bootstrap_values, percentile_interval
from finetune_cli.records.resampling import Resampling
from tests.evaluation.test_metrics import random_rows

BINARY = ["accuracy", "f1", "f1_macro", "f1_weighted", "matthews", "precision", "recall"]
BY_ROW = ["auroc", "log_loss", "brier", "ece"]
REGRESSION = ["pearson", "spearman", "mse"]


def resampled(names, labels, scores, *, kind="classification", samples=500, seed=0):
    return bootstrap_values(names, [scored_rows(labels, scores, kind)], Resampling(samples, seed=seed))


def every_resample(num_rows):
    """The counts (R, N) of all equally likely draws of N rows with replacement."""
    draws = itertools.product(range(num_rows), repeat=num_rows)
    return np.array([np.bincount(draw, minlength=num_rows) for draw in draws], dtype=float)


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("decimals", [0, 8])
def test_weighted_rows_score_like_repeated_rows(num_classes, decimals):
    labels, scores = random_rows(1, 12, num_classes, decimals)
    counts = np.random.default_rng(2).multinomial(12, [1 / 12] * 12, size=50)
    for name in BY_ROW:
        metric = uncertainty.weighted_metric(name, scored_rows(labels, scores, "classification"))
        for value, row in zip(metric(counts.astype(float)), counts, strict=True):
            rows = np.repeat(np.arange(12), row)
            repeated = compute_metrics([name], scored_rows(labels[rows], scores[rows], "classification"))
            assert value == pytest.approx(repeated[name], abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("decimals", [0, 8])
def test_weighted_numbers_score_like_repeated_numbers(decimals):
    labels, predictions = np.random.default_rng(3).normal(size=(2, 6)).round(decimals)
    counts = every_resample(6)[::97]  # some of them constant
    for name in REGRESSION:
        metric = uncertainty.weighted_metric(name, scored_rows(labels, predictions, "regression"))
        for value, row in zip(metric(counts), counts, strict=True):
            rows = np.repeat(np.arange(6), row.astype(int))
            repeated = compute_metrics([name], scored_rows(labels[rows], predictions[rows], "regression"))
            assert value == pytest.approx(repeated[name], abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("name", [*BINARY, *BY_ROW])
def test_resamples_have_the_distribution_of_all_draws_of_four_rows(name):
    labels = np.array([0, 1, 1, 0])
    scores = np.array([[0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.45, 0.55]])
    expected = []
    for row in every_resample(4):
        rows = np.repeat(np.arange(4), row.astype(int))
        expected.append(compute_metrics([name], scored_rows(labels[rows], scores[rows], "classification"))[name])
    found = resampled([name], labels, scores, samples=20_000)[name][0]
    assert np.isnan(found).mean() == pytest.approx(np.isnan(expected).mean(), abs=0.02)
    # 20,000 draws: the standard error of a mean of values of spread below 0.5 is below 0.004
    assert np.nanmean(found) == pytest.approx(np.nanmean(expected), abs=0.015)
    assert np.nanstd(found) == pytest.approx(np.nanstd(expected), abs=0.015)


@pytest.mark.parametrize("name", ["accuracy", "log_loss", "pearson"])
def test_percentiles_are_those_of_scipys_bootstrap(name):
    rng = np.random.default_rng(3)
    if name == "pearson":
        labels = rng.normal(size=300)
        scores, kind = labels + rng.normal(size=300), "regression"
        data, statistic = (labels, scores), lambda a, b: scipy.stats.pearsonr(a, b).statistic
    else:
        labels, scores = random_rows(3, 300)
        kind, rows = "classification", np.arange(300)
        of_row = {"accuracy": scores.argmax(axis=1) == labels, "log_loss": -np.log(scores[rows, labels])}
        data, statistic = (of_row[name].astype(float),), np.mean
    found = percentile_interval(resampled([name], labels, scores, kind=kind, samples=4000)[name][0], 0.95)
    expected = scipy.stats.bootstrap(
        data, statistic, n_resamples=4000, method="percentile", paired=True, vectorized=False, rng=rng
    ).confidence_interval
    width = expected.high - expected.low
    assert found == pytest.approx(tuple(expected), abs=0.05 * width)  # two draws of 4,000 resamples each


def test_the_same_seed_gives_the_same_resamples_whatever_else_is_asked(monkeypatch):
    labels, scores = random_rows(0, 100)
    together = resampled([*BINARY, *BY_ROW], labels, scores)
    monkeypatch.setattr(uncertainty, "BLOCK_CELLS", 250)  # blocks of two resamples
    for name in [*BINARY, *BY_ROW]:
        # 1e-12: sums over blocks of another size may round otherwise
        assert np.allclose(resampled([name], labels, scores)[name], together[name], atol=1e-12, equal_nan=True)
    again = resampled(["f1"], labels, scores, seed=1)["f1"]
    assert not np.array_equal(again, together["f1"])


def test_many_resamples_of_many_rows_fit_in_little_memory():
    tracemalloc = pytest.importorskip("tracemalloc")
    labels, scores = random_rows(0, 20_000)
    tracemalloc.start()
    resampled([*BINARY, *BY_ROW], labels, scores, samples=200)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 25e6  # all counts at once would take 32 MB; about 10 MB are seen
