"""The content of a report: what it computes from the answers, that its size is bounded, that text stays text."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune_cli.evaluation.intervals.shares import wilson
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.evaluation.scored_rows import scored_rows
from finetune_cli.evaluation.scoring import ScoringRules, score_split
from finetune_cli.records.evaluation import EvalReport, MetricValue
from finetune_cli.records.resampling import Resampling
from finetune_cli.report.charts import tick_label, ticks
from finetune_cli.report.compare import disagreement
from finetune_cli.report.curves import MAX_POINTS, read_curves
from finetune_cli.report.error_analysis import (
    calibration,
    confused_pairs,
    label_suspects,
    residuals,
    worst_errors,
)
from finetune_cli.report.page import EvaluationPage, RawRows
from finetune_cli.report.rendering import clean, escape_markdown, evaluation_html, evaluation_markdown, number
from finetune_cli.report.slices import EMPTY, SliceScore, by_column, by_length
from finetune_cli.runs.answers import Answers, in_order_of, read_answers
from tests.report.report_pages import ACCURACY, Tags, answers_of, history_lines, hostile_page, page_of, random_page


def test_wilson_is_the_textbook_interval():
    """9 of 10 at 95 %: 0.5958 to 0.9821 (Brown, Cai and DasGupta 2001); none of 10 still has a width."""
    assert wilson(9, 10, 0.95) == pytest.approx((0.5958, 0.9821), abs=1e-4)
    low, high = wilson(0, 10, 0.95)
    assert (low, high) == (0.0, pytest.approx(0.2775, abs=1e-4))


def test_the_bins_of_the_reliability_diagram_give_the_metric_ece():
    from finetune_cli.evaluation.metrics import compute_metrics

    page = random_page(500, 3)
    found = calibration(page.answers)
    assert sum(one.n for one in found.bins) == 500
    by_hand = sum(one.n / 500 * abs(one.accuracy - one.confidence) for one in found.bins)
    assert found.ece == pytest.approx(by_hand)
    metric = compute_metrics(["ece"], scored_rows(page.answers.labels, page.answers.probabilities, "classification"))
    assert found.ece == pytest.approx(metric["ece"])


def test_errors_come_in_the_order_of_their_confidence():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.95, 0.05]])
    answers = Answers(list("abcd"), ("x", "y"), np.array([1, 0, 0, 0]), np.array([0, 1, 1, 0]), probabilities)
    assert worst_errors(answers, 10) == [(0, 0.9), (2, 0.8), (1, 0.6)]
    assert worst_errors(answers, 1) == [(0, 0.9)]


def test_label_suspects_are_the_off_diagonal_of_the_confident_joint():
    """Thresholds by hand: class x (0.9 + 0.8 + 0.1) / 3 = 0.6, class y (0.7 + 0.9 + 0.45) / 3 = 0.683.

    Row 2 (labelled x) gives y 0.9, above 0.683: suspect. Row 5 (labelled y) gives x 0.55, below 0.6: an error, but no
    suspect.
    """
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.1, 0.9], [0.55, 0.45]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    answers = Answers(list(range(6)), ("x", "y"), labels, probabilities.argmax(axis=1), probabilities)
    found = label_suspects(answers)
    assert found.rows.tolist() == [2]
    assert found.suggested.tolist() == [1]
    assert found.self_confidence.tolist() == [0.1]
    assert found.pairs == [("x", "y", 1)]


def test_planted_label_errors_are_found():
    """20 of 1,000 labels are turned over: most are named, and first. (Rows of below average confidence are not.)"""
    generator = np.random.default_rng(0)
    truth = generator.integers(3, size=1000)
    logits = generator.normal(size=(1000, 3))
    logits[np.arange(1000), truth] += 5
    planted = generator.choice(1000, 20, replace=False)
    labels = truth.copy()
    labels[planted] = (labels[planted] + 1) % 3
    found = label_suspects(answers_of(logits, labels, ("x", "y", "z")))
    assert set(found.rows[:10]) <= set(planted)
    assert len(set(found.rows) & set(planted)) >= 14
    assert len(found.rows) < 25


def test_a_class_without_rows_suggests_nothing():
    probabilities = np.array([[0.1, 0.2, 0.7], [0.6, 0.1, 0.3]])
    answers = Answers([0, 1], ("x", "y", "z"), np.array([0, 1]), np.array([2, 0]), probabilities)
    assert 2 not in label_suspects(answers).suggested


def test_confused_pairs_leave_out_the_diagonal():
    cells = [(0, 0, 5), (0, 1, 3), (1, 0, 1), (1, 1, 9), (2, 1, 4), (2, 2, 4)]
    assert confused_pairs(cells, ["x", "y", "z"], 2) == [("z", "y", 4, 0.5), ("x", "y", 3, 0.375)]


def test_groups_have_rows_score_and_interval():
    answers = random_page(400, 2).answers
    slicing = by_column(answers, "source", ["web" if row % 4 else "" for row in range(400)], ACCURACY)
    assert [(group.name, group.n) for group in slicing.groups] == [("web", 300), (EMPTY, 100)]
    rows = np.arange(400) % 4 != 0
    assert slicing.groups[0].score.value == pytest.approx(answers.correct()[rows].mean())
    for group in slicing.groups:
        assert group.score.low < group.score.value < group.score.high


def test_a_group_unlike_the_rest_is_marked_and_few_rows_never_are():
    labels, wrong = np.zeros(300, int), np.arange(300) < 100
    probabilities = np.where(wrong[:, None], [0.2, 0.8], [0.8, 0.2])
    answers = Answers(list(range(300)), ("x", "y"), labels, wrong.astype(int), probabilities)
    source = ["bad" if row < 95 else "tiny" if row < 100 else "good" for row in range(300)]
    marked = {group.name: group.apart for group in by_column(answers, "source", source, ACCURACY).groups}
    assert marked == {"good": True, "bad": True, "tiny": False}


def test_many_values_become_a_rest_and_many_numbers_become_ranges():
    answers = random_page(600, 2).answers
    texts = by_column(answers, "user", [f"user {row % 50}" for row in range(600)], ACCURACY)
    assert len(texts.groups) == 12
    assert texts.groups[-1].name == "(39 other values)"
    assert sum(group.n for group in texts.groups) == 600
    years = by_column(answers, "year", [str(1900 + row % 100) for row in range(599)] + [""], ACCURACY)
    assert years.groups[0].name == "1900 to 1919"
    assert years.groups[-1].name == EMPTY
    assert sum(group.n for group in years.groups) == 600


def test_rows_of_one_length_are_one_group():
    answers = random_page(50, 2).answers
    assert [group.name for group in by_length(answers, np.full(50, 7), ACCURACY).groups] == ["7"]


@pytest.mark.parametrize(
    ("kind", "best", "metric"),
    [
        ("classification", "f1_macro", "f1_macro"),
        ("classification", "log_loss", "accuracy"),
        ("classification", "loss", "accuracy"),
        ("multilabel", "f1_macro", "exact_match"),
        ("regression", "pearson", "mse"),
    ],
)
def test_groups_are_scored_by_a_metric_that_fits_few_rows(kind: str, best: str, metric: str):
    assert KINDS[kind].metric_of_few_rows(best) == metric


def test_curves_are_thinned_to_means_and_name_the_best_as_training_did():
    curves = read_curves(history_lines(updates=10_000), "validation", ["accuracy"], best_step=5_000)
    assert curves is not None
    assert len(curves.loss) <= MAX_POINTS
    assert curves.updates == 10_000
    width = -(-10_000 // MAX_POINTS)
    assert curves.learning_rate[0][1] == pytest.approx(1e-5 * (1 + width) / 2)
    assert [one.step for one in curves.evaluations] == [5_000, 10_000]
    assert curves.best == curves.evaluations[0]
    assert read_curves([], "validation", [], best_step=1) is None


def test_every_split_shows_the_model_that_was_kept():
    """The split "validation" decided, as run.json has it; `other` has its best score at another update."""
    scores = [(5, "validation", 0.7), (5, "other", 0.5), (10, "validation", 0.6), (10, "other", 0.9)]
    lines = [
        {"type": "train", "step": 10, "epoch": 1.0, "loss": 0.1, "learning_rate": 1e-5},
        *({"type": "eval", "step": n, "epoch": 1.0, "split": split, "loss": 0.5, "f1": f1} for n, split, f1 in scores),
    ]
    found = {}
    for split, best_step in (("validation", 5), ("other", 5), ("test", 5), ("other", None)):
        curves = read_curves(lines, split, ["f1"], best_step=best_step)
        assert curves is not None
        found[split, best_step] = curves.best and curves.best.step
    assert found == {("validation", 5): 5, ("other", 5): 5, ("test", 5): None, ("other", None): None}


def test_ticks_are_round_and_inside():
    assert ticks(0, 1377) == [0, 500, 1000]
    assert ticks(0.52, 0.61, count=4) == pytest.approx([0.525, 0.55, 0.575, 0.6])
    assert ticks(2, 2) == [2]
    assert [tick_label(value) for value in (0.0, 5e-5, 0.25, 1500.0, 2_500_000.0)] == [
        "0",
        "5e-5",
        "0.25",
        "1500",
        "2.5e6",
    ]


def test_numbers_have_three_digits():
    assert [number(value) for value in (0.8112, 0.0, 12.3456, 12345.6, 0.00012, None, math.nan)] == [
        "0.811",
        "0.000",
        "12.346",
        "1.23e+04",
        "0.00012",
        "\N{EN DASH}",
        "\N{EN DASH}",
    ]


@pytest.mark.parametrize("num_classes", [2, 7, 150])
def test_the_pages_hold_every_part(num_classes: int):
    history = history_lines(updates=30)
    page = random_page(900, num_classes, columns={"source": ["web", "mail", "book"] * 300}, history=history)
    html, markdown = evaluation_html(page), evaluation_markdown(page)
    parts = ["Scores", "Classes", "Calibration", "Score by group", "Most confident errors", "Likely label errors"]
    for part in [*parts, "Truncated rows", "About this run"]:
        assert f"<h2>{part}</h2>" in html
        assert f"\n## {part}\n" in markdown
    score = page.report.metrics["accuracy"]
    for text in (Tags(html).text, markdown):
        assert number(score.value) in text
        assert number(score.low) in text
        assert "mail" in text
        assert "3 of 900 rows" in text
        assert "update 15" in text
    assert ('class="matrix' in html) == (num_classes <= 20)
    assert ("pairs that are confused most" in html) == (num_classes > 20)
    assert html.count('<svg class="chart"') == 4  # loss, accuracy (the history has no other metric), rate, reliability


def test_the_size_of_a_page_does_not_follow_the_data(tmp_path: Path):
    small, large = (
        evaluation_html(random_page(rows, 60, text="word " * 5000, columns={"n": list(range(rows))}))
        for rows in (1_000, 10_000)
    )
    assert len(large) < 1.1 * len(small)
    assert len(large) < 200_000


def test_text_from_the_data_stays_text():
    """Everywhere it can come from: texts, class names, column names, their values, ids, the title."""
    page = hostile_page()
    html, markdown = evaluation_html(page), evaluation_markdown(page)
    found = Tags(html)
    assert {tag for tag, _ in found.tags} & {"script", "img", "iframe", "object", "link", "a", "base", "form"} == set()
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert {name for _, attributes in found.tags for name in attributes} & {"src", "href", "srcset", "action"} == set()
    assert "<script>alert(1)</script>" in found.text
    assert "\x00" not in html
    assert "\u202e" not in html
    assert "<script" not in markdown.replace("`", "") or all(
        re.match(r"- `[^`]*` ", line) for line in markdown.splitlines() if "<script" in line
    )
    assert "[a](b)" not in re.sub(r"`[^`]*`", "", markdown)


def test_a_page_forbids_scripts_and_requests():
    html = evaluation_html(random_page(100, 2))
    assert "default-src 'none'; style-src 'unsafe-inline'" in html
    assert "http" not in re.sub(r"http-equiv", "", html)
    assert "url(" not in html


def test_text_of_any_kind_can_be_written():
    """Lone surrogates, which a JSON file can hold, cannot be encoded; a long text is cut."""
    assert clean("a\ud800b\r\nc\x1b[31m").encode().decode() == "a\ufffdb\r\nc\ufffd[31m"
    assert len(clean("x" * 1000)) == 600
    assert escape_markdown("a|b\n# <b> *c* [d]") == "a\\|b \\# &lt;b&gt; \\*c\\* \\[d\\]"


def test_rows_that_cannot_be_read_again_are_named_by_id():
    page = random_page(100, 2)
    page = page_of(page.report, page.answers, raw=RawRows(problem="data.csv does not exist."))
    for text in (Tags(evaluation_html(page)).text, evaluation_markdown(page)):
        assert "data.csv does not exist." in text
        assert "named by their ids" in text
    assert "a text" not in evaluation_html(page)


def regression(predictions: np.ndarray, labels: np.ndarray) -> EvaluationPage:
    rules = ScoringRules("regression", None, ("pearson", "mse"), Resampling(50))
    report = score_split("validation", predictions[:, None].astype(np.float32), labels, rules, train_labels=labels)
    answers = Answers(list(range(len(labels))), None, labels, predictions, None)
    return page_of(report, answers, metric_for_best="pearson", slice_score=SliceScore("mse", Resampling(100)))


def test_regression_has_residuals_in_place_of_classes():
    generator = np.random.default_rng(0)
    labels = generator.uniform(0, 5, 2000)
    page = regression(labels + generator.normal(0.3, 0.5, 2000), labels)
    found = residuals(page.answers)
    assert found.mean == pytest.approx(0.3, abs=0.05)
    assert sum(found.counts) == 2000
    assert len(found.points) == 600
    html = evaluation_html(page)
    assert "<h2>Residuals</h2>" in html
    assert "<h2>Largest errors</h2>" in html
    assert "<h2>Classes</h2>" not in html
    assert "<h2>Calibration</h2>" not in html
    assert "## Residuals" in evaluation_markdown(page)


def test_a_constant_prediction_has_a_page():
    page = regression(np.full(40, 2.0), np.full(40, 2.0))
    assert "<h2>Residuals</h2>" in evaluation_html(page)
    assert page.errors == []


def test_a_collapsed_model_is_called_that():
    labels = np.array([0, 1] * 20)
    logits = np.tile(np.array([[3.0, 0.0]], np.float32), (40, 1))
    rules = ScoringRules("classification", ("x", "y"), ("accuracy",), Resampling(20))
    report = score_split("validation", logits, labels, rules, train_labels=labels)
    answers = answers_of(logits, labels, ("x", "y"))
    page = page_of(report, answers)
    assert "collapsed to one class" in evaluation_html(page)
    assert "collapsed to one class" in evaluation_markdown(page)


def test_answers_are_read_from_each_form_of_predictions(tmp_path: Path):
    file = tmp_path / "predictions.jsonl"

    def written(*rows: dict[str, Any]) -> Answers:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return read_answers(file)

    several = {"a": 0.9, "b": 0.2, "c": 0.6}
    found = written(
        {"id": "x", "label": ["a", "c"], "prediction": ["a", "c"], "probabilities": several},
        {"id": "y", "label": [], "prediction": ["b"], "probabilities": several},
    )
    assert found.kind == "multilabel"
    assert found.correct().tolist() == [True, False]
    assert [found.label_of(row) for row in (0, 1)] == ["a, c", "no label"]
    assert worst_errors(found, 5) == [(1, 0.2)]
    assert calibration(found).bins[0].n == 2
    found = written({"id": 1, "label": 2.5, "prediction": 2.0}, {"id": 2, "label": 1.0, "prediction": 4.0})
    assert (found.kind, worst_errors(found, 1)) == ("regression", [(1, 3.0)])
    found = written({"id": 1, "label": "b", "prediction": "a", "probabilities": {"a": 0.7, "b": 0.3}})
    assert (found.kind, found.label_of(0), found.prediction_of(0)) == ("classification", "b", "a")


def test_several_labels_a_row_have_a_page():
    """Right means: all labels of the row. Calibration is over each class of each row."""
    generator = np.random.default_rng(0)
    probabilities = generator.uniform(size=(200, 3))
    labels = generator.uniform(size=(200, 3)) < probabilities
    answers = Answers(list(range(200)), ("x", "y", "z"), labels, probabilities > 0.5, probabilities)
    page = page_of(
        EvalReport("validation", 200, 0.5, {"f1_macro": MetricValue(0.7, 0.6, 0.8)}, baseline={}),
        answers,
        raw=RawRows(columns={"source": ["web", "mail"] * 100}),
        metric_for_best="f1_macro",
        slice_score=SliceScore("exact_match", Resampling(100)),
    )
    assert sum(one.n for one in calibration(answers).bins) == 600
    assert page.num_errors == int((labels != (probabilities > 0.5)).any(axis=1).sum())
    html = evaluation_html(page)
    assert "exact match of groups" in html
    assert "<h2>Most confident errors</h2>" in html
    assert "<h2>Likely label errors</h2>" not in html
    assert "exact match" in evaluation_markdown(page)


def test_disagreements_pair_rows_and_classes_by_name():
    a = Answers(
        ["p", "q", "r"],
        ("x", "y"),
        np.array([0, 1, 0]),
        np.array([0, 0, 1]),
        np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]]),
    )
    b = Answers(
        ["r", "q", "p"],
        ("y", "x"),
        np.array([1, 0, 1]),
        np.array([0, 0, 0]),
        np.array([[0.8, 0.2], [0.9, 0.1], [0.7, 0.3]]),
    )
    b = in_order_of(a, b)
    assert [b.prediction_of(row) for row in range(3)] == ["y", "y", "y"]
    assert b.labels.tolist() == a.labels.tolist()
    found = disagreement(a, b)
    assert (found.for_a.tolist(), found.for_b.tolist(), found.both_right, found.both_wrong) == ([0], [1], 0, 1)
