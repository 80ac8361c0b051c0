"""Intervals hold the truth as often as they say, from ten rows on, and never have width 0."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import average_precision_score

from finetune_cli.evaluation.intervals.by_family import score_intervals, scored_metrics
from finetune_cli.evaluation.intervals.calibration import calibration_interval
from finetune_cli.evaluation.intervals.means import mean_interval
from finetune_cli.evaluation.intervals.ranks import area_interval, precision_interval
from finetune_cli.evaluation.intervals.shares import f1_interval, jeffreys, share_interval
from finetune_cli.evaluation.kinds import KINDS, classification
from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.evaluation.scored_rows import scored_rows
from finetune_cli.records.evaluation import TOO_FEW_ROWS, MetricValue
from finetune_cli.records.resampling import NO_INTERVALS, Resampling
from finetune_cli.tasks import Kind, metrics_for
from scripts.simulations.coverage import coverage
from scripts.simulations.coverage_steps import can_be_held
from scripts.simulations.coverage_tables import cells_of, tables
from scripts.simulations.worlds import worlds

CLASSES: dict[Kind, int] = {"classification": 2, "multilabel": 3, "regression": 1}


def intervals(names, labels, scores, *, kind="classification", samples=500, level=0.95, seed=0):
    return score_intervals(names, scored_rows(labels, scores, kind), Resampling(samples, level, seed))


def binary(labels, answers):
    return np.asarray(labels), np.eye(2)[answers]


def names_of(kind: Kind) -> list[str]:
    return [name for name in metrics_for(kind, CLASSES[kind]) if name != "loss"]


def world_of(kind: Kind, accuracy: float = 0.9):
    return next(world for world in worlds(accuracy) if world.kind == kind)


def test_a_share_has_jeffreys_interval():
    low, high = jeffreys(17, 20, 0.95)
    assert (low, high) == pytest.approx(tuple(scipy.stats.beta.ppf([0.025, 0.975], 17.5, 3.5)))
    assert intervals(["accuracy"], *binary([1] * 20, [1] * 17 + [0] * 3))["accuracy"] == (low, high)


@pytest.mark.parametrize(("n", "p"), [(100, 0.98), (408, 0.995), (100, 0.02)])
def test_a_share_near_its_best_is_held_as_often_as_promised(n, p):
    """Computed, not drawn. With 2.5 % on each side it is 98.2 to 98.5 %, as no interval lies above the truth there."""
    hits = np.arange(n + 1)
    held = np.array([low <= p <= high for low, high in (jeffreys(k, n, 0.95) for k in hits)])
    assert 0.93 <= scipy.stats.binom.pmf(hits, n, p)[held].sum() <= 0.97


def test_an_average_near_its_best_is_held_as_often_as_promised():
    world = world_of("classification", 0.98)
    truth, held = world.truth(200_000)["f1_macro"], 0
    for seed in range(300):
        low, high = intervals(["f1_macro"], *world.draw(200, np.random.default_rng([7, seed])))["f1_macro"]
        held += low <= truth <= high
    assert 0.93 <= held / 300 <= 0.975


def test_the_interval_of_many_classes_is_that_of_the_whole_matrix(monkeypatch):
    """Beyond 100 classes only cells of the confusion matrix that occur are drawn."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 101, 600)
    answers = np.where(generator.random(600) < 0.8, labels, generator.integers(0, 101, 600))
    names, scores = ["matthews", "f1_weighted", "f1_macro"], np.eye(101)[answers]
    of_cells = intervals(names, labels, scores, samples=200)
    monkeypatch.setattr(classification, "MANY_CLASSES", 101)
    for name, ends in intervals(names, labels, scores, samples=200).items():
        assert of_cells[name] == pytest.approx(ends, abs=0.01), name


@pytest.mark.parametrize(("n", "low"), [(5, 0.62), (10, 0.78), (100, 0.97)])
def test_all_right_reaches_down_as_far_as_the_rows_allow(n, low):
    labels = np.arange(n) % 2
    found = intervals(["accuracy", "f1"], *binary(labels, labels))
    assert found["accuracy"] == (pytest.approx(low, abs=0.01), 1.0)
    assert found["f1"][1] == 1.0
    assert found["f1"][0] < found["accuracy"][0]


def test_a_class_that_neither_occurs_nor_is_answered_has_no_interval():
    found = intervals(["f1", "recall", "accuracy"], *binary([0] * 30, [0] * 30))
    assert found["f1"] is found["recall"] is None
    assert found["accuracy"] is not None


def test_alike_decisions_of_a_row_count_as_fewer_trials():
    right = np.repeat([1.0, 0.0], [45, 5])
    once = share_interval(right, np.ones(50), 0.95)
    assert share_interval(3 * right, np.full(50, 3.0), 0.95) == pytest.approx(once)
    apart = share_interval(np.repeat([3.0, 2.0], [35, 15]), np.full(50, 3.0), 0.95)
    assert apart[1] - apart[0] < once[1] - once[0]


def test_f1_is_a_function_of_a_share():
    """TP 8, FP 1, FN 3: the interval of 8 of 12, put into 2J / (1 + J)."""
    labels, answers = np.repeat([1, 0, 1, 0], [8, 1, 3, 9]), np.repeat([1, 1, 0, 0], [8, 1, 3, 9])
    expected = tuple(2 * share / (1 + share) for share in jeffreys(8, 12, 0.95))
    assert intervals(["f1"], *binary(labels, answers))["f1"] == pytest.approx(expected)
    counts = np.array([8.0]), np.array([11.0]), np.array([9.0])
    assert f1_interval(*counts, 0.95) is not None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [10, 20, 60])
def test_every_interval_is_around_its_value_and_has_a_width(kind: Kind, n: int):
    for seed, accuracy in itertools.product(range(6), (0.6, 0.9, 0.995)):
        labels, scores = world_of(kind, accuracy).draw(n, np.random.default_rng(seed))
        values = compute_metrics(names_of(kind), scored_rows(labels, scores, kind))
        for name, interval in intervals(names_of(kind), labels, scores, kind=kind).items():
            if interval is not None:
                assert interval[0] < interval[1], name
                assert interval[0] - 0.01 <= values[name] <= interval[1] + 0.01, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_level_gives_a_wider_interval(kind: Kind):
    labels, scores = world_of(kind).draw(400, np.random.default_rng(0))
    narrow = intervals(names_of(kind), labels, scores, kind=kind, level=0.5)
    wide = intervals(names_of(kind), labels, scores, kind=kind, level=0.99)
    assert all(wide[name][0] < narrow[name][0] < narrow[name][1] < wide[name][1] for name in wide if name != "ece")
    assert wide["ece"][1] > narrow["ece"][1] if "ece" in wide else True


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_interval_whatever_else_is_asked(kind: Kind):
    labels, scores = world_of(kind).draw(100, np.random.default_rng(0))
    together = intervals(names_of(kind), labels, scores, kind=kind)
    assert {name: intervals([name], labels, scores, kind=kind)[name] for name in together} == together


def test_one_row_says_that_there_are_too_few():
    found = scored_metrics(
        ["accuracy", "f1_macro", "log_loss", "ece", "auroc"],
        scored_rows(np.array([1]), np.array([[0.2, 0.8]]), "classification"),
        Resampling(20),
    )
    assert found["accuracy"].low < 0.5
    assert found["log_loss"] == MetricValue(pytest.approx(-math.log(0.8)), note=TOO_FEW_ROWS)
    assert str(found["f1_macro"]) == "1.000 (too few rows for an interval)"
    assert found["auroc"].note is None  # it is not defined at all


def test_without_samples_there_are_no_intervals_and_no_word_of_them():
    labels, scores = binary([0, 1], [0, 1])
    found = scored_metrics(["accuracy"], scored_rows(labels, scores, "classification"), NO_INTERVALS)
    assert found == {"accuracy": MetricValue(1.0)}


def test_a_mean_that_few_rows_make_has_no_interval():
    values = np.full(100, 0.01)
    values[0] = 5.0
    assert mean_interval(values, 0.95) is None
    even = np.random.default_rng(0).exponential(size=100)
    assert mean_interval(even, 0.95) is not None
    # what was drawn looks even, but the model itself expects rare large losses
    assert mean_interval(even, 0.95, (np.full(100, 1.0), np.full(100, 200.0))) is None


def test_a_constant_or_perfect_prediction_has_no_interval_of_its_correlation():
    labels = np.arange(20.0)
    for predictions in (np.full(20, 0.1), 2 * labels):
        found = intervals(["pearson", "spearman"], labels, predictions, kind="regression")
        assert found == {"pearson": None, "spearman": None}


def test_the_influences_of_average_precision_are_its_derivatives():
    """Interval ends depend on the variance of the rows' influences: it is that of the jackknife."""
    rng = np.random.default_rng(0)
    positive = rng.random(400) < 0.4
    scores = (rng.normal(size=400) + 1.2 * positive).round(1)  # with ties
    left_out = [
        average_precision_score(np.delete(positive, row), np.delete(scores, row)) for row in range(len(positive))
    ]
    variance = 399 / 400 * np.sum((np.array(left_out) - np.mean(left_out)) ** 2)
    low, high = precision_interval([positive], [scores], 0.95)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(variance), rel=0.1)


def test_two_areas_of_the_same_rows_are_not_taken_for_independent():
    rng = np.random.default_rng(1)
    positive = np.arange(100) % 2 == 1
    scores = rng.normal(size=100) + positive
    one = area_interval([positive], [scores], 0.95)
    assert area_interval([positive, positive], [scores, scores], 0.95) == pytest.approx(one)
    other = rng.normal(size=100) + positive
    low, high = area_interval([positive, positive], [scores, other], 0.95)
    assert high - low < 0.9 * (one[1] - one[0])


def test_the_calibration_error_of_a_calibrated_model_may_be_zero_and_that_of_another_not():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, size=400)
    low, _ = calibration_interval(confidence, rng.random(400) < confidence, 0.95, 0)
    assert low == 0.0
    held = 0
    for seed in range(200):  # sure by 0.95, right in 60 %: the true error is 0.35
        found = calibration_interval(np.full(300, 0.95), rng.random(300) < 0.6, 0.95, seed)
        held += found[0] <= 0.35 <= found[1]
    assert 0.90 <= held / 200 <= 0.99  # 95 % expected, standard error 1.5 %


# Of 300 test sets: 0.95 has a standard error of 1.3 %. Discrete scores near their bound are held more often.
COVERAGE = [
    ("classification", 20, 0.9, {"accuracy", "f1", "f1_macro", "matthews", "auroc", "ece"}),
    ("classification", 50, 0.98, {"accuracy", "f1", "f1_macro", "matthews", "precision", "recall", "auroc", "ece"}),
    ("classification", 100, 0.6, {"accuracy", "f1", "f1_macro", "matthews", "auroc", "log_loss", "brier", "ece"}),
    ("multilabel", 60, 0.9, {"accuracy", "hamming_loss", "f1_micro", "f1_macro", "auroc", "log_loss", "brier"}),
    ("multilabel", 100, 0.98, {"accuracy", "hamming_loss", "f1_micro", "f1_macro", "precision_macro"}),
    ("regression", 20, 0.9, {"pearson", "spearman", "mse"}),
]


@pytest.mark.parametrize(("kind", "n", "accuracy", "names"), COVERAGE)
def test_95_percent_intervals_hold_the_truth(kind: Kind, n: int, accuracy: float, names: set[str]):
    world = world_of(kind, accuracy)
    truth, held = world.truth(), {name: [] for name in names}
    for number in range(300):
        labels, scores = world.draw(n, np.random.default_rng([n, number]))
        found = intervals(sorted(names), labels, scores, kind=kind, samples=300, seed=number)
        for name, interval in found.items():
            if interval is not None:
                held[name].append(interval[0] <= truth[name] <= interval[1])
    assert min(map(len, held.values())) > 250
    shares = {name: np.mean(values) for name, values in held.items()}
    assert min(shares.values()) >= 0.915, shares


def test_a_simulated_cell_is_judged_by_what_was_promised_and_by_its_own_error() -> None:
    found = {"truth": 0.9, "given": 2000.0, "width": 0.1, "earlier_width": 0.1}
    metrics = {
        "fine": found | {"above": 60.0, "below": 40.0},
        "low": found | {"above": 200.0, "below": 40.0},
        "perhaps": found | {"above": 150.0},  # 92.5 %, standard error 0.6
        "wide": found | {"below": 10.0},
        "none": found | {"given": 40.0},
    }
    line = {"world": "five", "accuracy": 0.9, "rows": 50, "sets": 2000, "metrics": metrics}
    verdicts = {cell.metric: cell.verdict for cell in cells_of([line])}
    assert verdicts == {"fine": "held", "low": "low", "perhaps": "low?", "wide": "high", "none": "no interval"}
    assert next(cells_of([line | {"rows": 20}])).verdict == "held"
    assert "| fine | 50 | 95.0 (0.100, was 0.100) |" in tables([line])


@pytest.mark.parametrize(("rows", "possible"), [(100, False), (408, True)])
def test_where_scores_come_in_steps_no_interval_may_be_as_promised(rows, possible):
    """Accuracy 0.995 on 100 rows: at most one error in 91.0 % of all test sets, at most two in 98.6 %."""
    line = {"world": "two balanced", "accuracy": 0.995, "rows": rows, "sets": 1}
    metrics = {"accuracy": {"width": 0, "earlier_width": 0}}
    assert can_be_held(list(cells_of([line | {"metrics": metrics}])), sets=1000) == [possible]


def test_the_coverage_simulation_counts_intervals_on_either_side() -> None:
    world = world_of("classification")
    names = {"accuracy": 0.9, "f1_macro": 0.9, "log_loss": 2.0}  # the true log loss is 0.23
    found = coverage(world, names, 50, sets=20, samples=100, seed=0)
    assert found["accuracy"]["given"] == 20
    assert found["accuracy"].get("above", 0) + found["accuracy"].get("below", 0) <= 6
    assert found["log_loss"]["below"] == found["log_loss"]["given"] > 10
    assert 0.05 < found["f1_macro"]["width"] < 0.3
