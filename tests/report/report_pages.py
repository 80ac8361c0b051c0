"""Pages to test with: the answers of a model that is right in most rows, with any text in every place."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np

from finetune_cli.evaluation.scoring import ScoringRules, score_split
from finetune_cli.records.evaluation import EvalReport
from finetune_cli.records.resampling import Resampling
from finetune_cli.report.curves import read_curves
from finetune_cli.report.page import EvaluationPage, Lengths, RawRows, select_rows
from finetune_cli.report.slices import SliceScore
from finetune_cli.runs.answers import Answers

HOSTILE = (
    "<script>alert(1)</script><img src=https://example.invalid/x onerror=alert(2)>\" style='x' `| [a](b) \u202e\x00"
)
ACCURACY = SliceScore("accuracy", Resampling(200))


def answers_of(logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Answers:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    ids = list(range(len(labels)))
    return Answers(ids, classes, labels, probabilities.argmax(axis=1), probabilities)


def page_of(
    report: EvalReport,
    answers: Answers,
    *,
    raw: RawRows | None = None,
    metric_for_best: str = "accuracy",
    slice_score: SliceScore = ACCURACY,
) -> EvaluationPage:
    """The page of these answers, of rows that were not cut, without a course of training."""
    lengths = Lengths(np.arange(len(answers.ids)) % 30 + 3, limit=64, truncated=0)
    return EvaluationPage(
        "run",
        report,
        answers,
        select_rows(answers, lengths),
        raw or RawRows(),
        curves=None,
        lengths=lengths,
        metric_for_best=metric_for_best,
        slice_score=slice_score,
        facts=[],
    )


def random_page(
    num_rows: int,
    num_classes: int,
    *,
    classes: tuple[str, ...] | None = None,
    text: str = "a text",
    columns: dict[str, list[Any]] | None = None,
    title: str = "run",
    history: list[dict[str, Any]] | None = None,
) -> EvaluationPage:
    """The page of a model that is right in most rows."""
    generator = np.random.default_rng(0)
    labels = generator.integers(num_classes, size=num_rows)
    logits = generator.normal(size=(num_rows, num_classes)).astype(np.float32)
    logits[np.arange(num_rows), labels] += 2
    classes = classes or tuple(f"class {number}" for number in range(num_classes))
    rules = ScoringRules("classification", classes, ("accuracy", "f1_macro", "log_loss"), Resampling(50))
    report = score_split("validation", logits, labels, rules, train_labels=labels)
    answers = answers_of(logits.astype(float), labels, classes)
    lengths = Lengths(generator.integers(4, 65, num_rows), limit=64, truncated=3)
    selection = select_rows(answers, lengths)
    raw = RawRows(dict.fromkeys(selection.rows(), (text, text)), columns or {})
    return EvaluationPage(
        title,
        report,
        answers,
        selection,
        raw,
        curves=None if history is None else read_curves(history, "validation", list(report.metrics), best_step=15),
        lengths=lengths,
        metric_for_best="accuracy",
        slice_score=ACCURACY,
        facts=[("task", "classification")],
    )


def history_lines(*, updates: int) -> list[dict[str, Any]]:
    lines = [
        {"type": "train", "step": step, "epoch": step / 10, "loss": 1 / step, "learning_rate": 1e-5 * step}
        for step in range(1, updates + 1)
    ]
    evaluations = [
        {"type": "eval", "step": step, "epoch": 1.0, "split": split, "loss": 0.5, "accuracy": score, "f1_macro": None}
        for step, score in ((updates // 2, 0.7), (updates, 0.7))
        for split in ("validation", "validation_other")
    ]
    return [*lines, *evaluations]


class Tags(HTMLParser):
    """The elements and attributes of a page, and the text between."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_page(history: list[dict[str, Any]] | None = None) -> EvaluationPage:
    """HOSTILE everywhere that text can come from: texts, classes, columns and their values, ids, title, facts."""
    page = random_page(300, 3, classes=(HOSTILE, "b", "c"))
    page.answers.ids[:] = [f"{HOSTILE}{row}" for row in page.answers.ids]
    return EvaluationPage(
        HOSTILE,
        page.report,
        page.answers,
        select_rows(page.answers, page.lengths),
        RawRows(dict.fromkeys(range(300), (HOSTILE,)), {HOSTILE: [HOSTILE, "x", "y"] * 100}),
        curves=None if history is None else read_curves(history, "validation", list(page.report.metrics), best_step=25),
        lengths=page.lengths,
        metric_for_best="accuracy",
        slice_score=ACCURACY,
        facts=[("rows", HOSTILE)],
    )
