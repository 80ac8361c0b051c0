"""Drawings of a search: its scores over trials, each setting against the score, all settings of a trial as one line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from markupsafe import Markup, escape

from finetune_cli.records.sweep import SweepReport, TrialResult
from finetune_cli.report.charts import BOTTOM, HEIGHT, TOP, Frame, framed, svg, svg_dot, svg_line, svg_path, tick_label
from finetune_cli.report.rendering import clean

MARGIN = 0.06  # of an axis, beyond its first and last value
AXIS_ROOM = 118  # between two axes of parallel coordinates
LEFT_ROOM, RIGHT_ROOM = 84, 48  # for the labels of the first axis, and the name of the last one
FAINTEST = 0.12  # of the line of the worst trial
LONGEST_LABEL, LONGEST_NAME = 12, 18  # letters
MOST_LABELS = 5  # below one chart


@dataclass(frozen=True)
class Axis:
    """What was tried for a setting, as places from 0 to 1. choice: as in sweep.parameters."""

    key: str
    choice: Any

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]

    def place(self, value: Any) -> float:
        if not isinstance(self.choice, dict):
            place = next(n for n, tried in enumerate(self.choice) if (tried, type(tried)) == (value, type(value)))
            return place / (len(self.choice) - 1)
        low, high = self.choice["low"], self.choice["high"]
        scale = math.log if self.choice.get("log") else float
        return (scale(value) - scale(low)) / (scale(high) - scale(low))

    def ticks(self) -> list[tuple[float, str]]:
        """(place, label): each value of a list, or the ends and the middle of a range."""
        if not isinstance(self.choice, dict):
            return [(self.place(value), setting_label(value)) for value in self.choice]
        low, high = self.choice["low"], self.choice["high"]
        middle = math.sqrt(low * high) if self.choice.get("log") else (low + high) / 2
        return [(0.0, setting_label(low)), (0.5, setting_label(float(f"{middle:.2g}"))), (1.0, setting_label(high))]


def setting_label(value: Any) -> str:
    """A value of the config, as SVG text of a few letters."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, int | float):
        text = tick_label(value)
    else:
        text = _end_of(clean(value), LONGEST_LABEL)
    return str(escape(text))


def _end_of(text: str, most: int) -> str:
    """The end of a long path or key tells more than its start."""
    return text if len(text) <= most else "\N{HORIZONTAL ELLIPSIS}" + text[1 - most :]


def scored(report: SweepReport) -> list[TrialResult]:
    """The trials that can be drawn: complete ones, and pruned ones with their last score."""
    return [trial for trial in report.trials if trial.score is not None and math.isfinite(trial.score.value)]


def history_chart(report: SweepReport) -> Markup:
    """A dot for each trial, and as a line the best of the complete ones so far."""
    trials = scored(report)
    frame, grid = framed((-0.5, len(report.trials) - 0.5), _score_range(trials), x_title="trial")
    complete = [trial for trial in trials if trial.state == "complete"]
    best = accumulate(map(_value, complete), max if report.greater_is_better else min)
    line = [(frame.x(trial.number), frame.y(value)) for trial, value in zip(complete, best, strict=True)]
    drawn = [grid, svg_path(line, "noise")]
    drawn += [_dot(trial, report, frame, trial.number) for trial in trials]
    return svg(drawn, f"{report.metric} of each trial")


def slice_chart(report: SweepReport, axis: Axis) -> Markup:
    """The score of each trial over its value of one setting."""
    trials = scored(report)
    ticks = axis.ticks()
    shown = ticks[:: -(-len(ticks) // MOST_LABELS)]
    frame, grid = framed((-MARGIN, 1 + MARGIN), _score_range(trials), x_title="", x_ticks=shown)
    drawn = [grid, *(_dot(trial, report, frame, axis.place(trial.values[axis.key])) for trial in trials)]
    return svg(drawn, f"{report.metric} over {axis.key}")


def parallel_chart(report: SweepReport, axes: Sequence[Axis]) -> Markup:
    """Each complete trial as a line through its values and its score; the better, the darker, and the best orange."""
    trials = [trial for trial in scored(report) if trial.state == "complete"]
    if not trials:
        return Markup()
    low, high = _score_range(trials)
    floor, ends = HEIGHT - BOTTOM, (float(f"{low:.3g}"), float(f"{high:.3g}"))
    drawn = []
    columns = [(_end_of(axis.name, LONGEST_NAME), axis.ticks()) for axis in axes]
    columns.append((report.metric, [(0.0, tick_label(ends[0])), (1.0, tick_label(ends[1]))]))
    for number, (name, marks) in enumerate(columns):
        x = LEFT_ROOM + number * AXIS_ROOM
        drawn.append(svg_line(x, TOP, x, floor, "axis"))
        drawn.append(f'<text class="title mid" x="{x}" y="{HEIGHT - 8}">{escape(name)}</text>')
        for place, label in marks:
            drawn.append(
                f'<text class="tick end" x="{x - 5}" y="{floor - place * (floor - TOP) + 3.5:.1f}">{label}</text>'
            )
    for trial in sorted(trials, key=lambda one: (one.number == report.best, _goodness(one, report))):
        places = [*(axis.place(trial.values[axis.key]) for axis in axes), (_value(trial) - low) / (high - low)]
        drawn.append(_trial_line(trial, report, trials, places, floor))
    width = LEFT_ROOM + (len(columns) - 1) * AXIS_ROOM + RIGHT_ROOM
    return svg(drawn, "Settings and score of each trial", width=width)


def _trial_line(
    trial: TrialResult, report: SweepReport, trials: Sequence[TrialResult], places: Sequence[float], floor: int
) -> str:
    points = " ".join(
        f"{LEFT_ROOM + number * AXIS_ROOM},{floor - place * (floor - TOP):.1f}" for number, place in enumerate(places)
    )
    rank = sum(_goodness(other, report) <= _goodness(trial, report) for other in trials) / len(trials)
    is_best = trial.number == report.best
    opacity = 1.0 if is_best else FAINTEST + (1 - FAINTEST) * rank**2 * 0.8
    return (
        f'<polyline class="curve {"second" if is_best else "first"}" stroke-opacity="{opacity:.2f}" points="{points}">'
        f"<title>{_said(trial, report)}</title></polyline>"
    )


def _dot(trial: TrialResult, report: SweepReport, frame: Frame, x: float) -> str:
    style = "dot second" if trial.number == report.best else "dot first" if trial.state == "complete" else "count"
    return svg_dot(frame.x(x), frame.y(_value(trial)), style, 4, _said(trial, report))


def _said(trial: TrialResult, report: SweepReport) -> str:
    values = ", ".join(f"{escape(key.rpartition('.')[2])} {setting_label(one)}" for key, one in trial.values.items())
    return f"trial {trial.number} ({trial.ended}): {escape(report.metric)} {_value(trial):.4g}; {values}"


def _value(trial: TrialResult) -> float:
    assert trial.score is not None, "drawn trials have scores"
    return trial.score.value


def _goodness(trial: TrialResult, report: SweepReport) -> float:
    return _value(trial) if report.greater_is_better else -_value(trial)


def _score_range(trials: Sequence[TrialResult]) -> tuple[float, float]:
    values = [_value(trial) for trial in trials] or [0.0, 1.0]
    margin = (max(values) - min(values)) * MARGIN or abs(values[0]) * 0.1 or 1.0
    return min(values) - margin, max(values) + margin
