"""Student's t distribution for whole degrees of freedom, where it has a closed form."""

from __future__ import annotations

import math


def t_two_sided_p(t: float, freedom: int) -> float:
    """P(|T| >= |t|), by the finite series of Abramowitz and Stegun 26.7.3 and 26.7.4; absolute error below 1e-12."""
    angle = math.atan2(abs(t), math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(odd, freedom - 1, 2):
        total += term
        term *= cosine**2 * (k + 1) / (k + 2)
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return min(1.0, max(0.0, 1 - inside))


def t_quantile(level: float, freedom: int) -> float:
    """The t with P(|T| <= t) = level, by bisection; level strictly between 0 and 1."""
    low, high = 0.0, 1.0
    while t_two_sided_p(high, freedom) > 1 - level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_two_sided_p(middle, freedom) > 1 - level else (low, middle)
    return (low + high) / 2
