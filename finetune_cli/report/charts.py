"""Drawings as inline SVG: frames, whiskers, a reliability diagram, bars, points. Colours come from the page's CSS.

Charts are drawn 360 units wide, about their width on a telephone, so that their letters keep a readable size there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from finetune_cli.errors import counted
from finetune_cli.report.error_analysis import Calibration, Residuals

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 34
SQUARE = 300

Scale = Callable[[float], float]


@dataclass(frozen=True)
class Frame:
    """The plotting area: from values to places in the drawing."""

    x: Scale
    y: Scale
    height: int


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between low and high, about `count` of them."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_label(value: float) -> str:
    """As short as it can be: 0.0005 as 5e-4, 1500 as 1500, 2000000 as 2e6."""
    if value and (abs(value) < 0.001 or abs(value) >= 1_000_000):
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.6g}"


def whisker(
    value: float, low: float | None, high: float | None, domain: tuple[float, float], *, mark: float | None = None
) -> Markup:
    """A dot with its interval on a line as wide as its place. mark: the value to hold it against (a baseline)."""
    start, end = domain

    def place(number: float) -> str:
        return f"{min(100.0, max(0.0, 100 * (number - start) / ((end - start) or 1.0))):.2f}%"

    parts = ['<line class="rail" x1="0" x2="100%" y1="11" y2="11"/>']
    if mark is not None and math.isfinite(mark):
        parts.append(f'<line class="mark" x1="{place(mark)}" x2="{place(mark)}" y1="2" y2="20"/>')
    if low is not None and high is not None and math.isfinite(low):
        parts.append(f'<line class="range" x1="{place(low)}" x2="{place(high)}" y1="11" y2="11"/>')
    if math.isfinite(value):
        parts.append(f'<circle class="value" cx="{place(value)}" cy="11" r="4.5"/>')
    return Markup(f'<svg class="whisker" width="100%" height="22" aria-hidden="true">{"".join(parts)}</svg>')


def domain_of(values: Sequence[float | None], *, step: float = 0.1) -> tuple[float, float]:
    """A common scale for whiskers: the values' range, out to the next tenth and never beyond 1 when none is."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    if high > 1 or low < -1:
        span = (high - low) or abs(high) or 1.0
        return (0.0 if low >= 0 else low - span * 0.05), high + span * 0.05
    floor = -1.0 if low < 0 else 0.0
    return max(floor, math.floor(low / step - 0.2) * step), min(1.0, math.ceil(high / step + 0.2) * step)


def reliability_chart(calibration: Calibration) -> Markup:
    """Accuracy over confidence, with Wilson intervals; below, how many answers each bin has."""
    strip = 46
    start = min(0.5, math.floor(calibration.bins[0].confidence * 10) / 10)
    frame, grid = framed(
        (start, 1.0), (0.0, 1.0), x_title="confidence", width=SQUARE + 60, height=SQUARE, y_title="right", foot=strip
    )
    most = max(bin.n for bin in calibration.bins)
    floor = frame.height - BOTTOM
    drawn = [grid, svg_line(frame.x(start), frame.y(start), frame.x(1), frame.y(1), "ideal")]
    for bin in calibration.bins:
        left, right = frame.x(max(start, bin.low)), frame.x(bin.high)
        size = bin.n / most * (strip - 8)
        x, y = frame.x(bin.confidence), frame.y(bin.accuracy)
        said = f"{counted(bin.n, 'answer')} with confidence {bin.low:.2f} to {bin.high:.2f}: {bin.accuracy:.3f} right"
        drawn.append(
            f'<rect class="count" x="{left + 0.8:.1f}" y="{floor - size:.1f}" '
            f'width="{max(0.5, right - left - 1.6):.1f}" height="{size:.1f}"/>'
            + svg_line(x, frame.y(bin.accuracy_low), x, frame.y(bin.accuracy_high), "range")
            + svg_dot(x, y, "value", 4.5, said)
        )
    return svg(drawn, f"Reliability diagram, ECE {calibration.ece:.3f}", width=SQUARE + 60, height=SQUARE)


def scatter_chart(residuals: Residuals) -> Markup:
    """Predictions over labels; on the line they are equal."""
    values = [value for point in residuals.points for value in point]
    margin = (max(values) - min(values)) * 0.04 or 1.0
    both = (min(values) - margin, max(values) + margin)
    frame, grid = framed(both, both, x_title="label", width=SQUARE + 60, height=SQUARE, y_title="prediction")
    drawn = [grid, svg_line(frame.x(both[0]), frame.y(both[0]), frame.x(both[1]), frame.y(both[1]), "ideal")]
    drawn += [svg_dot(frame.x(x), frame.y(y), "point", 3) for x, y in residuals.points]
    return svg(drawn, "Predictions over labels", width=SQUARE + 60, height=SQUARE)


def residual_chart(residuals: Residuals) -> Markup:
    """How many rows have which residual; the line is at 0."""
    edges = residuals.edges
    frame, grid = framed((edges[0], edges[-1]), (0.0, max(residuals.counts) * 1.05), x_title="prediction - label")
    floor = frame.height - BOTTOM
    drawn = [grid]
    for low, high, count in zip(edges, edges[1:], residuals.counts, strict=False):
        left, width = frame.x(low) + 0.7, frame.x(high) - frame.x(low) - 1.4
        drawn.append(
            f'<rect class="bar" x="{left:.1f}" y="{frame.y(count):.1f}" width="{max(0.5, width):.1f}" '
            f'height="{floor - frame.y(count):.1f}"><title>{counted(count, "row")}</title></rect>'
        )
    if edges[0] < 0 < edges[-1]:
        drawn.append(svg_line(frame.x(0), TOP, frame.x(0), floor, "marked"))
    return svg(drawn, "Histogram of the residuals")


def framed(
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    *,
    x_title: str,
    y_title: str = "",
    width: int = WIDTH,
    height: int = HEIGHT,
    foot: int = 0,
    x_ticks: Sequence[tuple[float, str]] | None = None,
) -> tuple[Frame, str]:
    """The scales, and grid and axis labels as SVG. foot: room left free above the x axis. x_ticks: (value, label)."""

    def x(value: float) -> float:
        return LEFT + (value - x_range[0]) / ((x_range[1] - x_range[0]) or 1.0) * (width - LEFT - RIGHT)

    def y(value: float) -> float:
        floor = height - BOTTOM - foot
        return floor - (value - y_range[0]) / ((y_range[1] - y_range[0]) or 1.0) * (floor - TOP)

    drawn = []
    for tick in ticks(*y_range, count=4):
        drawn.append(svg_line(LEFT, y(tick), width - RIGHT, y(tick), "grid"))
        drawn.append(f'<text class="tick end" x="{LEFT - 6}" y="{y(tick) + 3.5:.1f}">{tick_label(tick)}</text>')
    floor = height - BOTTOM
    for tick, label in x_ticks or [(tick, tick_label(tick)) for tick in ticks(*x_range)]:
        drawn.append(f'<text class="tick mid" x="{x(tick):.1f}" y="{floor + 14}">{label}</text>')
    drawn.append(svg_line(LEFT, floor, width - RIGHT, floor, "axis"))
    drawn.append(f'<text class="title end" x="{width - RIGHT}" y="{height - 4}">{x_title}</text>')
    if y_title:
        drawn.append(f'<text class="title" x="{LEFT + 6}" y="{TOP + 8}">{y_title}</text>')
    return Frame(x, y, height), "".join(drawn)


def svg_line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def svg_dot(x: float, y: float, style: str, radius: float, said: str = "") -> str:
    """said: what a pointer over the dot shows, escaped."""
    start = f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"'
    return f"{start}><title>{said}</title></circle>" if said else f"{start}/>"


def svg_path(points: Sequence[tuple[float, float]], style: str) -> str:
    """A line through places of the drawing."""
    return f'<polyline class="curve {style}" points="{svg_points(points)}"/>'


def svg_points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def svg(drawn: Sequence[str], label: str, *, width: int = WIDTH, height: int = HEIGHT) -> Markup:
    said = Markup.escape(label)
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{said}">{"".join(drawn)}</svg>'
    )
