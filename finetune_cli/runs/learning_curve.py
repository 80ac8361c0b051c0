"""What the runs of a learning curve foretell: their errors, how sure these are, and the power laws through them.

Dimensions: K shares, M runs (seeds) of each, S resamples of the validation rows, D drawn power laws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from finetune_cli.evaluation.candidates import deciding_metric
from finetune_cli.evaluation.power_law import LEAST_SHARES, PowerLaws, fit_power_laws
from finetune_cli.evaluation.uncertainty import bootstrap_values
from finetune_cli.records.learning_curve import ENOUGH, FORECAST_LEVEL, BandPoint, CurvePoint, Forecast, has_points
from finetune_cli.records.resampling import Resampling
from finetune_cli.runs.answers import read_answers
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.tasks import METRICS, Kind

BAND_POINTS = 33
POINT = 0.01

Array = NDArray[np.float64]


def forecast(
    points: Sequence[CurvePoint],
    runs: Mapping[float, Sequence[RunDir]],
    metric: str,
    *,
    kind: Kind,
    resampling: Resampling,
) -> tuple[Forecast | None, str]:
    """What twice the rows of the largest share bring; or None, and why the curve does not say.

    points: of the shares that finished, rising. runs: those of each share, one a seed, all scored on the same rows.
    """
    if points and not any(point.learned for point in points):
        return None, (
            "The models have learned nothing, so the curve does not say whether more data would help. Train them "
            "longer (training.num_epochs), with another training.learning_rate, or with larger shares."
        )
    if metric not in METRICS:
        return None, f"The curve does not say: whether more {metric} is better is not known of this metric."
    usable = [point for point in points if np.isfinite(list(point.values.values())).all()]
    if len(usable) < LEAST_SHARES:
        have = "1 has" if len(usable) == 1 else f"{len(usable)} have"
        return None, f"The curve does not say: it takes {LEAST_SHARES} shares at least, and {have} a score ({metric})."
    if (learned := sum(point.learned for point in usable)) < LEAST_SHARES:
        models = "1 share has models" if learned == 1 else f"{learned} shares have models"
        return None, (
            f"The curve does not say: {models} that have learned something, and it takes {LEAST_SHARES} at least; "
            "those of the others collapsed."
        )
    rows = np.array([point.rows for point in usable], np.float64)
    errors = np.array([[_error(value, metric) for value in point.values.values()] for point in usable])
    if not (errors > 0).any():
        return None, "The curve does not say: there are no errors left."
    covariance = _over_rows([runs[point.share] for point in usable], deciding_metric(metric, kind), resampling)
    return _foretold(fit_power_laws(rows, errors, covariance, seed=resampling.seed), metric, float(rows[0])), ""


def _error(value: float, metric: str) -> float:
    """How far a score is from the best there is; a loss is an error itself."""
    spec = METRICS[metric]
    return spec.span[1] - value if spec.greater_is_better and spec.span else value


def _over_rows(runs: Sequence[Sequence[RunDir]], metric: str, resampling: Resampling) -> Array:
    """The covariance (K, K), over resamples of the validation rows, of the mean score of each share's runs."""
    scored = [read_answers(run.predictions()).rows for of_share in runs for run in of_share]
    values = bootstrap_values([metric], scored, resampling)[metric]
    means = values.reshape(len(runs), -1, resampling.samples).mean(axis=1)  # (K, S)
    return np.atleast_2d(np.cov(means[:, ~np.isnan(means).any(axis=0)]))


def _foretold(laws: PowerLaws, metric: str, smallest: float) -> Forecast:
    most, twice = laws.largest, 2 * laws.largest
    middle, low, high = _interval(laws.error_of_a_run(twice))
    gain, gain_low, gain_high = _interval(laws.error(most) - laws.error(twice))
    score, *ends = (_error(error, metric) for error in (middle, low, high))  # of an error, it gives the score back
    return Forecast(
        metric,
        twice,
        score,
        min(ends),
        max(ends),
        gain,
        gain_low,
        gain_high,
        _cost(laws) if gain_low > 0 and has_points(metric) else None,
        [_band_point(laws, metric, rows) for rows in np.geomspace(smallest, twice, BAND_POINTS)],
    )


def _interval(values: Array) -> tuple[float, float, float]:
    """The median and the middle FORECAST_LEVEL of values (D,)."""
    middle, low, high = np.quantile(values, [0.5, (1 - FORECAST_LEVEL) / 2, (1 + FORECAST_LEVEL) / 2])
    return float(middle), float(low), float(high)


def _cost(laws: PowerLaws) -> tuple[int | None, int | None, int | None]:
    """Further rows for one more point: the median and the ends of its interval; None beyond ENOUGH times the rows."""
    further = np.sort(laws.rows_for(laws.error(laws.largest) - POINT) - laws.largest)
    places = [0.5, (1 - FORECAST_LEVEL) / 2, (1 + FORECAST_LEVEL) / 2]
    found = [float(further[round(place * (len(further) - 1))]) for place in places]  # no mean with an infinite one
    middle, low, high = (_rounded(rows) if rows <= ENOUGH * laws.largest else None for rows in found)
    return middle, low, high


def _rounded(rows: float) -> int:
    """To two digits: more would be make-believe."""
    step = 10 ** max(0, int(np.floor(np.log10(max(rows, 1.0)))) - 1)
    return max(1, round(rows / step)) * step


def _band_point(laws: PowerLaws, metric: str, rows: float) -> BandPoint:
    score, *ends = (_error(error, metric) for error in _interval(laws.error(rows)))
    return BandPoint(float(rows), score, min(ends), max(ends))
