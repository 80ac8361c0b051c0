"""A learning curve: the scores with each share of train, and what more rows would bring."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_cli.records.evaluation import MetricValue
from finetune_cli.records.plain import as_json, plain
from finetune_cli.records.training import SeedsReport, TrainReport
from finetune_cli.records.verdicts import GateOutcome
from finetune_cli.tasks import METRICS

FORECAST_LEVEL = 0.9  # of all intervals of a forecast
ENOUGH = 50  # times the rows: beyond that no curve is trusted


@dataclass(frozen=True)
class CurvePoint:
    """One share of train. rows: how many. metrics: on `validation`, of several seeds their means. values: the deciding
    metric by seed. collapsed: seed -> the one class it gave to every row."""

    share: float
    rows: int
    metrics: dict[str, MetricValue]
    values: dict[int, float]
    collapsed: dict[int, str] = field(default_factory=dict)

    @property
    def learned(self) -> bool:
        """Whether a model of this share has learned anything."""
        return len(self.collapsed) < len(self.values)

    @property
    def collapsed_word(self) -> str:
        """That this point is of a model that has learned nothing; empty for a healthy one."""
        if not self.collapsed:
            return ""
        return "collapsed" if len(self.values) == 1 else f"{len(self.collapsed)} of {len(self.values)} collapsed"

    def to_json(self) -> dict[str, Any]:
        entries = as_json(self, drop_null=("note",))
        return {name: value for name, value in entries.items() if value or name != "collapsed"}


@dataclass(frozen=True)
class BandPoint:
    """The score that the power law gives so many rows: the middle one, and the ends of its interval."""

    rows: float
    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Forecast:
    """What twice the rows of the largest share would bring, with 90 % intervals.

    score: of one more training with `rows` rows, low and high with the luck of that run. gain: how much better than
    with the largest share such trainings are on average; above 0 is better, whatever the direction of the metric. cost:
    the further rows for one more point, None where the curve does not say or the metric has no points; each is None
    where no number of rows within reach would do.
    """

    metric: str
    rows: int
    score: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float
    cost: tuple[int | None, int | None, int | None] | None
    band: list[BandPoint] = field(default_factory=list)

    @property
    def helps(self) -> bool:
        """Whether the curve shows that more rows help."""
        return self.gain_low > 0

    @property
    def sentences(self) -> list[str]:
        gain = f"{self._amount(self.gain)} [{self._number(self.gain_low)}, {self._number(self.gain_high)}]"
        if not self.helps:
            return [
                f"The curve does not say that more data would help: twice the rows ({self.rows:,}) would make "
                f"{self.metric} better by {gain}, and that interval holds 0."
            ]
        doubling = (
            f"Twice the rows ({self.rows:,}) should make {self.metric} better by {gain}: a training with them would "
            f"score {self.score:.3f} [{self.low:.3f}, {self.high:.3f}]."
        )
        return [doubling, *self._cost()]

    def _cost(self) -> list[str]:
        if self.cost is None:
            return []
        middle, low, high = self.cost
        if middle is None:
            return [f"One more point is not in sight: the curve flattens before {ENOUGH} times the rows."]
        if high is None:
            return [f"One more point would take about {middle:,} further rows, {low:,} at least; there may be no end."]
        return [f"One more point would take about {middle:,} further rows [{low:,}, {high:,}]."]

    def _amount(self, value: float) -> str:
        return f"{self._number(value)} points" if has_points(self.metric) else self._number(value)

    def _number(self, value: float) -> str:
        return f"{100 * value:+.1f}" if has_points(self.metric) else f"{value:+.3g}"


@dataclass(frozen=True)
class CurveReport:
    """The same training with rising shares of train; `summary.json`.

    metric: the deciding one. level: of the points' intervals. n: rows of validation. runs: of the shares that finished.
    failed: share -> error. forecast: None where the runs give none; `no_forecast` says why. gates: held against the
    largest share.
    """

    run_dir: Path
    shares: list[float]
    metric: str
    level: float
    n: int
    runs: dict[float, TrainReport | SeedsReport]
    failed: dict[float, str]
    points: list[CurvePoint]
    forecast: Forecast | None
    no_forecast: str
    gates: list[GateOutcome] = field(default_factory=list)

    @property
    def answer(self) -> list[str]:
        """In sentences: would more data help?"""
        return self.forecast.sentences if self.forecast else [self.no_forecast]

    @property
    def said_of_collapsed(self) -> str:
        """What collapsed models do to the curve; empty where there are none."""
        if not any(point.collapsed for point in self.points):
            return ""
        return (
            "Collapsed: every row is given the same answer, as by a model that has learned nothing. Such a score does "
            "not lie on a power law: leave that share out, or train it longer."
        )

    def curve(self) -> dict[str, Any]:
        """The points and the band, from which a picture can be drawn; `metrics/learning_curve.json`."""
        forecast = as_json(self.forecast) if self.forecast else None
        if forecast and forecast["cost"]:
            forecast["cost"] = dict(zip(("rows", "low", "high"), forecast["cost"], strict=True))
        return {
            "metric": self.metric,
            "level": self.level,
            "n": self.n,
            "points": plain(self.points),
            "forecast_level": FORECAST_LEVEL,
            "forecast": forecast,
            "answer": " ".join(self.answer),
        }

    def to_json(self) -> dict[str, Any]:
        runs = {share: {"run_dir": str(run.run_dir), "seconds": run.seconds} for share, run in self.runs.items()}
        rest = {"runs": runs, "failed": self.failed, "gates": plain(self.gates)}
        return {"run_dir": str(self.run_dir), "shares": self.shares, **self.curve(), **rest}


def has_points(metric: str) -> bool:
    """Whether a metric is told in points, hundredths of its scale; a loss without an end is not."""
    return metric in METRICS and METRICS[metric].span is not None
