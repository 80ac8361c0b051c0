"""Temperature and threshold against SciPy and brute force, and the file that holds them."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax

from finetune_cli.errors import ConfigError, DataError, MissingError, RunFailedError
from finetune_cli.evaluation.confusion import CONFUSION_METRICS
from finetune_cli.evaluation.decision import (
    answers_of,
    calibrated,
    cross_validate,
    fit_rule,
    fit_temperature,
)
from finetune_cli.evaluation.kinds.multilabel import OF_ONE_CLASS
from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.evaluation.scored_rows import scored_rows
from finetune_cli.evaluation.scoring import ScoringRules, decision_effect, predictions, score_answered, score_split
from finetune_cli.evaluation.thresholds import fit_threshold
from finetune_cli.records.decision_rule import DECISION_FILE, THRESHOLD_METRICS, DecisionRule, read_rule
from finetune_cli.records.evaluation import EvalReport
from finetune_cli.records.resampling import Resampling
from finetune_cli.runs.decisions import FitRequest, parse_fit, require_possible, store_rule
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.target import ModelTask, Target

NAMES = ("no", "yes")
ONE, SEVERAL = "classification", "multilabel"
RULE = DecisionRule(2.0, {"yes": 0.3}, "f1", "validation", 4)


def overconfident(rows: int, num_classes: int, *, factor: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `factor` times too large, with labels drawn from the right ones."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1.5, (rows, num_classes))
    labels = (softmax(logits, axis=1).cumsum(axis=1) < generator.random((rows, 1))).sum(axis=1)
    return factor * logits, labels


@pytest.mark.parametrize("num_classes", [2, 7])
@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_the_temperature_is_the_minimum_that_scipy_finds(num_classes: int, factor: float) -> None:
    logits, labels = overconfident(300, num_classes, factor=factor, seed=num_classes)

    def log_loss(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[np.arange(300), labels].mean()

    found = minimize_scalar(log_loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-9})
    assert fit_temperature(logits, labels, ONE) == pytest.approx(np.exp(found.x), rel=1e-6)


def test_calibration_is_better_on_new_rows() -> None:
    """Logits three times too large: T is near 3, and ECE and log loss of other rows fall."""
    temperature = fit_temperature(*overconfident(2000, 3, factor=3.0, seed=1), ONE)
    assert temperature == pytest.approx(3.0, rel=0.1)
    logits, labels = overconfident(2000, 3, factor=3.0, seed=2)
    before, after = (
        compute_metrics(["ece", "log_loss", "accuracy"], scored_rows(labels, probabilities, "classification"))
        for probabilities in (softmax(logits, axis=1), softmax(logits / temperature, axis=1))
    )
    assert before["ece"] > 0.15
    assert after["ece"] < 0.04
    assert after["log_loss"] < before["log_loss"]
    assert after["accuracy"] == before["accuracy"]


def test_rows_that_have_no_best_rule_are_refused() -> None:
    logits = np.array([[3.0, 0.0], [0.0, 1.0]] * 20)
    with pytest.raises(DataError, match="every row is answered right"):
        fit_temperature(logits, np.array([0, 1] * 20), ONE)
    with pytest.raises(DataError, match="no better than equal probabilities"):
        fit_temperature(logits, np.array([1, 0] * 20), ONE)
    with pytest.raises(DataError, match="all rows have one class"):
        fit_threshold(np.array([0.2, 0.8]), np.array([1, 1]), "f1")
    with pytest.raises(RunFailedError, match="not finite"):
        fit_rule(np.full((4, 2), np.nan), np.array([0, 1, 0, 1]), NAMES, ONE, temperature=True, metric=None)


def value_at(threshold: float, positive: np.ndarray, labels: np.ndarray, metric: str) -> float:
    scores = np.eye(2)[(positive > threshold).astype(int)]
    return compute_metrics([metric], scored_rows(labels, scores, "classification"))[metric]


@pytest.mark.parametrize("metric", THRESHOLD_METRICS["classification"])
@pytest.mark.parametrize("decimals", [1, 12])
def test_no_threshold_is_better_than_the_one_found(metric: str, decimals: int) -> None:
    """Brute force over every distinct cut; one decimal makes many equal probabilities, 0 and 1 among them."""
    generator = np.random.default_rng(decimals)
    labels = generator.integers(0, 2, 80)
    positive = np.clip(generator.normal(0.35 + 0.2 * labels, 0.25), 0, 1).round(decimals)
    best = max(value_at(cut, positive, labels, metric) for cut in [0.0, *positive])
    assert value_at(fit_threshold(positive, labels, metric), positive, labels, metric) == pytest.approx(best, abs=1e-12)


def test_the_threshold_is_the_middle_of_the_widest_plateau() -> None:
    positive, labels = np.array([0.1, 0.2, 0.6, 0.9]), np.array([0, 0, 1, 1])
    assert fit_threshold(positive, labels, "accuracy") == pytest.approx(0.4)
    # 3 of 4 are right for t from 0.3 to 0.4, and from 0.5 to 0.9
    positive, labels = np.array([0.3, 0.4, 0.5, 0.9]), np.array([0, 1, 0, 1])
    assert fit_threshold(positive, labels, "accuracy") == pytest.approx(0.7)
    close = np.nextafter(0.5, 1)
    threshold = fit_threshold(np.array([0.0, 0.5, close, 1.0]), np.array([0, 0, 1, 1]), "accuracy")
    assert 0.5 <= threshold < close


def test_a_threshold_decides_and_without_one_the_likelier_class_does() -> None:
    probabilities = np.array([[0.7, 0.3], [0.69, 0.31], [0.5, 0.5], [0.2, 0.8]])
    assert answers_of(probabilities, None, NAMES, ONE).tolist() == [0, 0, 0, 1]
    assert answers_of(probabilities, RULE, NAMES, ONE).tolist() == [0, 1, 1, 1]
    of_first = DecisionRule(thresholds={"no": 0.6})
    assert answers_of(probabilities, of_first, NAMES, ONE).tolist() == [0, 0, 1, 1]
    assert calibrated(np.array([[4.0, 1.0]]), RULE).tolist() == [[2.0, 0.5]]


def test_cross_validation_does_not_believe_a_threshold_fitted_to_noise() -> None:
    """Labels that have nothing to do with the scores: above 1/2 on the 60 rows of the fit, and not on others."""
    fitted, honest = [], []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        logits, labels = generator.normal(size=(60, 2)), generator.permutation([0, 1] * 30)
        rule = fit_rule(logits, labels, NAMES, ONE, temperature=False, metric="accuracy")
        found = cross_validate(logits, labels, NAMES, ONE, rule, seed=seed)
        assert found is not None
        fitted.append(np.mean(answers_of(softmax(logits, axis=1), rule, NAMES, ONE) == labels))
        honest.append(np.mean(found.answers == labels))
    assert np.mean(fitted) > 0.56
    assert np.mean(honest) < 0.52
    assert cross_validate(logits[:9], labels[:9], NAMES, ONE, rule, seed=1) is None


def test_all_scores_of_a_report_are_those_under_the_rule() -> None:
    logits, labels = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 0.4], [0.0, 3.0]]), np.array([0, 1, 1, 1])
    rules = ScoringRules("classification", NAMES, ("accuracy", "brier"), Resampling(50), decision=RULE)
    report = score_split("test", logits, labels, rules, train_labels=labels)
    probabilities = softmax(logits / 2, axis=1)
    assert report.metrics["accuracy"].value == 1.0  # p(yes) = 0.27, 0.38, 0.55, 0.82
    assert report.metrics["brier"].value == pytest.approx(np.mean((probabilities[:, 1] - labels) ** 2))
    assert report.loss == pytest.approx(-np.log(probabilities[np.arange(4), labels]).mean())
    assert report.confusion == [[1, 0], [0, 3]]
    rows = list(predictions(range(4), logits, kind=ONE, label_names=NAMES, decision=RULE, min_confidence=0.5))
    assert [row["prediction"] for row in rows] == ["no", None, "yes", "yes"]
    assert rows[1]["probabilities"]["yes"] == pytest.approx(probabilities[1, 1])
    answered = score_answered(logits, labels, rules, min_confidence=0.5)
    assert (answered.n, answered.coverage, answered.metrics["accuracy"].value) == (3, 0.75, 1.0)
    assert score_answered(logits, labels, rules, min_confidence=0.99).metrics == {}
    assert EvalReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def several_labels(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, 3), twice too large and shifted, with labels drawn from the right ones; the third class is rare."""
    generator = np.random.default_rng(seed)
    logits = generator.normal([0.0, -1.0, -3.0], 1.5, (rows, 3))
    return 2 * logits, (generator.random((rows, 3)) < expit(logits)).astype(np.int64)


def test_several_labels_a_row_have_one_temperature_and_a_threshold_each() -> None:
    """Against SciPy, and each class's F1 against every cut."""
    logits, labels = several_labels(400, seed=5)

    def log_loss(log_temperature: float) -> float:
        return np.logaddexp(0, np.where(labels == 1, -1, 1) * logits / np.exp(log_temperature)).mean()

    found = minimize_scalar(log_loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-9})
    rule = fit_rule(logits, labels, ("a", "b", "c"), SEVERAL, temperature=True, metric="f1_macro")
    assert rule.temperature == pytest.approx(np.exp(found.x), rel=1e-6)
    assert str(rule).startswith("temperature 2.")
    probabilities = expit(logits / rule.temperature)
    for column, threshold in enumerate(rule.thresholds.values()):
        positive, truth = probabilities[:, column], labels[:, column]
        best = max(value_at(cut, positive, truth, "f1") for cut in positive)
        assert value_at(threshold, positive, truth, "f1") == pytest.approx(best)


def test_thresholds_of_several_labels_decide_and_a_class_without_rows_has_none() -> None:
    logits, labels = several_labels(60, seed=6)
    labels[:, 2] = 0
    rule = fit_rule(logits, labels, ("a", "b", "c"), SEVERAL, temperature=False, metric="hamming_loss")
    assert list(rule.thresholds) == ["a", "b"]
    probabilities = expit(logits)
    expected = np.column_stack(
        [
            probabilities[:, 0] > rule.thresholds["a"],
            probabilities[:, 1] > rule.thresholds["b"],
            probabilities[:, 2] >= 0.5,
        ]
    )
    assert np.array_equal(answers_of(probabilities, rule, ("a", "b", "c"), SEVERAL), expected)
    rows = predictions(range(60), logits, label_names=("a", "b", "c"), kind="multilabel", decision=rule)
    assert [["abc".index(name) for name in row["prediction"]] for row in rows] == [
        list(*np.nonzero(x)) for x in expected
    ]
    rules = ScoringRules(SEVERAL, ("a", "b", "c"), ("hamming_loss", "ece"), Resampling(20), decision=rule)
    report = score_split("validation", logits, labels, rules, train_labels=labels)
    assert report.metrics["hamming_loss"].value == pytest.approx(np.mean(expected != labels))
    effect = decision_effect("validation", logits, labels, rules, metric="hamming_loss")
    assert effect.after["hamming_loss"].value <= effect.before["hamming_loss"].value
    assert effect.cross_validated is not None
    assert effect.cross_validated["hamming_loss"].value >= effect.after["hamming_loss"].value
    with pytest.raises(DataError, match="no class has rows with it and rows without it"):
        fit_rule(logits, np.zeros_like(labels), ("a", "b", "c"), SEVERAL, temperature=False, metric="f1_macro")


def test_a_rule_and_its_line_in_the_model_card_come_and_go(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# A model\n\n## Use\n\nAs usual.\n", encoding="utf-8")
    before = card.read_bytes()
    for rule in (RULE, DecisionRule(temperature=1.5, n=3)):
        store_rule(tmp_path, rule)
        assert read_rule(tmp_path, NAMES, ONE) == rule
        assert card.read_text().count("divide the logits by") == 1
    assert "divide the logits by 1.5 before softmax or sigmoid" in card.read_text()
    store_rule(tmp_path, None)
    assert card.read_bytes() == before
    assert read_rule(tmp_path, NAMES, ONE) is None
    store_rule(tmp_path, None)


BAD_FILES: dict[str, Any] = {
    "it cannot be read as JSON": "{",
    "expected an object": [],
    "unknown key 'temprature'": {"temprature": 2},
    "temperature is 0": {"temperature": 0},
    "temperature is nan": {"temperature": math.nan},
    "temperature is '2'": {"temperature": "2"},
    "for is 'ece'": {"for": "ece"},
    "a whole number in n": {"n": "many"},
    "expected a class with its probability": {"thresholds": 0.4},
    "there are 2 of them and 2 classes": {"thresholds": {"yes": 0.4, "no": 0.6}},
    "a threshold is for 'maybe'": {"thresholds": {"maybe": 0.4}},
    "the threshold of 'yes' is 4": {"thresholds": {"yes": 4}},
}


@pytest.mark.parametrize("problem", BAD_FILES)
def test_a_file_that_is_no_rule_says_what_is_wrong(problem: str, tmp_path: Path) -> None:
    content = BAD_FILES[problem]
    (tmp_path / DECISION_FILE).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(MissingError) as caught:
        read_rule(tmp_path, NAMES, ONE)
    assert problem in str(caught.value)
    assert "--fit" in str(caught.value)


def test_a_rule_of_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / DECISION_FILE).write_text(json.dumps(RULE.to_json()))
    others = [(None, "predicts a number"), (("yes", "b", "c"), "and 3 classes"), (("a", "b"), "'yes'")]
    for classes, problem in others:
        with pytest.raises(MissingError, match=problem):
            read_rule(tmp_path, classes, ONE)
    with pytest.raises(MissingError, match="for is 'f1', expected one of f1_macro, hamming_loss"):
        read_rule(tmp_path, NAMES, SEVERAL)


def test_a_threshold_can_be_for_every_metric_of_the_predicted_classes() -> None:
    assert set(THRESHOLD_METRICS["classification"]) == set(CONFUSION_METRICS)
    assert set(THRESHOLD_METRICS["multilabel"]) == set(OF_ONE_CLASS)


def target(directory: Path, *, kind: str = "classification", best: str = "accuracy") -> Target:
    config: Any = SimpleNamespace(spec=SimpleNamespace(kind=kind), evaluation=SimpleNamespace(metric_for_best=best))
    return Target(directory, config, RunDir(directory))


def test_what_is_asked_for(tmp_path: Path) -> None:
    assert parse_fit([], None, target(tmp_path), None) is None
    assert parse_fit(["temperature"], None, target(tmp_path), None) == FitRequest(True, None)
    assert parse_fit(["threshold"], None, target(tmp_path), None) == FitRequest(False, "accuracy")
    assert parse_fit(["threshold", "temperature"], "f1", target(tmp_path), None) == FitRequest(True, "f1")
    removal = parse_fit(["none"], None, target(tmp_path), "rows.csv")
    assert removal is not None
    assert removal.removes


@pytest.mark.parametrize(
    ("fit", "metric", "changes", "data", "message"),
    [
        (["temprature"], None, {}, None, "expected temperature, threshold, abstain or none"),
        (["none", "threshold"], None, {}, None, "goes with no other"),
        (["temperature"], "f1", {}, None, "Add --fit threshold"),
        ([], "f1", {}, None, "Add --fit threshold"),
        (["threshold"], "ece", {}, None, "--for ece: no threshold is fitted for it"),
        (["threshold"], None, {"best": "loss"}, None, "--for loss, the metric that chose this model"),
        (["temperature"], None, {"kind": "regression"}, None, "this task is regression"),
        (["threshold"], "f1_micro", {"kind": "multilabel"}, None, "Name one of: f1_macro, hamming_loss"),
        (["temperature"], None, {}, "rows.csv", "Fit first, then score the file"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_the_reason(
    fit: list[str], metric: str | None, changes: dict[str, str], data: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_fit(fit, metric, target(tmp_path, **changes), data)


def test_what_a_model_cannot_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a model without one"):
        parse_fit(["temperature"], None, Target(tmp_path), None)
    with pytest.raises(ConfigError, match=r"is for two classes.*has 3.*--fit temperature works"):
        require_possible(FitRequest(True, "accuracy"), None, ModelTask(ONE, ("a", "b", "c")))
    with pytest.raises(ConfigError, match="predicts a number"):
        require_possible(None, 0.7, ModelTask("regression", None))
    with pytest.raises(ConfigError, match="from 0 to 1"):
        require_possible(None, 70, ModelTask(ONE, NAMES))
    with pytest.raises(ConfigError, match="is for one class a row"):
        require_possible(None, 0.7, ModelTask(SEVERAL, NAMES))
    require_possible(FitRequest(True, None), 0.7, ModelTask(ONE, ("a", "b", "c")))
    require_possible(FitRequest(True, "f1_macro"), None, ModelTask(SEVERAL, ("a", "b", "c")))
