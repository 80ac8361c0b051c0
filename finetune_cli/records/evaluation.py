"""The scores of one split, and all that stands beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from finetune_cli.records.decision_rule import DecisionRule
from finetune_cli.records.plain import as_json, from_plain
from finetune_cli.records.verdicts import Choice, GateOutcome

TOO_FEW_ROWS = "too few rows for an interval"
MANY_CLASSES = 100  # above, a matrix of them and a probability for each of them in every row fill disks


@dataclass(frozen=True)
class MetricValue:
    """A metric with its interval; low and high are None when intervals are switched off or there is none.

    note: why there is none.
    """

    value: float
    low: float | None = None
    high: float | None = None
    note: str | None = None

    @classmethod
    def of(cls, value: float, interval: tuple[float, float] | None) -> MetricValue:
        """With an interval that was asked for; None: these rows are too few for one."""
        if interval is None:
            return cls(value, note=TOO_FEW_ROWS if math.isfinite(value) else None)
        return cls(value, *interval)

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f}{f' ({self.note})' if self.note else ''}"


@dataclass(frozen=True)
class Corrected:
    """A score of the best of several `candidates`, corrected for their choice on the rows that give it.

    low, high: its interval; None when there is none for the score as it is.
    """

    value: float
    low: float | None = None
    high: float | None = None
    candidates: int = 1

    def __str__(self) -> str:
        return str(MetricValue(self.value, self.low, self.high))


@dataclass(frozen=True)
class ClassScore:
    """How one class was recognised; support counts its true rows.

    intervals: of precision, recall and f1, [low, high] or None for too few rows; empty without intervals.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    intervals: dict[str, list[float] | None] = field(default_factory=dict)

    def shown(self, name: str) -> str:
        """A score with its interval, where there is one."""
        low, high = self.intervals.get(name) or (None, None)
        return str(MetricValue(getattr(self, name), low, high))


@dataclass(frozen=True)
class DecisionEffect:
    """Scores of one split without and with the decision rule of the model.

    cross_validated: on the rows that the rule was fitted on, where `after` is optimistic; None on others, or for too
    few rows.
    """

    rule: DecisionRule
    before: dict[str, MetricValue]
    after: dict[str, MetricValue]
    cross_validated: dict[str, MetricValue] | None


@dataclass(frozen=True)
class Answered:
    """The scores of the n rows whose answer reaches `min_confidence`; coverage: their share of all."""

    min_confidence: float
    n: int
    coverage: float
    metrics: dict[str, MetricValue]


# Of the file, where there are none.
LEFT_OUT = ("decision", "choice", "text_baseline", "answered", "gates", "confusion_cells", "folds")


@dataclass(frozen=True)
class PairedDifference:
    """How much higher the model's score is than the baseline's on the same rows, with its interval; p is two-sided.

    method: "mcnemar" | "bootstrap".
    """

    difference: float
    low: float
    high: float
    p_value: float
    method: str

    def __str__(self) -> str:
        p_value = f"{self.p_value:.3f}"
        shown = f"p {p_value}" if p_value != "0.000" else "p < 0.001"
        return f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}] {shown}"


@dataclass(frozen=True)
class TextBaseline:
    """TF-IDF with logistic regression (of numbers, ridge regression), fitted on `rows` rows of train.

    metrics: its scores. differences: the model's less its, for each metric that is defined for both.
    """

    rows: int
    metrics: dict[str, MetricValue]
    differences: dict[str, PairedDifference]

    def to_json(self) -> dict[str, Any]:
        """In metrics.json these scores have a note even where it is null."""
        return as_json(self)


@dataclass(frozen=True)
class EvalReport:
    """The scores of one split; `eval/<split>/metrics.json`.

    baseline: the same metrics for always answering the commonest training class (or set of them; in regression the
    mean). confusion: rows are true classes, columns predicted ones, in the order of `per_class`; empty in regression
    and where a row may have several classes. confusion_cells: the same above 100 classes, as (label, prediction, rows)
    where there are any. collapsed: the class, or the classes as `a, b` or `no label`, that every
    row was given although the labels have others; None for a healthy model.
    decision: what the decision rule changes, where the model has one; all the other scores are those with it.
    choice: whether the model was chosen on these rows; None where that is not known. corrected: by metric, the scores
    without what that choice added to them; in metrics.json they stand in `metrics`, beside the scores.
    folds: how many models answered these rows, each those that it was not trained on; None where one model did.
    text_baseline: a simple model of the words, fitted on the same rows as this one; None where there is none.
    answered, gates: those asked for; metrics.json is about the scores alone and has neither.
    """

    split: str
    n: int
    loss: float
    metrics: dict[str, MetricValue]
    baseline: dict[str, float]
    per_class: list[ClassScore] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    confusion_cells: list[tuple[int, int, int]] = field(default_factory=list)
    collapsed: str | None = None
    decision: DecisionEffect | None = None
    choice: Choice | None = None
    corrected: dict[str, Corrected] = field(default_factory=dict)
    text_baseline: TextBaseline | None = None
    folds: int | None = None
    answered: Answered | None = None
    gates: list[GateOutcome] = field(default_factory=list)

    @property
    def baseline_answer(self) -> str:
        """What the baseline gives to every row, in words. Only with one class a row is there a confusion matrix."""
        if not self.per_class:
            return "the mean"
        return "the commonest class" if self.confusion or self.confusion_cells else "the commonest set of labels"

    @property
    def said_of_choice(self) -> str | None:
        """Whose scores these are and whether a choice flatters them; None where there is nothing to say."""
        if self.folds is not None:
            return (
                f"These rows were answered by {self.folds} models, each those that it was not trained on "
                f"({self.folds}-fold cross-validation)."
            )
        return None if self.choice is None else str(self.choice)

    def cells(self) -> Iterator[tuple[int, int, int]]:
        """(label, answer, rows) of the confusion matrix where it is not 0, by class numbers; its largest part first of
        many classes."""
        yield from self.confusion_cells
        for truth, counts in enumerate(self.confusion):
            yield from ((truth, given, count) for given, count in enumerate(counts) if count)

    @property
    def shows_corrected(self) -> bool:
        """Whether the corrected scores differ from those that they correct."""
        return self.choice is not None and self.choice.candidates != 1 and bool(self.corrected)

    @property
    def scores(self) -> dict[str, MetricValue]:
        """The metrics, and the loss, which has no interval."""
        return self.metrics | {"loss": MetricValue(self.loss)}

    def to_json(self) -> dict[str, Any]:
        """A metric that is not defined on these rows (NaN) has the value null: JSON has no NaN."""
        entries = as_json(self, drop_null=("note",))
        for name, corrected in entries.pop("corrected").items():
            entries["metrics"][name]["corrected"] = corrected
        return {key: value for key, value in entries.items() if value or key not in LEFT_OUT}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> EvalReport:
        """Raises KeyError, TypeError or ValueError for what no `to_json` wrote."""
        entries = _with_nan(value)
        metrics = entries["metrics"].items()
        entries["corrected"] = {name: metric["corrected"] for name, metric in metrics if "corrected" in metric}
        if decision := entries.get("decision"):
            decision["rule"] = DecisionRule.from_json(decision["rule"])
        return from_plain(cls, entries)


class _OfASplit(Protocol):
    @property
    def split(self) -> str: ...


S = TypeVar("S", bound=_OfASplit)


def of_split(reports: Iterable[S], split: str = "validation") -> S:
    """What is said of one split among what is said of several."""
    return next(report for report in reports if report.split == split)


def _with_nan(value: Any) -> Any:
    """A copy, with NaN in place of the null of a score that is not defined."""
    if not isinstance(value, dict):
        return value
    undefined = {key: math.nan for key in ("value", "loss") if value.get(key, 0) is None}
    return {key: _with_nan(inner) for key, inner in value.items()} | undefined
