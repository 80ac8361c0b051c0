"""The scores of one split, and all that stands beside them."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from finetune_cli.records.decision_rule import DecisionRule

TOO_FEW_ROWS = "too few rows for an interval"


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


def as_json(record: Any) -> dict[str, Any]:
    """A record's fields, and those of the records in it; without the note of a metric that has none."""
    return dataclasses.asdict(record, dict_factory=lambda fields: {k: v for k, v in fields if (k, v) != ("note", None)})


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
class Choice:
    """Whether the model was chosen on the rows that score it: as the best of `candidates` by `metric`.

    candidates: 1 when nothing was chosen on them; None when it is not known any more what was to choose from.
    """

    candidates: int | None
    metric: str | None = None

    def __str__(self) -> str:
        if self.candidates == 1:
            return "Nothing was chosen on these rows, so the scores need no correction."
        if self.candidates is None:
            return (
                "The model was chosen on these rows, so its scores are too good by an unknown amount: this run kept no "
                "predictions of the other evaluations."
            )
        return (
            f"The model is the best of {self.candidates} evaluations on these rows, by {self.metric}: as they are, its "
            "scores are too good. Believe the corrected ones."
        )


@dataclass(frozen=True)
class ClassScore:
    """How one class was recognised; support counts its true rows."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class GateOutcome:
    """A gate and the score that it was held against.

    baseline: the other run's score, for a `max-drop`. note: what is to know of the score; empty for most.
    """

    gate: str
    passed: bool
    found: float
    baseline: float | None = None
    note: str = ""

    @property
    def finding(self) -> str:
        """`found 0.8800`, with the baseline's number and the note where there are such."""
        found = "not defined on these rows" if math.isnan(self.found) else f"found {self.found:.4f}"
        found += "" if self.baseline is None else f", baseline {self.baseline:.4f}"
        return f"{found}, {self.note}" if self.note else found


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

    def to_json(self) -> dict[str, Any]:
        return {**as_json(self), "rule": self.rule.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> DecisionEffect:
        scores = {
            key: value[key] and {name: MetricValue(**metric) for name, metric in value[key].items()}
            for key in ("before", "after", "cross_validated")
        }
        return cls(DecisionRule.from_json(value["rule"]), **scores)


@dataclass(frozen=True)
class Answered:
    """The scores of the n rows whose answer reaches `min_confidence`; coverage: their share of all."""

    min_confidence: float
    n: int
    coverage: float
    metrics: dict[str, MetricValue]


@dataclass(frozen=True)
class EvalReport:
    """The scores of one split; `eval/<split>/metrics.json`.

    baseline: the same metrics for always answering the commonest training class (or set of them; in regression the
    mean). confusion: rows are true classes, columns predicted ones, in the order of `per_class`; empty in regression
    and where a row may have several classes. collapsed: the class, or the classes as `a, b` or `no label`, that every
    row was given although the labels have others; None for a healthy model.
    decision: what the decision rule changes, where the model has one; all the other scores are those with it.
    choice: whether the model was chosen on these rows; None where that is not known. corrected: by metric, the scores
    without what that choice added to them; in metrics.json they stand in `metrics`, beside the scores.
    answered, gates: those asked for; metrics.json is about the scores alone and has neither.
    """

    split: str
    n: int
    loss: float
    metrics: dict[str, MetricValue]
    baseline: dict[str, float]
    per_class: list[ClassScore] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    collapsed: str | None = None
    decision: DecisionEffect | None = None
    choice: Choice | None = None
    corrected: dict[str, Corrected] = field(default_factory=dict)
    answered: Answered | None = None
    gates: list[GateOutcome] = field(default_factory=list)

    @property
    def baseline_answer(self) -> str:
        """What the baseline gives to every row, in words. Only with one class a row is there a confusion matrix."""
        if not self.per_class:
            return "the mean"
        return "the commonest class" if self.confusion else "the commonest set of labels"

    @property
    def shows_corrected(self) -> bool:
        """Whether the corrected scores differ from those that they correct."""
        return self.choice is not None and self.choice.candidates != 1 and bool(self.corrected)

    def to_json(self) -> dict[str, Any]:
        """A metric that is not defined on these rows (NaN) has the value null: JSON has no NaN."""
        fields = as_json(self)
        for name, corrected in fields.pop("corrected").items():
            fields["metrics"][name]["corrected"] = corrected
        for metric in fields["metrics"].values():
            metric["value"] = metric["value"] if math.isfinite(metric["value"]) else None
        if self.decision:
            fields["decision"] = self.decision.to_json()
        optional = ("decision", "choice", "answered", "gates")
        return {key: value for key, value in fields.items() if value or key not in optional}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> EvalReport:
        undefined = {"value": math.nan}
        scores = {name: dict(metric) for name, metric in value["metrics"].items()}
        corrected = {
            name: Corrected(**metric.pop("corrected")) for name, metric in scores.items() if "corrected" in metric
        }
        metrics = {
            name: MetricValue(**(metric | undefined if metric["value"] is None else metric))
            for name, metric in scores.items()
        }
        choice = Choice(**value["choice"]) if value.get("choice") else None
        per_class = [ClassScore(**score) for score in value["per_class"]]
        decision = DecisionEffect.from_json(value["decision"]) if value.get("decision") else None
        read = {"metrics": metrics, "per_class": per_class, "decision": decision}
        return cls(**{**value, **read, "choice": choice, "corrected": corrected})
