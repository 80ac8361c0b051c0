"""The page of a learning curve: what more rows would bring, in words, as a picture and as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup

from finetune_cli.records.learning_curve import FORECAST_LEVEL, CurvePoint, CurveReport, Forecast
from finetune_cli.report.charts import framed, svg, svg_dot, svg_line, svg_path, svg_points
from finetune_cli.report.rendering import render_html
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.system.files import write_text

LABEL_ROOM = 0.11  # of the width: labels of rows that are nearer would overlap


def write_curve(run: RunDir, report: CurveReport) -> None:
    """Write report.html of the whole: one file without scripts, as all pages."""
    html = render_html(
        "learning_curve.html",
        title=run.path.resolve().name,
        report=report,
        chart=curve_chart(report.points, report.metric, report.forecast),
        level=f"{100 * report.level:g} %",
        forecast_level=f"{100 * FORECAST_LEVEL:g} %",
    )
    write_text(run.report, html)


def curve_chart(points: Sequence[CurvePoint], metric: str, forecast: Forecast | None) -> Markup:
    """Scores over rows, on a logarithmic axis: a dot for each run, the power law with its band, and the forecast."""
    runs = [(point.rows, seed, value) for point in points for seed, value in point.values.items()]
    runs = [run for run in runs if math.isfinite(run[2])]
    if not runs:
        return Markup()
    band = forecast.band if forecast else []
    heights = [value for *_, value in runs] + [end for one in band for end in (one.low, one.high)]
    heights += [forecast.low, forecast.high] if forecast else []
    margin = (max(heights) - min(heights)) * 0.06 or 0.1
    rows = sorted({point.rows for point in points} | ({forecast.rows} if forecast else set()))
    side = (math.log(rows[-1] / rows[0]) or 1.0) * 0.03
    frame, grid = framed(
        (math.log(rows[0]) - side, math.log(rows[-1]) + side),
        (min(heights) - margin, max(heights) + margin),
        x_title="rows of train",
        y_title=metric,
        x_ticks=_labels(rows),
    )

    def place(count: float, score: float) -> tuple[float, float]:
        return frame.x(math.log(count)), frame.y(score)

    drawn = [grid]
    if forecast:
        edge = [place(one.rows, one.high) for one in band] + [place(one.rows, one.low) for one in reversed(band)]
        x, y = place(forecast.rows, forecast.score)
        interval = f"{forecast.score:.3f} [{forecast.low:.3f}, {forecast.high:.3f}]"
        drawn += [
            f'<polygon class="band" points="{svg_points(edge)}"/>',
            svg_path([place(one.rows, one.score) for one in band], "first"),
            svg_line(x, frame.y(forecast.low), x, frame.y(forecast.high), "range"),
            svg_dot(x, y, "value", 4.5, f"a training with {forecast.rows:,} rows: {interval}"),
        ]
    for count, seed, value in runs:
        drawn.append(svg_dot(*place(count, value), "dot second", 3.2, f"{count:,} rows, seed {seed}: {value:.4g}"))
    return svg(drawn, f"{metric} over rows of train")


def _labels(rows: Sequence[int]) -> list[tuple[float, str]]:
    """The places of these rows with their numbers, without a label that would touch the one on its right."""
    places = [math.log(count) for count in rows]
    room = (places[-1] - places[0]) * LABEL_ROOM
    labels = [(places[-1], f"{rows[-1]:,}")]
    for (place, _), count in zip(reversed(list(pairwise(places))), reversed(rows[:-1]), strict=True):
        if labels[-1][0] - place >= room:
            labels.append((place, f"{count:,}"))
    return labels[::-1]
