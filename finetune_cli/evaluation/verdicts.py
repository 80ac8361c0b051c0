"""A comparison in one plain sentence."""

from __future__ import annotations

import math

from finetune_cli.errors import counted
from finetune_cli.evaluation.comparison import FEWEST_ROWS_OF_BOOTSTRAP, Difference


def describe(
    difference: Difference,
    *,
    greater_is_better: bool,
    level: float,
    a: str = "A",
    b: str = "B",
    p_adjusted: float | None = None,
    family: int = 1,
) -> str:
    """One plain sentence, decided by the p value at 1 - level: the adjusted one where there are several comparisons."""
    d = difference
    p_value = d.p_value if p_adjusted is None else p_adjusted
    if math.isnan(p_value):
        if d.num_rows < FEWEST_ROWS_OF_BOOTSTRAP and not math.isnan(d.difference):
            few = counted(d.num_rows, "row")
            return f"{d.metric}: {few} are too few for a test: {b} - {a} = {d.difference:+.3f}."
        rows = f"these {counted(d.num_rows, 'row', form=',')}" if d.num_rows > 1 else "this row"
        return f"{d.metric} is not defined on {rows}."
    p_text = _p_text(d, p_value, family)
    if p_value >= 1 - level or d.difference == 0:
        return (
            f"No difference on {d.metric} that {counted(d.num_rows, 'row', form=',')} can show: {b} - {a} = "
            f"{d.difference:+.3f} [{d.low:+.3f}, {d.high:+.3f}], {p_text}."
        )
    b_wins = (d.difference > 0) == greater_is_better
    winner, loser = (b, a) if b_wins else (a, b)
    low, high = (d.low, d.high) if d.difference > 0 else (-d.high, -d.low)
    direction = "" if greater_is_better else " (lower is better)"
    return (
        f"{winner} is better than {loser} on {d.metric}{direction} by "
        f"{abs(d.difference):.3f} [{low:.3f}, {high:.3f}], {p_text}."
    )


def _p_text(difference: Difference, p_value: float, family: int) -> str:
    """The p value; of McNemar's test with the names of both methods, since they can disagree near the level."""
    text = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"
    notes = ["interval: bootstrap, p: McNemar's test"] if difference.method == "mcnemar" else []
    if family > 1:
        notes.append(f"adjusted for {family} comparisons, alone {difference.p_value:.2g}")
    return f"{text} ({'; '.join(notes)})" if notes else text
