"""Drawings of the course of a training: values over its updates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from finetune_cli.report.charts import BOTTOM, TOP, Frame, framed, svg, svg_dot, svg_line, svg_path
from finetune_cli.report.curves import Curves, Point, smoothed


@dataclass(frozen=True)
class Line:
    """One curve. style: a CSS class. dots: mark each point (for the few points of evaluations)."""

    name: str
    points: Sequence[Point]
    style: str
    dots: bool = False


def loss_chart(curves: Curves, split: str) -> Markup:
    """The training loss and its smoothed course, and the loss of each evaluation of the split."""
    lines = [
        Line("training loss", curves.loss, "noise"),
        Line("training loss, smoothed", smoothed(curves.loss), "first"),
        Line(f"{split} loss", [(float(one.step), one.loss) for one in curves.evaluations], "second", dots=True),
    ]
    return line_chart(lines, label="Loss over updates", marked=_best(curves), y_from_zero=True)


def score_chart(curves: Curves, metric: str) -> Markup:
    points = [(float(one.step), one.metrics[metric]) for one in curves.evaluations if metric in one.metrics]
    line = Line(metric, points, "second", dots=True)
    return line_chart([line], label=f"{metric} over updates", marked=_best(curves))


def learning_rate_chart(curves: Curves) -> Markup:
    line = Line("learning rate", curves.learning_rate, "first")
    return line_chart([line], label="Learning rate over updates", y_from_zero=True)


def _best(curves: Curves) -> float | None:
    return None if curves.best is None else float(curves.best.step)


def line_chart(lines: Sequence[Line], *, label: str, marked: float | None = None, y_from_zero: bool = False) -> Markup:
    """Curves over updates. label: what is drawn, for readers of the page's text. marked: an update to point out."""
    points = [point for line in lines for point in line.points if math.isfinite(point[1])]
    if not points:
        return Markup()
    values = [y for _, y in points]
    low, high = (0.0 if y_from_zero else min(values)), max(values)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    frame, grid = framed(
        (min(0.0, min(x for x, _ in points)), max(x for x, _ in points)),
        (low if y_from_zero else low - margin, high + margin),
        x_title="update",
    )
    drawn = [grid]
    if marked is not None:
        drawn.append(svg_line(frame.x(marked), TOP, frame.x(marked), frame.height - BOTTOM, "marked"))
    drawn += [_curve(line, frame) for line in lines]
    return svg(drawn, label)


def _curve(line: Line, frame: Frame) -> str:
    points = [(x, y) for x, y in line.points if math.isfinite(y)]
    drawn = [svg_path([(frame.x(x), frame.y(y)) for x, y in points], line.style)]
    for x, y in points if line.dots else ():
        said = f"{Markup.escape(line.name)} {y:.4g} after update {x:g}"
        drawn.append(svg_dot(frame.x(x), frame.y(y), f"dot {line.style}", 3.2, said))
    return "".join(drawn)
