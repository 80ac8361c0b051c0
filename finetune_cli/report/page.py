"""The content of an evaluation's page: which rows to show, and everything computed for it.

Its size does not grow with the data: lists are cut, diagrams are binned, texts are clipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finetune_cli.evaluation.confusion import IntArray
from finetune_cli.records.evaluation import ClassScore, EvalReport, MetricValue
from finetune_cli.records.training import EvalRecord
from finetune_cli.report.curves import Curves
from finetune_cli.report.error_analysis import (
    Calibration,
    Residuals,
    Suspects,
    calibration,
    confused_pairs,
    label_suspects,
    residuals,
    worst_errors,
)
from finetune_cli.report.slices import SliceScore, Slicing, by_column, by_length, score_all
from finetune_cli.runs.answers import Answers
from finetune_cli.tasks import KIND_SPECS, METRICS

MAX_MATRIX_CLASSES = 20
MAX_PAIRS = 15
MAX_CLASSES_SHOWN = 30
MAX_ERRORS = 20
MAX_SUSPECTS = 20
MAX_CUT_ROWS = 10
MAX_EVALUATIONS = 30
MAX_HEADLINES = 3


@dataclass(frozen=True)
class RawRows:
    """What was read again from the data. problem: why it could not be; then there are no texts and columns.

    texts: by row number, of the rows asked for. columns: by name, a value for every row.
    """

    texts: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class Lengths:
    """tokens: of each row after truncation, (N,). limit: data.max_length. truncated: rows that were longer."""

    tokens: IntArray
    limit: int
    truncated: int

    def cut_rows(self) -> IntArray:
        """Rows as long as the limit: all that were cut, and perhaps some that just fill it."""
        return np.flatnonzero(self.tokens >= self.limit) if self.truncated else np.array([], int)


@dataclass(frozen=True)
class Selection:
    """The rows that are shown with their texts. errors: (row, how wrong)."""

    errors: list[tuple[int, float]]
    suspects: Suspects | None
    cut: list[int]

    def rows(self) -> set[int]:
        suspects = [] if self.suspects is None else self.suspects.rows[: MAX_SUSPECTS + MAX_ERRORS].tolist()
        return {row for row, _ in self.errors} | set(suspects) | set(self.cut)


@dataclass(frozen=True)
class ShownRow:
    """One row for people. number: how wrong an error is, or the probability of a suspicious label."""

    id: Any
    label: str
    prediction: str
    number: float
    texts: tuple[str, ...]
    suspect: bool = False


@dataclass(frozen=True)
class EvaluationPage:
    """All that the templates show. facts: (name, value) about the run. best: the evaluation whose model was kept, by
    `metric_for_best`; None stands for the last one."""

    title: str
    report: EvalReport
    answers: Answers
    metric_for_best: str | None
    level: float
    facts: list[tuple[str, str]]
    curves: Curves | None
    best: EvalRecord | None
    calibration: Calibration | None
    residuals: Residuals | None
    pairs: list[tuple[str, str, int, float]]
    classes_shown: list[ClassScore]
    slicings: list[Slicing]
    slice_score: SliceScore
    slice_overall: float
    errors: list[ShownRow]
    num_errors: int
    suspects: Suspects | None
    suspect_rows: list[ShownRow]
    lengths: Lengths | None
    cut_rows: list[ShownRow]
    problem: str | None

    @property
    def headlines(self) -> list[tuple[str, MetricValue]]:
        """The metric that picked the model, then the first others: three at most."""
        scores = self.report.metrics
        names = sorted(scores, key=lambda name: name != self.metric_for_best)[:MAX_HEADLINES]
        return [(name, scores[name]) for name in names]

    @property
    def has_intervals(self) -> bool:
        return any(score.low is not None or score.note for score in self.report.metrics.values())

    def lower_is_better(self, name: str) -> bool:
        return name in METRICS and not METRICS[name].greater_is_better

    @property
    def score_groups(self) -> list[list[str]]:
        """Metrics that share one scale: those where more is better; each of the others has a scale of its own."""
        names = list(self.report.metrics)
        lower = [name for name in names if self.lower_is_better(name)]
        higher = [name for name in names if name not in lower]
        return [group for group in (higher, *([name] for name in lower)) if group]

    @property
    def matrix_fits(self) -> bool:
        return 0 < len(self.report.confusion) <= MAX_MATRIX_CLASSES

    @property
    def evaluations_shown(self) -> list[EvalRecord]:
        """The last ones, where there are many."""
        return [] if self.curves is None else self.curves.evaluations[-MAX_EVALUATIONS:]


def select_rows(answers: Answers, lengths: Lengths | None) -> Selection:
    """Which rows the page shows: known before their texts are read."""
    one_class = answers.classes is not None and not KIND_SPECS[answers.kind].several_labels
    suspects = label_suspects(answers) if one_class else None
    cut = [] if lengths is None else lengths.cut_rows()[:MAX_CUT_ROWS].tolist()
    return Selection(worst_errors(answers, MAX_ERRORS), suspects, cut)


def build_page(
    title: str,
    report: EvalReport,
    answers: Answers,
    selection: Selection,
    raw: RawRows,
    *,
    curves: Curves | None,
    lengths: Lengths | None,
    metric_for_best: str | None,
    slice_score: SliceScore,
    facts: Iterable[tuple[str, str]],
) -> EvaluationPage:
    """Compute what the page shows. All rows of `answers`, `lengths` and `raw.columns` are in the order of the data."""
    suspicious = set() if selection.suspects is None else set(selection.suspects.rows.tolist())
    errors = [_shown(answers, raw, row, wrong, suspect=row in suspicious) for row, wrong in selection.errors]
    return EvaluationPage(
        title=title,
        report=report,
        answers=answers,
        metric_for_best=metric_for_best,
        level=slice_score.level,
        facts=list(facts),
        curves=curves,
        best=None if curves is None else curves.best,
        calibration=None if answers.probabilities is None else calibration(answers),
        residuals=residuals(answers) if answers.classes is None else None,
        pairs=_pairs(report),
        classes_shown=_classes_shown(report.per_class),
        slicings=_slicings(answers, lengths, raw, slice_score),
        slice_score=slice_score,
        slice_overall=score_all(answers, slice_score),
        errors=errors,
        num_errors=int((~answers.correct()).sum()),
        suspects=selection.suspects,
        suspect_rows=_suspect_rows(answers, selection, raw),
        lengths=lengths,
        cut_rows=[_shown(answers, raw, row, 0.0) for row in selection.cut],
        problem=raw.problem,
    )


def _shown(answers: Answers, raw: RawRows, row: int, number: float, *, suspect: bool = False) -> ShownRow:
    return ShownRow(
        answers.ids[row],
        answers.label_of(row),
        answers.prediction_of(row),
        number,
        raw.texts.get(row, ()),
        suspect,
    )


def _suspect_rows(answers: Answers, selection: Selection, raw: RawRows) -> list[ShownRow]:
    """The suspects that are not among the errors shown already; the prediction is the class suggested."""
    suspects, seen = selection.suspects, {row for row, _ in selection.errors}
    if suspects is None or answers.classes is None:
        return []
    rest = [place for place, row in enumerate(suspects.rows.tolist()) if row not in seen][:MAX_SUSPECTS]
    return [
        ShownRow(
            answers.ids[suspects.rows[place]],
            answers.label_of(suspects.rows[place]),
            answers.classes[suspects.suggested[place]],
            float(suspects.self_confidence[place]),
            raw.texts.get(int(suspects.rows[place]), ()),
            suspect=True,
        )
        for place in rest
    ]


def _pairs(report: EvalReport) -> list[tuple[str, str, int, float]]:
    if len(report.confusion) <= MAX_MATRIX_CLASSES and not report.confusion_cells:
        return []
    return confused_pairs(list(report.cells()), [score.label for score in report.per_class], MAX_PAIRS)


def _classes_shown(per_class: list[ClassScore]) -> list[ClassScore]:
    """All, or of many those with the lowest F1 among the classes that occur."""
    if len(per_class) <= MAX_CLASSES_SHOWN:
        return per_class
    return sorted((score for score in per_class if score.support), key=lambda score: score.f1)[:MAX_CLASSES_SHOWN]


def _slicings(answers: Answers, lengths: Lengths | None, raw: RawRows, how: SliceScore) -> list[Slicing]:
    slicings = []
    if lengths is not None:
        slicings.append(by_length(answers, lengths.tokens, how))
        if len(lengths.cut_rows()):
            cut = np.where(lengths.tokens >= lengths.limit, f"{lengths.limit} tokens", "shorter")
            slicings.append(by_column(answers, "length limit", cut.tolist(), how))
    return slicings + [by_column(answers, name, values, how) for name, values in raw.columns.items()]
