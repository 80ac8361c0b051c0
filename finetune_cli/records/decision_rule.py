"""How a classifier's probabilities become its answers: a temperature and thresholds, stored beside the weights.

model/decision.json, in which what was not fitted is null:
{"temperature": 1.7, "thresholds": {"positive": 0.37}, "for": "f1", "fitted_on": "validation", "n": 408}

and, where the model is to abstain, "abstain": {"below": 0.91, "max_error": 0.05, "confidence": 0.9, "answered": 0.62,
"wrong": 7}.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from finetune_cli.errors import MissingError
from finetune_cli.records.plain import is_finite_number
from finetune_cli.tasks import KIND_SPECS, METRICS, Kind, metrics_for

DECISION_FILE = "decision.json"

# What a threshold can be fitted for; of several labels a row, what the classes contribute to one by one.
THRESHOLD_METRICS: dict[Kind, tuple[str, ...]] = {
    "classification": tuple(name for name in metrics_for("classification", 2) if not METRICS[name].of_scores),
    "multilabel": ("f1_macro", "hamming_loss"),
    "regression": (),
}


@dataclass(frozen=True)
class Abstention:
    """No answer whose confidence is lower than `below`: so at most `max_error` of the answers are wrong, with this
    confidence. answered: the share of the rows it was fitted on; wrong: how many of these answers."""

    below: float
    max_error: float
    confidence: float
    answered: float
    wrong: int

    def __str__(self) -> str:
        promise = f"at most {self.max_error:.3g} wrong with {self.confidence:.0%} confidence"
        return f"no answer below a confidence of {self.below:.4g} ({promise}; {self.answered:.1%} answered)"


@dataclass(frozen=True)
class DecisionRule:
    """temperature: logits are divided by it before softmax or sigmoid (Guo et al. 2017). None: taken as they are.

    thresholds: a class is answered where its probability, with the temperature, is above its own. Of two classes one
    has a threshold, and the other is answered else; with several labels a row, 0.5 or more does for a class without.
    metric: what the thresholds were chosen for. split, n: the rows that all was fitted on. abstention: of a model that
    is not to answer every row.
    """

    temperature: float | None = None
    thresholds: dict[str, float] = field(default_factory=dict)
    metric: str | None = None
    split: str = "validation"
    n: int = 0
    abstention: Abstention | None = None

    def was_fitted_on(self, split: str, n: int) -> bool:
        """Whether these are the rows that it was fitted on."""
        return (split, n) == (self.split, self.n)

    def to_json(self) -> dict[str, Any]:
        fitted = {"temperature": self.temperature, "thresholds": self.thresholds or None, "for": self.metric}
        abstain = {} if self.abstention is None else {"abstain": asdict(self.abstention)}
        return {**fitted, "fitted_on": self.split, "n": self.n, **abstain}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> DecisionRule:
        return cls(
            value.get("temperature"),
            value.get("thresholds") or {},
            value.get("for"),
            value.get("fitted_on", "validation"),
            value.get("n", 0),
            Abstention(**value["abstain"]) if value.get("abstain") else None,
        )

    def __str__(self) -> str:
        parts = [] if self.temperature is None else [f"temperature {self.temperature:.4g}"]
        chosen_for = f" for {self.metric}" if self.metric else ""
        if len(self.thresholds) == 1:
            parts += [f"{name!r} above {value:.4g}{chosen_for}" for name, value in self.thresholds.items()]
        elif self.thresholds:
            low, high = min(self.thresholds.values()), max(self.thresholds.values())
            parts.append(f"thresholds of {len(self.thresholds)} classes ({low:.4g} to {high:.4g}){chosen_for}")
        if self.abstention is not None:
            parts.append(str(self.abstention))
        return ", ".join(parts) or "nothing is fitted"


def read_rule(model_dir: Path, classes: Sequence[str] | None, kind: Kind) -> DecisionRule | None:
    """The rule of a model; None when it has none. classes: the model's, None for regression.

    Raises MissingError for a file that is no rule of this model.
    """
    path = model_dir / DECISION_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as err:
        raise _damaged(path, f"it cannot be read as JSON ({err})") from err
    if problem := _problem(content, classes, kind):
        raise _damaged(path, problem)
    return DecisionRule.from_json(content)


def _damaged(path: Path, problem: str) -> MissingError:
    return MissingError(
        f"{path} is no decision rule of this model: {problem}. Fit it anew with finetune evaluate RUN --fit ..., or "
        "delete the file."
    )


def _problem(content: Any, classes: Sequence[str] | None, kind: Kind) -> str | None:
    """Why this is no rule of a model with these classes."""
    known = [*DecisionRule().to_json(), "abstain"]
    if not isinstance(content, dict):
        return "expected an object"
    if unknown := content.keys() - set(known):
        return f"unknown key {min(unknown)!r}, expected {', '.join(known)}"
    if classes is None:
        return "the model predicts a number"
    temperature, metric, metrics = content.get("temperature"), content.get("for"), THRESHOLD_METRICS[kind]
    if temperature is not None and not (is_finite_number(temperature) and temperature > 0):
        return f"temperature is {temperature!r}, expected a number above 0"
    if metric is not None and metric not in metrics:
        return f"for is {metric!r}, expected one of {', '.join(metrics)}"
    if not isinstance(content.get("fitted_on", ""), str) or type(content.get("n", 0)) is not int:
        return "expected the name of a split in fitted_on and a whole number in n"
    return _threshold_problem(content.get("thresholds"), classes, kind) or _abstain_problem(
        content.get("abstain"), kind
    )


def _abstain_problem(abstain: Any, kind: Kind) -> str | None:
    if abstain is None:
        return None
    if KIND_SPECS[kind].several_labels:
        return "abstain is for one class a row, and this model gives several"
    names = [entry.name for entry in fields(Abstention)]
    if not isinstance(abstain, dict) or set(abstain) != set(names):
        return f"abstain is {abstain!r}, expected an object with {', '.join(names)}"
    for name, value in abstain.items():
        if not is_finite_number(value) or value < 0 or (name != "wrong" and value > 1):
            return f"abstain.{name} is {value!r}, expected a number{'' if name == 'wrong' else ' from 0 to 1'}"
    return None


def _threshold_problem(thresholds: Any, classes: Sequence[str], kind: Kind) -> str | None:
    if thresholds is None:
        return None
    if not isinstance(thresholds, dict) or not thresholds:
        return f"thresholds is {thresholds!r}, expected a class with its probability"
    if not KIND_SPECS[kind].several_labels and (len(classes) != 2 or len(thresholds) != 1):
        return f"one threshold is for two classes; there are {len(thresholds)} of them and {len(classes)} classes"
    for name, value in thresholds.items():
        if name not in classes:
            return f"a threshold is for {name!r}, and the model's classes are {', '.join(classes)}"
        if not is_finite_number(value) or not 0 <= value <= 1:
            return f"the threshold of {name!r} is {value!r}, expected a number from 0 to 1"
    return None
