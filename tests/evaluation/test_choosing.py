"""The price of choosing the best of several models on the rows that score them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from finetune_cli.evaluation.candidates import MAX_SCORES, compact, expand
from finetune_cli.evaluation.choosing import Candidate, moved_interval, price_of_choosing
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.evaluation.scored_rows import scored_rows
from finetune_cli.tasks import METRICS, Kind, metrics_for
from scripts.simulations.choosing import Setting, simulate

ROWS = 120


def models(kind: Kind, count: int, *, rows: int = ROWS, num_classes: int = 2, seed: int = 0) -> tuple[Any, list[Any]]:
    """Labels, and the logits (rows, C) of models that are equally good: the signal is the same, the noise differs."""
    generator = np.random.default_rng(seed)
    if kind == "regression":
        labels = generator.normal(size=rows)
        return labels, [(labels + generator.normal(size=rows))[:, None] for _ in range(count)]
    shape = (rows, num_classes)
    labels = generator.integers(0, 2, shape) if kind == "multilabel" else generator.integers(0, num_classes, rows)
    signal = 2 * labels - 1 if kind == "multilabel" else np.eye(num_classes)[labels]
    return labels, [signal + generator.normal(size=shape) for _ in range(count)]


def prices(
    kind: Kind, names: list[str], decider: str, labels: Any, logits: list[Any], **options: Any
) -> dict[str, float]:
    num_classes = 0 if kind == "regression" else logits[0].shape[1]
    kept = [expand(compact(one, names, kind), len(labels), num_classes, kind) for one in logits]
    scores = [compute_metrics([decider], scored_rows(labels, KINDS[kind].scores(one), kind))[decider] for one in logits]
    sign = 1 if METRICS[decider].greater_is_better else -1
    settings: dict[str, Any] = {
        "num_candidates": len(kept),
        "kept": int(np.argmax(sign * np.array(scores))),
        "labels": labels,
        "kind": kind,
        "num_classes": num_classes,
        "seed": 1,
    }
    return price_of_choosing(names, decider, kept, **{**settings, **options})


KINDS_AND_METRICS = [
    (kind, classes, name)
    for kind, classes in (("classification", 2), ("classification", 4), ("multilabel", 3), ("regression", 1))
    for name in metrics_for(kind, classes)
    if name != "loss"
]


@pytest.mark.parametrize(("kind", "classes", "name"), KINDS_AND_METRICS)
def test_a_chosen_score_is_corrected_to_the_worse_in_every_metric(kind: Kind, classes: int, name: str) -> None:
    labels, logits = models(kind, 6, num_classes=classes)
    found = prices(kind, [name], name, labels, logits)[name]
    assert found < 0 if METRICS[name].greater_is_better else found > 0
    assert abs(found) < 0.3


@pytest.mark.parametrize(("kind", "name"), [("classification", "f1"), ("classification", "ece"), ("regression", "mse")])
def test_nothing_was_chosen_where_there_is_one_model_or_all_are_the_same(kind: Kind, name: str) -> None:
    labels, logits = models(kind, 1)
    assert prices(kind, [name], name, labels, logits) == {name: 0.0}
    assert prices(kind, [name], name, labels, logits * 3)[name] == pytest.approx(0.0, abs=1e-12)


def test_a_model_that_is_better_beyond_doubt_costs_nothing() -> None:
    labels, logits = models("classification", 1)
    hopeless = [np.random.default_rng(number).normal(size=(ROWS, 2)) for number in range(5)]
    assert prices("classification", ["accuracy"], "accuracy", labels, [3 * logits[0] + np.eye(2)[labels], *hopeless])[
        "accuracy"
    ] == pytest.approx(0.0, abs=0.003)


def test_the_same_seed_gives_the_same_price_whatever_else_is_asked_for() -> None:
    labels, logits = models("classification", 4)
    alone = prices("classification", ["f1"], "f1", labels, logits)
    together = prices("classification", ["accuracy", "f1", "log_loss"], "f1", labels, logits)
    assert alone["f1"] == pytest.approx(together["f1"])
    assert prices("classification", ["f1"], "f1", labels, logits, seed=2)["f1"] != alone["f1"]


def test_a_metric_that_did_not_choose_is_judged_by_its_errors_not_by_the_level_of_the_other_models() -> None:
    """Two models that give every row one class: F1 is 0 for the one and 0.68 for the other, and the choice between
    them, by an accuracy of about a half, says nothing of that."""
    labels = np.array([0, 1] * 45 + [1] * 3)
    always = [np.tile(row, (len(labels), 1)) for row in ([1.0, 0.0], [0.0, 1.0])]
    found = prices("classification", ["accuracy", "f1"], "accuracy", labels, always)
    assert -0.1 < found["accuracy"] < 0
    assert -0.1 < found["f1"] < 0


@pytest.mark.parametrize("rows", [2, 3, 10])
def test_few_rows_end_in_a_number_or_in_none(rows: int) -> None:
    labels, logits = models("classification", 3, rows=rows)
    names = ["accuracy", "f1", "matthews", "auroc", "log_loss"]
    assert all(np.isfinite(value) for value in prices("classification", names, "accuracy", labels, logits).values())


def test_what_cannot_be_scored_again_is_left_out() -> None:
    labels, logits = models("classification", 3)
    kept = [Candidate(one.argmax(axis=1), None) for one in logits]
    found = prices("classification", ["accuracy", "auroc"], "accuracy", labels, logits)
    assert set(found) == {"accuracy", "auroc"}
    without = price_of_choosing(
        ["accuracy", "auroc", "evaluate:./mine"],
        "accuracy",
        kept,
        num_candidates=3,
        kept=0,
        labels=labels,
        kind="classification",
        num_classes=2,
        seed=1,
    )
    assert set(without) == {"accuracy"}


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression"])
def test_what_is_kept_scores_as_the_model_did(kind: Kind) -> None:
    _, (logits,) = models(kind, 1, num_classes=3)
    logits = logits.astype(np.float32)
    names = [name for name in metrics_for(kind, 3) if name != "loss"]
    found = expand(compact(logits, names, kind), ROWS, 3, kind)
    assert np.array_equal(found.scores, KINDS[kind].scores(logits))
    if kind != "regression":
        assert np.array_equal(found.answers, KINDS[kind].answers(KINDS[kind].scores(logits)))


@pytest.mark.parametrize(("kind", "classes"), [("classification", 2), ("classification", 400), ("multilabel", 40)])
def test_what_is_kept_of_100000_rows_is_bounded(kind: Kind, classes: int) -> None:
    logits = np.zeros((100_000, classes), np.float32)
    kept = compact(logits, ["accuracy", "log_loss"], kind)
    assert kept["answers"].nbytes <= 2 * 100_000 if kind == "classification" else classes * 100_000 / 8
    assert kept["logits"].nbytes <= 4 * MAX_SCORES
    assert set(compact(logits[:9], ["accuracy"], kind)) == {"answers"}  # no scores where nothing looks at them


def test_thinned_scores_go_with_their_labels() -> None:
    logits = np.random.default_rng(0).normal(size=(MAX_SCORES, 2)).astype(np.float32)
    found = expand(compact(logits, ["log_loss"], "classification"), MAX_SCORES, 2, "classification")
    assert found.step == 2
    assert found.scores is not None
    assert np.array_equal(found.scores, KINDS["classification"].scores(logits[::2]))


@pytest.mark.parametrize(
    ("moved", "span", "expected"),
    [
        (0.80, (0.0, 1.0), (0.7610, 0.8371)),  # wider than around 0.9: 0.4 / 0.3 times
        (0.90, (0.0, 1.0), (0.87, 0.927)),  # not moved: as it was
        (0.80, None, (0.7733, 0.824)),  # in proportion
    ],
)
def test_an_interval_moves_with_its_score(moved: float, span: Any, expected: tuple[float, float]) -> None:
    assert moved_interval(0.9, 0.87, 0.927, moved, span) == pytest.approx(expected, abs=2e-4)


def test_rows_that_are_all_right_rule_out_no_score_after_a_choice_either() -> None:
    assert moved_interval(1.0, 0.621, 1.0, 0.925, (0.0, 1.0)) == (pytest.approx(0.347, abs=0.01), 1.0)
    assert moved_interval(0.0, 0.0, 0.4, 0.1, (0.0, 1.0))[0] == 0.0


@pytest.mark.parametrize(("rows", "count"), [(6, 2), (182, 2), (182, 6)])
def test_a_choice_is_never_worth_less_than_the_worst_candidate(rows: int, count: int) -> None:
    """Errors of two that answer always yes and always no have nothing in common: chosen on a resample, each is the
    worse on the rows that were left out."""
    labels = np.arange(rows) % 2
    labels[0] = 1  # always yes is right on one row more than half
    logits = [np.tile([-1.0, 1.0] if number % 2 else [1.0, -1.0], (rows, 1)) for number in range(count)]
    best, worst = (rows // 2 + 1) / rows, (rows // 2 - 1) / rows
    corrected = best + prices("classification", ["accuracy"], "accuracy", labels, logits)["accuracy"]
    assert worst <= corrected + 1e-12 <= best


def test_a_moved_interval_stays_between_the_bounds_and_holds_its_score() -> None:
    low, high = moved_interval(1.0, 0.97, 1.0, 0.99, (0.0, 1.0))
    assert 0.9 < low < 0.99 <= high <= 1.0
    low, high = moved_interval(0.02, 0.0, 0.05, 0.01, (-1.0, 1.0))
    assert low < 0.01 < high


def test_the_corrected_score_is_right_on_average_and_its_interval_holds() -> None:
    """The simulation of scripts/simulations/choosing.py, small: the score as it is, is 2.7 points too high."""
    found = simulate(Setting(candidates=10, rows=182, rho=0.8, truth="equal"), 80, samples=200)
    assert found.bias > 1.8
    assert abs(found.corrected_bias) < 1.0  # 80 trainings: a standard error of 0.25 points
    assert found.corrected_coverage > 0.88 > found.coverage
