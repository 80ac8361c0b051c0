"""Metrics against scikit-learn and SciPy, on random rows, on edges, and on rows worked by hand."""

import math
import re
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_cli.errors import ConfigError, DataError, MissingError, RunFailedError
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.kinds.classification import softmax
from finetune_cli.evaluation.metrics import compute_metrics, majority_baseline
from finetune_cli.evaluation.scored_rows import scored_rows
from finetune_cli.records.evaluation import ClassScore
from finetune_cli.tasks import METRICS

ROOT = Path(__file__).resolve().parents[2]

# float64 sums in another order: the largest difference seen is 4e-15
CLOSE = {"rel": 1e-12, "abs": 1e-12}

BY_PREDICTION = {
    "accuracy": reference.accuracy_score,
    "f1": lambda y, p: reference.f1_score(y, p, zero_division=0),
    "precision": lambda y, p: reference.precision_score(y, p, zero_division=0),
    "recall": lambda y, p: reference.recall_score(y, p, zero_division=0),
    "f1_macro": lambda y, p: reference.f1_score(y, p, average="macro", zero_division=0),
    "f1_micro": lambda y, p: reference.f1_score(y, p, average="micro", zero_division=0),
    "f1_weighted": lambda y, p: reference.f1_score(y, p, average="weighted", zero_division=0),
    "precision_macro": lambda y, p: reference.precision_score(y, p, average="macro", zero_division=0),
    "recall_macro": lambda y, p: reference.recall_score(y, p, average="macro", zero_division=0),
    "matthews": reference.matthews_corrcoef,
}
FOR_TWO_CLASSES = ("f1", "precision", "recall")


def classify(names, labels, scores):
    return compute_metrics(names, scored_rows(np.array(labels), np.array(scores), "classification"))


def regress(names, labels, scores):
    return compute_metrics(names, scored_rows(np.array(labels), np.array(scores), "regression"))


def random_rows(seed, num_rows, num_classes=2, decimals=8):
    """Labels and probabilities that know something of them; few decimals make ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_rows)
    logits = rng.normal(size=(num_rows, num_classes)) + 1.5 * np.eye(num_classes)[labels]
    return labels, softmax(np.round(logits, decimals))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 5))
def test_metrics_of_predictions_equal_scikit_learn(seed, num_rows, num_classes):
    labels, scores = random_rows(seed, num_rows, num_classes)
    names = [name for name in BY_PREDICTION if num_classes == 2 or name not in FOR_TWO_CLASSES]
    found = classify(names, labels, scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's remarks on a single class
        expected = {name: BY_PREDICTION[name](labels, scores.argmax(axis=1)) for name in names}
    assert found == pytest.approx(expected, **CLOSE)


@pytest.mark.parametrize(("seed", "decimals"), [(0, 8), (1, 1), (2, 0)])
@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_metrics_of_probabilities_equal_scikit_learn(seed, decimals, num_classes):
    labels, scores = random_rows(seed, 300, num_classes, decimals)
    one_sided = scores[:, 1] if num_classes == 2 else scores
    assert classify(["auroc", "log_loss", "brier"], labels, scores) == pytest.approx(
        {
            "auroc": reference.roc_auc_score(labels, one_sided, multi_class="ovr"),
            "log_loss": reference.log_loss(labels, scores),
            "brier": reference.brier_score_loss(labels, one_sided),
        },
        **CLOSE,
    )


def test_log_loss_of_a_certain_error_is_clipped_as_in_scikit_learn():
    labels, scores = [0, 1], [[0.0, 1.0], [0.5, 0.5]]
    found = classify(["log_loss"], labels, scores)["log_loss"]
    assert found == pytest.approx(reference.log_loss(labels, scores), **CLOSE)
    assert 18 < found < 19  # (36.04 + 0.69) / 2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=30))
def test_correlations_with_ties_equal_scipy(pairs):
    labels, predictions = np.array(pairs, dtype=float).T
    found = regress(["pearson", "spearman"], labels, predictions)
    if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
        assert all(math.isnan(value) for value in found.values())
    else:
        expected = {
            "pearson": scipy.stats.pearsonr(labels, predictions)[0],
            "spearman": scipy.stats.spearmanr(labels, predictions)[0],
        }
        assert found == pytest.approx(expected, **CLOSE)


@pytest.mark.parametrize(("shift", "scale"), [(0, 1), (1e6, 1), (0, 1e150), (0, 1e-150)])
def test_correlation_and_error_hold_for_far_and_large_numbers(shift, scale):
    rng = np.random.default_rng(3)
    labels = rng.normal(size=500)
    predictions = labels + rng.normal(size=500)
    found = regress(["pearson", "spearman"], shift + scale * labels, shift + scale * predictions)
    # 1e-9: at 1e6 the numbers themselves have lost six digits
    assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(labels, predictions)[0], abs=1e-9)
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(labels, predictions)[0], abs=1e-9)


def test_mse_by_hand():
    assert regress(["mse"], [1.0, 2.0, 3.0], [1.0, 4.0, 0.0])["mse"] == pytest.approx((0 + 4 + 9) / 3)


def test_a_correlation_of_a_constant_or_of_one_row_is_nan():
    assert math.isnan(regress(["pearson"], [0.1, 0.1, 0.1], [1.0, 2.0, 3.0])["pearson"])
    assert math.isnan(regress(["spearman"], [1.0, 2.0, 3.0], [0.7, 0.7, 0.7])["spearman"])
    assert math.isnan(regress(["pearson"], [1.0], [1.0])["pearson"])


def test_auroc_is_nan_unless_every_class_occurs():
    assert math.isnan(classify(["auroc"], [1, 1], [[0.3, 0.7], [0.6, 0.4]])["auroc"])
    three = softmax(np.eye(3)[[0, 1, 1]])
    assert math.isnan(classify(["auroc"], [0, 1, 1], three)["auroc"])


def test_auroc_counts_ties_half():
    # positives 0.5, 0.8; negatives 0.5, 0.1: of four pairs three are right and one is a tie
    scores = [[0.5, 0.5], [0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]
    assert classify(["auroc"], [1, 1, 0, 0], scores)["auroc"] == 3.5 / 4


def test_matthews_by_hand():
    # tp 2, tn 1, fp 1, fn 1: (2*1 - 1*1) / sqrt(3 * 3 * 2 * 2)
    scores = np.eye(2)[[1, 1, 0, 1, 0]]
    assert classify(["matthews"], [1, 1, 1, 0, 0], scores)["matthews"] == pytest.approx(1 / 6)


def test_ece_by_hand():
    # bins of 1/15: 0.9 and 0.91 share (13/15, 14/15], one of them right; 0.6 is the upper edge of (8/15, 9/15]
    scores = [[0.1, 0.9], [0.09, 0.91], [0.6, 0.4]]
    gap_high, gap_edge = abs(1 - 1.81), abs(1 - 0.6)
    assert classify(["ece"], [1, 0, 0], scores)["ece"] == pytest.approx((gap_high + gap_edge) / 3)


def test_ece_of_sure_and_right_is_zero():
    assert classify(["ece"], [1, 0], [[0.0, 1.0], [1.0, 0.0]])["ece"] == 0.0


def test_equal_probabilities_predict_the_first_class():
    assert classify(["accuracy"], [0, 1], [[0.5, 0.5], [0.5, 0.5]])["accuracy"] == 0.5


def test_softmax_neither_overflows_nor_loses_precision_of_half_floats():
    probabilities = softmax(np.array([[1000.0, 999.0], [-1000.0, 0.0]], dtype=np.float16))
    assert probabilities.dtype == np.float64
    assert probabilities[0] == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e)])
    assert probabilities.sum(axis=1) == pytest.approx([1, 1])


def test_every_metric_of_the_task_table_is_computed():
    labels, scores = random_rows(0, 20, 2)
    names = [name for name, spec in METRICS.items() if "classification" in spec.kinds and name != "loss"]
    assert set(classify(names, labels, scores)) == set(names)
    names = [name for name, spec in METRICS.items() if "regression" in spec.kinds and name != "loss"]
    assert set(regress(names, labels, scores[:, 0])) == set(names)


def test_the_same_metrics_are_kept_for_two_classes_here_and_in_the_task_table():
    assert {name for name, spec in METRICS.items() if spec.binary_only} == set(FOR_TWO_CLASSES)


@pytest.mark.parametrize("name", FOR_TWO_CLASSES)
def test_a_metric_of_two_classes_is_refused_for_three(name):
    with pytest.raises(ConfigError, match=f"{name}_macro"):
        classify([name], *random_rows(0, 9, 3))


def test_an_unknown_metric_is_refused_with_the_possible_ones():
    with pytest.raises(ConfigError, match="pearson, spearman, mse"):
        regress(["accuracy"], [1.0], [1.0])


def test_scores_that_are_not_finite_are_refused_with_their_rows():
    scores = np.full((9, 2), 0.5)
    scores[[2, 5, 6, 7, 8, 1], 0] = [np.nan, np.inf, np.nan, np.nan, np.nan, -np.inf]
    with pytest.raises(RunFailedError, match=r"6 of 9 rows \(counted from 0: 1, 2, 5, 6, 7, \.\.\.\)"):
        classify(["accuracy"], np.zeros(9, dtype=int), scores)


def test_rows_without_label_are_refused():
    with pytest.raises(DataError, match=r"1 of 2 rows \(counted from 0: 1\).*-1 found, one of 0\.\.1 expected"):
        classify(["accuracy"], [0, -1], [[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(DataError, match="a finite number expected"):
        regress(["mse"], [np.nan], [1.0])


def test_no_rows_are_refused():
    with pytest.raises(DataError, match="no rows to score"):
        classify(["accuracy"], np.zeros(0, dtype=int), np.zeros((0, 2)))


def test_confusion_matrix_and_per_class_report_equal_scikit_learn():
    labels, scores = random_rows(4, 200, 4)
    predictions = scores.argmax(axis=1)
    task = KINDS["classification"]
    assert task.confusion(labels, predictions, 4) == reference.confusion_matrix(labels, predictions).tolist()
    expected = reference.classification_report(labels, predictions, output_dict=True)
    for found in task.per_class(labels, predictions, "0123"):
        wanted = {key.replace("f1-score", "f1"): value for key, value in expected[found.label].items()}
        assert {key: getattr(found, key) for key in wanted} == pytest.approx(wanted, **CLOSE)


def test_a_class_without_rows_has_a_line_of_zeros():
    report = KINDS["classification"].per_class(np.array([0, 1]), np.array([0, 1]), ["a", "b", "c"])
    assert report[2] == ClassScore("c", 0.0, 0.0, 0.0, 0)


def test_majority_baseline_predicts_the_most_frequent_training_class():
    found = majority_baseline(
        ["accuracy", "f1", "log_loss", "auroc"],
        train_labels=np.array([1, 1, 1, 0]),
        labels=np.array([1, 0]),
        kind="classification",
        num_classes=2,
    )
    # always class 1: one of two right, precision 1/2 and recall 1; probability 3/4 for it
    expected = {"accuracy": 0.5, "f1": 2 / 3, "log_loss": -(math.log(0.75) + math.log(0.25)) / 2, "auroc": 0.5}
    assert found == pytest.approx(expected)


def test_baseline_of_a_regression_is_the_training_mean():
    found = majority_baseline(
        ["mse"], train_labels=np.array([1.0, 3.0]), labels=np.array([0.0, 4.0]), kind="regression"
    )
    assert found["mse"] == 4.0


def test_only_one_predicted_class_among_several_labels_is_a_collapse():
    collapsed = KINDS["classification"].collapsed
    assert collapsed(np.array([0, 1, 1]), np.array([1, 1, 1]), ["a", "b"]) == "b"
    assert collapsed(np.array([0, 1, 1]), np.array([1, 0, 1]), ["a", "b"]) is None
    assert collapsed(np.array([1, 1]), np.array([1, 1]), ["a", "b"]) is None


LOCAL_METRIC = """
import datasets
import evaluate


class Agreement(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references):
        right = [p == r for p, r in zip(predictions, references)]
        return RESULT
"""


def write_metric(folder, result):
    folder.mkdir()
    (folder / f"{folder.name}.py").write_text(LOCAL_METRIC.replace("RESULT", result))
    return f"evaluate:{folder}"


@pytest.fixture(scope="module")
def evaluate_library(tmp_path_factory):
    """The library, offline and with its cache in a folder of this module; it takes that folder from the first load."""
    import evaluate as library

    cache = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library.config, "HF_MODULES_CACHE", str(cache / "modules"))
        patch.setattr(library.config, "HF_METRICS_CACHE", str(cache / "metrics"))
        patch.setattr(library.config, "HF_EVALUATE_OFFLINE", True)
        yield library


def test_a_local_metric_of_the_evaluate_library_is_computed_by_its_folder(tmp_path, evaluate_library):
    name = write_metric(tmp_path / "agreement", '{"agreement": sum(right) / len(right), "other": 0}')
    labels, scores = random_rows(0, 30, 2)
    found = classify([name, "accuracy"], labels, scores)
    assert found[name] == found["accuracy"]


def test_a_library_metric_without_one_number_is_refused(tmp_path, evaluate_library):
    name = write_metric(tmp_path / "two_numbers", '{"one": 1, "two": 2}')
    with pytest.raises(ConfigError, match=r"one number.*'one', 'two'"):
        classify([name], [0], [[0.5, 0.5]])


def test_a_library_metric_that_cannot_be_fetched_is_missing(evaluate_library):
    with pytest.raises(MissingError, match="could not be fetched"):
        classify(["evaluate:./no_such_metric"], [0], [[0.5, 0.5]])


def test_a_library_metric_whose_own_library_is_not_installed_is_missing(tmp_path, evaluate_library):
    """As many metrics of the Hub need scikit-learn."""
    name = write_metric(tmp_path / "needs_more", "0")
    script = tmp_path / "needs_more" / "needs_more.py"
    script.write_text("import no_such_library\n" + script.read_text())
    with pytest.raises(MissingError, match="no_such_library"):
        classify([name], [0], [[0.5, 0.5]])


def test_the_evaluate_library_comes_with_a_plain_install():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(re.match(r"evaluate\b", line) for line in project["dependencies"])
    assert "evaluate" not in project["optional-dependencies"]
