"""The loss as a small plot of characters: training as a line of Braille dots, evaluations as the letter o.

The memory is constant: a run of any length is kept as at most COLUMNS means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

COLUMNS = 512  # a wide terminal cannot show more: two dots for each character
HEIGHT = 8
MIN_WIDTH = 20  # of the plot itself, in characters; with fewer the plot shows nothing
MARGIN = 12  # for the numbers at the left
MIN_POINTS, UPDATES_PER_POINT = 16, 8  # each point is a mean: the loss of one small batch varies too much
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a Braille character: 4 rows, 2 columns
BRAILLE, EVALUATION = 0x2800, "o"


class LossCurve:
    """The losses that the plot shows. num_updates: of the whole run; updates count from 1."""

    def __init__(self, num_updates: int) -> None:
        self.num_updates = num_updates
        self.size = min(COLUMNS, num_updates)
        self.sums = [0.0] * self.size
        self.rows = [0] * self.size
        self.evaluations: dict[int, float] = {}

    def add(self, update: int, loss: float, rows: int) -> None:
        """Add an update: the mean loss of its rows. A loss that is not finite is left out."""
        if math.isfinite(loss):
            self.sums[self._column(update)] += loss * rows
            self.rows[self._column(update)] += rows

    def add_evaluation(self, update: int, loss: float) -> None:
        if math.isfinite(loss):
            self.evaluations[update] = loss

    def _column(self, update: int) -> int:
        return min((update - 1) * self.size // self.num_updates, self.size - 1)

    def lines(self, width: int) -> list[str]:
        """The plot in lines of at most `width` characters; none when there is too little to show, or no room."""
        if width - MARGIN < MIN_WIDTH:
            return []
        points = max(MIN_POINTS, self.num_updates // UPDATES_PER_POINT)
        means = self._means(min(self.size, points, 2 * (width - MARGIN)))
        if len(means) < 2:
            return []
        values = [*means.values(), *self.evaluations.values()]
        low, high = min(values), max(values)
        labels = [f"{high:.4g}", *[""] * (HEIGHT - 2), f"{low:.4g}"]
        margin = max(map(len, labels))
        cells = _draw(means, width - MARGIN, low, high)
        for update, value in self.evaluations.items():
            column = (update - 1) * len(cells[0]) // self.num_updates
            cells[_row(value, low, high, HEIGHT)][column] = EVALUATION
        plot = [f"{label:>{margin}} |{''.join(line).rstrip()}" for label, line in zip(labels, cells, strict=True)]
        legend = "loss, training as a line" + (f", validation {EVALUATION}" if self.evaluations else "")
        return [legend, *plot, f"{'':>{margin}} +{'-' * len(cells[0])}", self._axis(margin + 2, len(cells[0]))]

    def _axis(self, margin: int, width: int) -> str:
        first, last = "1", f"update {self.num_updates}"
        return f"{'':>{margin}}{first}{last:>{width - len(first)}}"

    def _means(self, count: int) -> dict[float, float]:
        """Means over the rows of `count` equal parts of the run, by the part's middle as a share of it."""
        sums, rows = [0.0] * count, [0] * count
        for column in range(self.size):
            part = column * count // self.size
            sums[part] += self.sums[column]
            rows[part] += self.rows[column]
        return {(part + 0.5) / count: sums[part] / rows[part] for part in range(count) if rows[part]}


def _row(value: float, low: float, high: float, count: int) -> int:
    """The row, from 0 at the top, among `count`."""
    return round((high - value) / (high - low) * (count - 1)) if high > low else count // 2


def _draw(means: Mapping[float, float], width: int, low: float, high: float) -> list[list[str]]:
    """Characters, HEIGHT lines of `width`, with a line through the means."""
    bits = [[0] * width for _ in range(HEIGHT)]
    points = [(int(place * 2 * width), _row(mean, low, high, 4 * HEIGHT)) for place, mean in means.items()]
    for (left, start), (right, end) in pairwise(points):
        before = start
        for column in range(left, right + 1):
            row = round(start + (end - start) * (column - left) / max(right - left, 1))
            for dot in range(min(row, before), max(row, before) + 1):
                bits[dot // 4][column // 2] |= DOTS[dot % 4][column % 2]
            before = row
    return [[chr(BRAILLE + cell) if cell else " " for cell in line] for line in bits]
