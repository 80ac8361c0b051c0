"""Bootstrap intervals: equal to resampling rows one by one, deterministic, and holding the truth as often as said."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from finetune_cli.evaluation import uncertainty
from finetune_cli.evaluation.kinds.classification import softmax
from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.evaluation.uncertainty import bootstrap_intervals, bootstrap_values

BINARY = ["accuracy", "f1", "f1_macro", "f1_weighted", "matthews", "precision", "recall"]
BY_ROW = ["auroc", "log_loss", "brier", "ece"]
REGRESSION = ["pearson", "spearman", "mse"]


def random_rows(seed, num_rows, num_classes=2, decimals=8):
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_rows)
    logits = rng.normal(size=(num_rows, num_classes)) + 1.5 * np.eye(num_classes)[labels]
    return labels, softmax(np.round(logits, decimals))


def intervals(names, labels, scores, *, kind="classification", samples=500, level=0.95, seed=0):
    return bootstrap_intervals(names, labels=labels, scores=scores, kind=kind, samples=samples, level=level, seed=seed)


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
        metric = uncertainty.weighted_metric(name, labels=labels, scores=scores, kind="classification")
        for value, row in zip(metric(counts.astype(float)), counts, strict=True):
            rows = np.repeat(np.arange(12), row)
            repeated = compute_metrics([name], labels=labels[rows], scores=scores[rows], kind="classification")
            assert value == pytest.approx(repeated[name], abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("decimals", [0, 8])
def test_weighted_numbers_score_like_repeated_numbers(decimals):
    labels, predictions = np.random.default_rng(3).normal(size=(2, 6)).round(decimals)
    counts = every_resample(6)[::97]  # some of them constant
    for name in REGRESSION:
        metric = uncertainty.weighted_metric(name, labels=labels, scores=predictions, kind="regression")
        for value, row in zip(metric(counts), counts, strict=True):
            rows = np.repeat(np.arange(6), row.astype(int))
            repeated = compute_metrics([name], labels=labels[rows], scores=predictions[rows], kind="regression")
            assert value == pytest.approx(repeated[name], abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("name", [*BINARY, *BY_ROW])
def test_resamples_have_the_distribution_of_all_draws_of_four_rows(name):
    labels = np.array([0, 1, 1, 0])
    scores = np.array([[0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.45, 0.55]])
    expected = []
    for row in every_resample(4):
        rows = np.repeat(np.arange(4), row.astype(int))
        expected.append(compute_metrics([name], labels=labels[rows], scores=scores[rows], kind="classification")[name])
    found = bootstrap_values([name], labels=labels, score_sets=[scores], kind="classification", samples=20_000, seed=0)[
        name
    ][0]
    assert np.isnan(found).mean() == pytest.approx(np.isnan(expected).mean(), abs=0.02)
    # 20,000 draws: the standard error of a mean of values of spread below 0.5 is below 0.004
    assert np.nanmean(found) == pytest.approx(np.nanmean(expected), abs=0.015)
    assert np.nanstd(found) == pytest.approx(np.nanstd(expected), abs=0.015)


def test_accuracy_interval_is_that_of_the_binomial():
    labels, predictions = np.zeros(408, dtype=int), (np.arange(408) < 61).astype(int)  # 347 right
    low, high = intervals(["accuracy"], labels, np.eye(2)[predictions], samples=20_000)["accuracy"]
    margin = 1.96 * math.sqrt(347 * 61 / 408) / 408
    assert low == pytest.approx(347 / 408 - margin, abs=0.003)  # accuracy moves in steps of 0.0025
    assert high == pytest.approx(347 / 408 + margin, abs=0.003)


@pytest.mark.parametrize("name", ["accuracy", "log_loss", "pearson"])
def test_intervals_are_those_of_scipys_bootstrap(name):
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
    found = intervals([name], labels, scores, kind=kind, samples=4000)[name]
    expected = scipy.stats.bootstrap(
        data, statistic, n_resamples=4000, method="percentile", paired=True, vectorized=False, rng=rng
    ).confidence_interval
    width = expected.high - expected.low
    assert found == pytest.approx(tuple(expected), abs=0.05 * width)  # two draws of 4,000 resamples each


def test_the_same_seed_gives_the_same_interval_whatever_else_is_asked(monkeypatch):
    labels, scores = random_rows(0, 100)
    together = intervals([*BINARY, *BY_ROW], labels, scores)
    monkeypatch.setattr(uncertainty, "BLOCK_CELLS", 250)  # blocks of two resamples
    for name in [*BINARY, *BY_ROW]:
        # 1e-12: sums over blocks of another size may round otherwise
        assert intervals([name], labels, scores)[name] == pytest.approx(together[name], abs=1e-12)
    assert intervals(["f1"], labels, scores, seed=1) != intervals(["f1"], labels, scores)


def test_a_higher_level_gives_a_wider_interval_around_the_value():
    labels, scores = random_rows(0, 200)
    value = compute_metrics(["f1"], labels=labels, scores=scores, kind="classification")["f1"]
    narrow = intervals(["f1"], labels, scores, level=0.5)["f1"]
    wide = intervals(["f1"], labels, scores, level=0.99)["f1"]
    assert wide[0] < narrow[0] < value < narrow[1] < wide[1]


def test_one_row_has_an_interval_of_width_zero_or_none():
    found = intervals(["accuracy", "log_loss", "auroc"], np.array([1]), np.array([[0.2, 0.8]]), samples=20)
    assert found["accuracy"] == (1.0, 1.0)
    assert found["log_loss"] == pytest.approx((-math.log(0.8), -math.log(0.8)))
    assert all(math.isnan(bound) for bound in found["auroc"])


def test_a_constant_prediction_has_no_interval_of_its_correlation():
    labels = np.array([1.0, 2.0, 3.0])
    found = intervals(REGRESSION, labels, np.full(3, 0.1), kind="regression", samples=50)
    assert all(math.isnan(bound) for name in ("pearson", "spearman") for bound in found[name])
    assert found["mse"][0] < found["mse"][1]


def test_resamples_that_miss_a_class_are_left_out():
    labels, scores = random_rows(0, 12)
    labels[:] = 0
    labels[0] = 1  # a third of the resamples has no positive row
    low, high = intervals(["auroc"], labels, scores)["auroc"]
    assert 0 <= low <= high <= 1


def test_ece_interval_holds_its_value_and_is_not_negative():
    for seed in range(20):
        labels, scores = random_rows(seed, 60)
        value = compute_metrics(["ece"], labels=labels, scores=scores, kind="classification")["ece"]
        low, high = intervals(["ece"], labels, scores, samples=200)["ece"]
        assert 0 <= low <= value <= high


def test_ece_interval_of_a_badly_calibrated_model_holds_the_truth():
    # confidence 0.95, right in 60 %: the true ECE is 0.35
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        labels = (rng.random(300) < 0.6).astype(int)
        low, high = intervals(["ece"], labels, np.tile([0.05, 0.95], (300, 1)), samples=200, seed=seed)["ece"]
        held += low <= 0.35 <= high
    assert 0.90 <= held / 200 <= 0.99  # 95 % expected, standard error 1.5 %


def test_95_percent_intervals_hold_the_true_accuracy_in_92_to_98_percent_of_500_test_sets():
    rng = np.random.default_rng(7)
    held = 0
    for seed in range(500):
        labels = rng.integers(2, size=400)
        right = rng.random(400) < 0.85
        scores = np.eye(2)[np.where(right, labels, 1 - labels)]
        low, high = intervals(["accuracy"], labels, scores, samples=1000, seed=seed)["accuracy"]
        held += low <= 0.85 <= high
    assert 0.92 <= held / 500 <= 0.98


def test_95_percent_intervals_hold_the_true_auroc_and_pearson():
    rng = np.random.default_rng(8)
    true_auroc = 0.5 * (1 + math.erf(1 / 2))  # two normal distributions one standard deviation apart
    held = {"auroc": 0, "pearson": 0}
    for seed in range(300):
        labels = np.arange(150) % 2
        scores = rng.normal(size=150) + labels
        scores = softmax(np.stack([np.zeros(150), scores], axis=1))
        low, high = intervals(["auroc"], labels, scores, samples=300, seed=seed)["auroc"]
        held["auroc"] += low <= true_auroc <= high
        x = rng.normal(size=150)
        y = 0.6 * x + 0.8 * rng.normal(size=150)
        low, high = intervals(["pearson"], x, y, kind="regression", samples=300, seed=seed)["pearson"]
        held["pearson"] += low <= 0.6 <= high
    assert 0.90 <= held["auroc"] / 300 <= 0.98
    assert 0.90 <= held["pearson"] / 300 <= 0.98


def test_many_resamples_of_many_rows_fit_in_little_memory():
    tracemalloc = pytest.importorskip("tracemalloc")
    labels, scores = random_rows(0, 20_000)
    tracemalloc.start()
    intervals([*BINARY, *BY_ROW], labels, scores, samples=200)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 25e6  # all counts at once would take 32 MB; about 10 MB are seen
