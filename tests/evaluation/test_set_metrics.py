"""Metrics of several labels a row against scikit-learn, and what is made of them."""

import math

import numpy as np
import pytest
import sklearn.metrics as reference

from finetune_cli.errors import ConfigError, DataError
from finetune_cli.evaluation.comparison import compare_predictions, mcnemar
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.kinds.multilabel import sigmoid
from finetune_cli.evaluation.metrics import compute_metrics, majority_baseline
from finetune_cli.evaluation.scored_rows import scored_rows
from finetune_cli.evaluation.scoring import ScoringRules, predictions, score_split
from finetune_cli.evaluation.uncertainty import bootstrap_values
from finetune_cli.records.resampling import Resampling
from finetune_cli.tasks import METRICS, metrics_for

# float64 sums in another order: the largest difference seen is 4e-15
CLOSE = {"rel": 1e-12, "abs": 1e-12}
ALL = [name for name in metrics_for("multilabel") if name != "loss"]


def random_sets(seed: int, num_rows: int, num_classes: int, decimals: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Labels of several rows and probabilities that know something of them; few decimals make ties."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((num_rows, num_classes)) < 0.3).astype(np.int8)
    logits = rng.normal(size=labels.shape) + 1.5 * labels - 1
    return labels, sigmoid(np.round(logits, decimals))


def by_scikit_learn(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    chosen = (p >= 0.5).astype(int)
    expected = {
        f"{name}_{average}": metric(y, chosen, average=average, zero_division=0)
        for name, metric in (("f1", reference.f1_score), ("precision", reference.precision_score))
        for average in ("micro", "macro")
    }
    columns = range(y.shape[1])
    return expected | {
        "recall_micro": reference.recall_score(y, chosen, average="micro", zero_division=0),
        "recall_macro": reference.recall_score(y, chosen, average="macro", zero_division=0),
        "f1_weighted": reference.f1_score(y, chosen, average="weighted", zero_division=0),
        "accuracy": reference.accuracy_score(y, chosen),
        "hamming_loss": reference.hamming_loss(y, chosen),
        "auroc": reference.roc_auc_score(y, p, average="macro"),
        "average_precision": reference.average_precision_score(y, p, average="macro"),
        "log_loss": np.mean([reference.log_loss(y[:, c], p[:, c]) for c in columns]),
        "brier": np.mean([reference.brier_score_loss(y[:, c], p[:, c]) for c in columns]),
    }


@pytest.mark.parametrize(("seed", "decimals"), [(0, 8), (1, 1), (2, 0)])
@pytest.mark.parametrize("num_classes", [2, 7])
def test_metrics_equal_scikit_learn(seed: int, decimals: int, num_classes: int) -> None:
    labels, scores = random_sets(seed, 300, num_classes, decimals)
    found = compute_metrics(ALL, scored_rows(labels, scores, "multilabel"))
    assert {name: value for name, value in found.items() if name != "ece"} == pytest.approx(
        by_scikit_learn(labels, scores), **CLOSE
    )


def test_classes_without_rows_count_as_0_as_in_scikit_learn() -> None:
    labels, scores = np.array([[1, 0, 0], [1, 1, 0]]), np.array([[0.9, 0.6, 0.1], [0.2, 0.5, 0.1]])
    names = ["f1_macro", "precision_macro", "recall_macro", "f1_weighted", "auroc", "average_precision"]
    found = compute_metrics(names, scored_rows(labels, scores, "multilabel"))
    chosen = scores >= 0.5
    assert found["f1_macro"] == pytest.approx(reference.f1_score(labels, chosen, average="macro", zero_division=0))
    assert found["f1_macro"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert math.isnan(found["auroc"])
    assert math.isnan(found["average_precision"])


def test_the_calibration_error_by_hand() -> None:
    """Two bins are filled: probability 0.9 where all are right, 0.2 where half of the four are."""
    labels = np.array([[1, 1, 0], [1, 0, 1]])
    scores = np.array([[0.9, 0.2, 0.2], [0.9, 0.2, 0.2]])
    found = compute_metrics(["ece"], scored_rows(labels, scores, "multilabel"))["ece"]
    assert found == pytest.approx((2 * 0.1 + 4 * 0.3) / 6)


def test_a_resample_is_scored_as_its_rows_would_be() -> None:
    """Every metric of the weighted form, on rows drawn twice, once or never, equals that of the repeated rows."""
    labels, scores = random_sets(3, 60, 3)
    sets = [scored_rows(labels, of_set, "multilabel") for of_set in (scores, scores[:, ::-1])]
    values = bootstrap_values(ALL, sets, Resampling(300, seed=5))
    generator = np.random.default_rng([5, 1])
    rows = generator.integers(60, size=60)  # the first resample of the metrics by row
    drawn = compute_metrics(ALL, scored_rows(labels[rows], scores[rows], "multilabel"))
    for name in ("auroc", "average_precision", "log_loss", "brier", "ece"):
        assert values[name][0, 0] == pytest.approx(drawn[name], **CLOSE)
    point = compute_metrics(ALL, scored_rows(labels, scores, "multilabel"))
    # the spread of the resampled exact match is that of a share of 60 rows
    share = point["accuracy"]
    assert values["accuracy"][0].std() == pytest.approx(math.sqrt(share * (1 - share) / 60), rel=0.15)


def test_the_baseline_is_the_commonest_set_with_the_frequencies_as_probabilities() -> None:
    train = np.array([[1, 0], [1, 0], [0, 1], [0, 0]])
    labels = np.array([[1, 0], [0, 1]])
    found = majority_baseline(["accuracy", "brier", "f1_micro"], train_labels=train, labels=labels, kind="multilabel")
    brier = np.mean((np.array([0.5, 0.25]) - labels) ** 2)
    assert found == {"accuracy": 0.5, "brier": pytest.approx(brier), "f1_micro": 0.5}


def test_a_report_and_predictions_of_several_labels() -> None:
    logits = np.array([[2.0, -1.0, 0.0], [-1.0, -1.0, -1.0], [-3.0, 1.0, -2.0]], np.float32)
    labels = np.array([[1, 0, 1], [0, 1, 0], [0, 1, 0]], np.int8)
    rules = ScoringRules("multilabel", ("a", "b", "c"), ("accuracy", "f1_micro"), Resampling(50))
    report = score_split("validation", logits, labels, rules, train_labels=labels)
    assert report.metrics["accuracy"].value == pytest.approx(2 / 3)
    assert report.metrics["f1_micro"].value == pytest.approx(6 / 7)
    assert [(one.label, one.recall, one.support) for one in report.per_class] == [
        ("a", 1, 1),
        ("b", 0.5, 2),
        ("c", 1, 1),
    ]
    assert (report.confusion, report.collapsed, report.baseline_answer) == ([], None, "the commonest set of labels")
    rows = list(predictions(range(3), logits, label_names=("a", "b", "c"), kind="multilabel", labels=labels))
    assert [row["prediction"] for row in rows] == [["a", "c"], [], ["b"]]
    assert [row["label"] for row in rows] == [["a", "c"], ["b"], ["b"]]
    assert rows[0]["probabilities"] == pytest.approx({"a": 1 / (1 + math.exp(-2)), "b": 1 / (1 + math.e), "c": 0.5})


def test_one_answer_for_all_rows_is_a_collapsed_model() -> None:
    rules = ScoringRules("multilabel", ("a", "b"), ("accuracy",))
    labels = np.array([[1, 0], [0, 1]])
    nothing, both = np.full((2, 2), -1.0), np.ones((2, 2))
    assert score_split("x", nothing, labels, rules, train_labels=labels).collapsed == "no label"
    assert score_split("x", both, labels, rules, train_labels=labels).collapsed == "a, b"
    assert score_split("x", both, labels[:1].repeat(2, axis=0), rules, train_labels=labels).collapsed is None


def test_the_loss_is_the_mean_of_log_losses_and_does_not_overflow() -> None:
    labels, scores = random_sets(4, 50, 3)
    logits = np.log(scores / (1 - scores))
    expected = compute_metrics(["log_loss"], scored_rows(labels, scores, "multilabel"))["log_loss"]
    assert KINDS["multilabel"].loss(logits, labels) == pytest.approx(expected)
    assert KINDS["multilabel"].loss(np.array([[1e4, -1e4]]), np.array([[0, 1]])) == pytest.approx(1e4)


def test_mcnemar_is_about_rows_that_are_right_altogether() -> None:
    labels, a = random_sets(5, 200, 3)
    b = a.copy()
    b[:40] = 1 - labels[:40]  # all wrong there
    sides = [scored_rows(labels, scores, "multilabel") for scores in (a, b)]
    found = compare_predictions(["accuracy", "f1_macro"], *sides, Resampling(200))
    right = [((scores >= 0.5) == labels).all(axis=1) for scores in (a, b)]
    assert found["accuracy"].p_value == mcnemar(*right).p_value < 0.01
    assert found["accuracy"].difference == pytest.approx(right[1].mean() - right[0].mean())
    assert found["f1_macro"].difference < 0


def test_what_does_not_fit_is_refused() -> None:
    labels, scores = random_sets(6, 10, 2)
    for name in ("f1", "matthews"):
        with pytest.raises(ConfigError, match=f"metric '{name}': not one for multilabel"):
            compute_metrics([name], scored_rows(labels, scores, "multilabel"))
    with pytest.raises(DataError, match="0 or 1 for each class expected"):
        compute_metrics(["accuracy"], scored_rows(labels * 2, scores, "multilabel"))
    with pytest.raises(ValueError, match="do not belong together"):
        compute_metrics(["accuracy"], scored_rows(labels[:, 0], scores, "multilabel"))


def test_every_metric_of_the_table_is_computed() -> None:
    labels, scores = random_sets(7, 100, 4)
    assert set(compute_metrics(ALL, scored_rows(labels, scores, "multilabel"))) == set(ALL)
    assert not METRICS["hamming_loss"].greater_is_better
