"""What is said about scores: whether the choice of the model flatters them, and whether they pass a gate."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
