"""How the error falls with the rows of train: a power law through the runs of a learning curve, and what it foretells.

error(n) = a + b n^-c, the usual form (Hestness et al. 2017, "Deep Learning Scaling is Predictable, Empirically";
Viering and Loog 2022, "The Shape of Learning Curves: a Review"). Three numbers from a few points are never sure, so no
single curve is taken: every curve counts by how well it fits (a posterior on a grid, drawn from), which keeps what is
unknown of the floor `a` and the exponent `c` in the intervals.

Two things make a point miss its curve. The rows of validation are the same for all runs, so that their luck is shared:
it comes in as the covariance of the errors over resamples of these rows. The luck of a run, its seed and its part of
train, has a size that is estimated along with the curve: from the runs of one share with several seeds, and from how
far the points are off a curve. Few rows make more of it: its variance is taken to fall with the root of the rows.

Dimensions: K shares, M runs (seeds) of each, D drawn curves; A, C points of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finetune_cli.evaluation.confusion import FloatArray

LEAST_SHARES = 4  # one more than the law has numbers
EXPONENTS = np.geomspace(0.1, 1.5, 57)  # from nearly logarithmic to faster than is seen in practice
FLOORS = 161
# Of the smallest mean error and of the largest error. A floor below 0 is none, but curves that are far from theirs yet
# fit such ones best; with 0 as the lowest, the gain of two in five pure power laws was above its interval.
LOWEST_FLOOR, HIGHEST_FLOOR = -0.25, 1.2
SPREADS = np.geomspace(1e-3, 1.0, 31)  # the luck of a run at the largest share, over the largest error
# Half-Cauchy (Gelman 2006, "Prior distributions for variance parameters"), over the largest error. Without a scale the
# curves of four shares hardly ever said anything, and with a smaller one their intervals held too seldom.
USUAL_SPREAD = 0.1
DRAWS = 4000


@dataclass(frozen=True)
class PowerLaws:
    """Drawn curves. floor, excess, exponent, spread: (D,); error(n) = floor + excess (n / largest)^-exponent.

    largest: the most rows that a run had. spread: standard deviation of a run's luck there. luck: standard normal.
    """

    largest: int
    floor: FloatArray
    excess: FloatArray
    exponent: FloatArray
    spread: FloatArray
    luck: FloatArray

    def error(self, rows: float) -> FloatArray:
        """The mean error of runs with so many rows, (D,)."""
        return self.floor + self.excess * (rows / self.largest) ** -self.exponent

    def error_of_a_run(self, rows: float) -> FloatArray:
        """The error of one run with so many rows, its own luck included, (D,)."""
        return self.error(rows) + self.luck * self.spread * np.sqrt(_more_luck(rows, self.largest))

    def rows_for(self, error: FloatArray) -> FloatArray:
        """The rows at which each curve has come down to its error (D,); infinite where it never does."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            left = (error - self.floor) / self.excess
            rows = self.largest * left ** (-1 / self.exponent)
        return np.where((self.excess > 0) & (left > 0), rows, np.inf)


def fit_power_laws(rows: FloatArray, errors: FloatArray, row_covariance: FloatArray, *, seed: int) -> PowerLaws:
    """Curves drawn by how well they fit errors (K, M) of runs with `rows` (K,), rising.

    row_covariance: (K, K), of the mean over runs of each share, over resamples of the validation rows. The same seed
    gives the same curves. Raises ValueError for fewer than LEAST_SHARES shares, or errors that are all 0.
    """
    if len(rows) < LEAST_SHARES or not np.abs(errors).max() > 0:
        raise ValueError(f"{len(rows)} shares with errors up to {np.abs(errors).max()}")
    scale, largest = float(np.abs(errors).max()), int(rows[-1])
    means, more = errors.mean(axis=1) / scale, _more_luck(rows, largest)
    floors = np.linspace(LOWEST_FLOOR * float(means.min()), HIGHEST_FLOOR, FLOORS)
    steps = (rows / largest)[:, None] ** -EXPONENTS  # (K, C)
    log_weights, centres, widths = (np.empty((len(SPREADS), FLOORS, len(EXPONENTS))) for _ in range(3))
    for place, spread in enumerate(SPREADS):
        covariance = row_covariance / scale**2 + np.diag(spread**2 * more / errors.shape[1] + 1e-12)
        root = np.linalg.cholesky(covariance)
        off_floor = np.linalg.solve(root, means[:, None] - floors)  # (K, A)
        step = np.linalg.solve(root, steps)  # (K, C)
        squares = (step**2).sum(axis=0)
        along = off_floor.T @ step  # (A, C)
        missed = (off_floor**2).sum(axis=0)[:, None] - along**2 / squares
        centres[place], widths[place] = along / squares, 1 / np.sqrt(squares)
        log_weights[place] = (
            -np.log(np.diag(root)).sum()
            - np.log(squares) / 2
            - missed / 2
            + _within_shares(errors / scale, more, spread)
            + np.log(spread / (1 + (spread / USUAL_SPREAD) ** 2))  # the grid is even in its logarithm
        )
    return _draw(log_weights, centres, widths, floors, scale, largest, np.random.default_rng([seed, 3]))


def _more_luck(rows: FloatArray | float, largest: int) -> FloatArray:
    """The variance of a run's luck with so many rows, over that at the largest share."""
    return np.sqrt(largest / np.asarray(rows, np.float64))


def _within_shares(errors: FloatArray, more: FloatArray, spread: float) -> float:
    """Log likelihood of the spread from how the runs of each share (K, M) differ."""
    freedom = len(errors) * (errors.shape[1] - 1)
    squares = ((errors - errors.mean(axis=1, keepdims=True)) ** 2 / more[:, None]).sum()
    return float(-freedom * np.log(spread) - squares / (2 * spread**2))


def _draw(
    log_weights: FloatArray,
    centres: FloatArray,
    widths: FloatArray,
    floors: FloatArray,
    scale: float,
    largest: int,
    generator: np.random.Generator,
) -> PowerLaws:
    weights = np.exp(log_weights - log_weights.max()).ravel()
    cells = generator.choice(len(weights), DRAWS, p=weights / weights.sum())
    of_spread, of_floor, of_exponent = np.unravel_index(cells, log_weights.shape)
    excess = centres.ravel()[cells] + generator.standard_normal(DRAWS) * widths.ravel()[cells]
    luck = generator.standard_normal(DRAWS)
    return PowerLaws(
        largest, scale * floors[of_floor], scale * excess, EXPONENTS[of_exponent], scale * SPREADS[of_spread], luck
    )
