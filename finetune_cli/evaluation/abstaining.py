"""The confidence below which a model had better not answer, so that few of its answers are wrong: with a guarantee.

Learn then Test (Angelopoulos, Bates, Candès, Jordan and Lei 2021): each bound on the confidence is a hypothesis, "more
than so many of the rows answered are wrong", rejected by an exact binomial tail. Bounds are tried from safe to bold,
each only while all before it were rejected, so that their number costs nothing.

Dimensions: N rows.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from finetune_cli.errors import DataError
from finetune_cli.evaluation.bisection import bisect_whole
from finetune_cli.evaluation.confusion import FloatArray, IntArray
from finetune_cli.evaluation.kinds.base import BoolArray
from finetune_cli.records.decision_rule import Abstention

# Of the rows, how many the safest bound answers. Of fewer a single mistake often ends it all; of more, tasks of which
# few rows can be answered get no bound. Both shares were chosen with scripts/simulations/abstaining.py.
START = 0.2
WIDEST_STEP = 0.05  # from one bound to the next


def fit_abstention(confidence: FloatArray, right: BoolArray, *, max_error: float, level: float) -> Abstention:
    """The least confidence (of N answers, right or not) from which on at most `max_error` of the answers are wrong.

    "At most" holds in a share `level` of all draws of such rows. It is about rows like these, and about their answers
    as a whole, not each of them. Raises DataError with the numbers when these rows cannot give it.
    """
    order = np.argsort(-confidence, kind="stable")
    ordered, wrong = confidence[order], np.cumsum(~right[order], dtype=np.int64)
    corners = fewest_rows(len(ordered), max_error, 1 - level)
    bounds = _bounds(corners, len(ordered))
    bounds = np.unique(np.searchsorted(-ordered, -ordered[bounds - 1], side="right"))  # equals are answered together
    allowed = np.searchsorted(corners, bounds, side="right") - 1
    passed = np.logical_and.accumulate(wrong[bounds - 1] <= allowed)
    if not passed[0]:
        raise DataError(_refusal(int(bounds[0]), wrong, corners, max_error, level))
    answered = int(bounds[passed][-1])
    return Abstention(float(ordered[answered - 1]), max_error, level, answered / len(ordered), int(wrong[answered - 1]))


def fewest_rows(num_rows: int, max_error: float, risk: float) -> IntArray:
    """(K,), up to `num_rows`: how few rows reject "more than `max_error` are wrong" when none of them, one, two ... are
    wrong, at an error of the first kind of `risk`."""
    from scipy.special import bdtr

    most = num_rows * max_error + math.sqrt(-num_rows * math.log1p(-risk) / 2)  # Hoeffding: more never reject
    wrong = np.arange(min(num_rows, int(most)) + 1)
    rows = bisect_whole(
        lambda rows: bdtr(wrong, rows, max_error) <= risk, inside=np.full(len(wrong), num_rows + 1), outside=wrong
    )
    return rows[rows <= num_rows]


def _bounds(corners: IntArray, num_rows: int) -> IntArray:
    """How many rows are answered at each bound, from safe to bold.

    The corners, because a test says most with the fewest rows for its number of mistakes. Where they are far apart,
    bounds between them.
    """
    safe = corners[corners >= START * num_rows]
    ends = np.unique([*(safe if len(safe) else corners[-1:]), num_rows])
    width = max(1, round(WIDEST_STEP * num_rows))
    between = [np.linspace(a, b, -(-(b - a) // width), endpoint=False) for a, b in itertools.pairwise(ends)]
    return np.unique(np.concatenate([*between, ends]).astype(np.int64))


def _refusal(rows: int, wrong: IntArray, corners: IntArray, max_error: float, level: float) -> str:
    needed = math.ceil(math.log(1 - level) / math.log1p(-max_error))
    allowed = int(np.searchsorted(corners, rows, side="right")) - 1
    said = f"without any mistake it takes {needed:,}" if allowed < 0 else f"at most {allowed} may be"
    return (
        f"--fit abstain: these {len(wrong):,} validation rows cannot give at most {max_error:.1%} wrong with "
        f"{level:.0%} confidence. Of the {rows:,} surest answers {int(wrong[rows - 1])} are wrong, and {said}. Allow a "
        "larger --max-error or a lower --confidence, or validate on more rows."
    )
