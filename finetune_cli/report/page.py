"""The content of an evaluation's page: which rows to show, and everything computed for it.

Its size does not grow with the data: lists are cut, diagrams are binned, texts are clipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from finetune_cli.evaluation.confusion import IntArray
from finetune_cli.records.evaluation import ClassScore, EvalReport, MetricValue
from finetune_cli.records.training import EvalRecord
from finetune_cli.report.charts import domain_of
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
    """All that the templates show. Rows of `answers`, `lengths` and `raw.columns` are in the order of the data.

    metric_for_best: by which the model was kept; None stands for the last one. facts: (name, value) about the run.
    """

    title: str
    report: EvalReport
    answers: Answers
    selection: Selection
    raw: RawRows
    _: KW_ONLY
    curves: Curves | None
    lengths: Lengths
    metric_for_best: str | None
    slice_score: SliceScore
    facts: list[tuple[str, str]]

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

    def score_domain(self, names: Sequence[str]) -> tuple[float, float]:
        """The scale of some metrics and their baselines."""
        scores, baselines = [self.report.metrics[name] for name in names], map(self.report.baseline.get, names)
        return domain_of([*(x for score in scores for x in (score.value, score.low, score.high)), *baselines])

    @property
    def evaluations_shown(self) -> list[EvalRecord]:
        """The last ones, where there are many."""
        return [] if self.curves is None else self.curves.evaluations[-MAX_EVALUATIONS:]

    @cached_property
    def calibration(self) -> Calibration | None:
        return None if self.answers.probabilities is None else calibration(self.answers)

    @cached_property
    def residuals(self) -> Residuals | None:
        return residuals(self.answers) if self.answers.classes is None else None

    @property
    def matrix_fits(self) -> bool:
        return 0 < len(self.report.confusion) <= MAX_MATRIX_CLASSES

    @property
    def pairs(self) -> list[tuple[str, str, int, float]]:
        """The most frequent confusions, in place of a matrix that does not fit; see `confused_pairs`."""
        classes = [score.label for score in self.report.per_class]
        return [] if self.matrix_fits else confused_pairs(list(self.report.cells()), classes, MAX_PAIRS)

    @property
    def classes_shown(self) -> list[ClassScore]:
        """All, or of many those with the lowest F1 among the classes that occur."""
        scores = self.report.per_class
        if len(scores) <= MAX_CLASSES_SHOWN:
            return scores
        return sorted((score for score in scores if score.support), key=lambda score: score.f1)[:MAX_CLASSES_SHOWN]

    @cached_property
    def slice_overall(self) -> float:
        return score_all(self.answers, self.slice_score)

    @cached_property
    def slicings(self) -> list[Slicing]:
        """By length, by the columns asked for, and, where rows were cut, those against the rest."""
        answers, lengths, how = self.answers, self.lengths, self.slice_score
        slicings = [by_length(answers, lengths.tokens, how)]
        if len(lengths.cut_rows()):
            cut = np.where(lengths.tokens >= lengths.limit, f"{lengths.limit} tokens", "shorter")
            slicings.append(by_column(answers, "length limit", cut.tolist(), how))
        return slicings + [by_column(answers, name, values, how) for name, values in self.raw.columns.items()]

    def slice_domain(self, slicing: Slicing) -> tuple[float, float]:
        ends = [end for group in slicing.groups for end in (group.score.low, group.score.high)]
        return domain_of([self.slice_overall, *ends])

    @property
    def num_errors(self) -> int:
        return int((~self.answers.correct()).sum())

    @cached_property
    def errors(self) -> list[ShownRow]:
        """The worst errors, with how wrong each is."""
        suspicious = set() if self.suspects is None else set(self.suspects.rows.tolist())
        return [self._shown(row, wrong, suspect=row in suspicious) for row, wrong in self.selection.errors]

    @property
    def suspects(self) -> Suspects | None:
        return self.selection.suspects

    @cached_property
    def suspect_rows(self) -> list[ShownRow]:
        """Suspects that are not among the errors shown, with the class suggested and the given label's probability."""
        suspects, errors = self.suspects, {row for row, _ in self.selection.errors}
        if suspects is None or self.answers.classes is None:
            return []
        columns = suspects.rows.tolist(), suspects.suggested.tolist(), suspects.self_confidence.tolist()
        rest = [suspect for suspect in zip(*columns, strict=True) if suspect[0] not in errors][:MAX_SUSPECTS]
        classes = self.answers.classes
        return [self._shown(row, number, suspect=True, rather=classes[suggested]) for row, suggested, number in rest]

    @cached_property
    def cut_rows(self) -> list[ShownRow]:
        return [self._shown(row, 0.0) for row in self.selection.cut]

    def _shown(self, row: int, number: float, *, suspect: bool = False, rather: str | None = None) -> ShownRow:
        """rather: a class in place of the prediction."""
        answers = self.answers
        return ShownRow(
            answers.ids[row],
            answers.label_of(row),
            answers.prediction_of(row) if rather is None else rather,
            number,
            self.raw.texts.get(row, ()),
            suspect,
        )


def select_rows(answers: Answers, lengths: Lengths) -> Selection:
    """Which rows the page shows: known before their texts are read."""
    one_class = answers.classes is not None and not KIND_SPECS[answers.kind].several_labels
    suspects = label_suspects(answers) if one_class else None
    return Selection(worst_errors(answers, MAX_ERRORS), suspects, lengths.cut_rows()[:MAX_CUT_ROWS].tolist())
