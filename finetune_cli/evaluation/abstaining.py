"""The confidence below which a model had better not answer, so that few of its answers are wrong: with a guarantee.

Learn then Test (Angelopoulos, Bates, Candès, Jordan and Lei 2021): each bound on the confidence is a hypothesis, "more
than so many of the rows answered are wrong", rejected by an exact binomial tail. Bounds are tried from safe to bold,
each only while all before it were rejected, so that their number costs nothing.

Dimensions: N rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from finetune_cli.errors import DataError
from finetune_cli.evaluation.confusion import FloatArray
from finetune_cli.evaluation.kinds.base import BoolArray
from finetune_cli.records.decision_rule import Abstention

# Where to start, as shares of the rows, the surest first, with the share of the allowed risk that each start may take.
# Of fewer rows a single mistake decides; the second start is for tasks of which few rows can be answered at all.
STARTS = ((0.3, 0.9), (0.1, 0.1))
STEP = 0.01  # of the rows, from one bound to the next: finer ones stop more often by chance


def fit_abstention(confidence: FloatArray, right: BoolArray, *, max_error: float, level: float) -> Abstention:
    """The least confidence (of N answers, right or not) from which on at most `max_error` of the answers are wrong.

    "At most" holds in a share `level` of all draws of such rows. It is about rows like these, and about their answers
    as a whole, not each of them. Raises DataError with the numbers when these rows cannot give it.
    """
    from scipy.special import bdtr

    order = np.argsort(-confidence, kind="stable")
    ordered, wrong = confidence[order], np.cumsum(~right[order])
    answered = 0
    for start, share in STARTS:
        for rows in _bounds(ordered, start):
            if bdtr(int(wrong[rows - 1]), rows, max_error) > share * (1 - level):
                break
            answered = max(answered, rows)
    if not answered:
        raise DataError(_refusal(ordered, wrong, max_error, level))
    return Abstention(float(ordered[answered - 1]), max_error, level, answered / len(ordered), int(wrong[answered - 1]))


def _bounds(ordered: FloatArray, start: float) -> Iterator[int]:
    """How many rows are answered at each bound; rows of equal confidence are answered together."""
    rows, total = math.ceil(start * len(ordered)), len(ordered)
    while True:
        rows = int(np.searchsorted(-ordered, -ordered[rows - 1], side="right"))
        yield rows
        if rows == total:
            return
        rows = min(total, rows + max(1, round(STEP * total)))


def _refusal(ordered: FloatArray, wrong: np.ndarray, max_error: float, level: float) -> str:
    (start, share), *_ = STARTS
    rows = next(_bounds(ordered, start))
    allowed = most_errors(rows, max_error, share * (1 - level))
    needed = math.ceil(math.log(share * (1 - level)) / math.log1p(-max_error))
    asked = f"at most {max_error:.1%} wrong with {level:.0%} confidence"
    said = f"without any mistake it takes {needed:,}" if rows < needed else f"at most {allowed} may be"
    return (
        f"--fit abstain: these {len(ordered):,} validation rows cannot give {asked}. Of the {rows:,} surest answers "
        f"{int(wrong[rows - 1])} are wrong, and {said}. Allow a larger --max-error or a lower --confidence, or "
        "validate on more rows."
    )


def most_errors(rows: int, max_error: float, risk: float) -> int:
    """The most wrong answers of so many with which "more than `max_error` are wrong" is rejected; -1 for none."""
    from scipy.special import bdtr

    counts = np.arange(rows + 1)
    return int((bdtr(counts, rows, max_error) <= risk).sum()) - 1
