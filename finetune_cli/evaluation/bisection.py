"""Where a condition stops to hold, found by halving. The two points may lie in either order.

Dimensions: K searches at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from finetune_cli.evaluation.confusion import IntArray


def bisect(holds: Callable[[float], bool], inside: float, outside: float, halvings: int) -> tuple[float, float]:
    """Two points that are near each other: the condition holds at the first, and not at the second."""
    for _ in range(halvings):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside, outside


def bisect_whole(holds: Callable[[IntArray], np.ndarray], inside: IntArray, outside: IntArray) -> IntArray:
    """(K,): from `inside`, for which the condition is taken to hold, the last whole number that it holds for."""
    while (np.abs(outside - inside) > 1).any():
        middle = (inside + outside) // 2
        held = holds(middle)
        inside, outside = np.where(held, middle, inside), np.where(held, outside, middle)
    return inside
