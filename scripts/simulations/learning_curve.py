"""Do the intervals of a learning curve's forecast hold? Coverage over simulated curves with known truth, as a table.

Each curve has `shares` shares of train, each with twice the rows of the one before, and `seeds` trainings of each. The
true error is a + b n^-c; a training's own luck is added to it, and then the validation rows are drawn: each has a
difficulty that all trainings share (0.8 of the variance) and luck of its own with each. Of 90 % intervals three shares
are shown that hold: the true error with twice the most rows; the error of one more training with them, on these rows;
the true gain. `helps`: how often the curve says that more data would help.

Run: python -m scripts.simulations.learning_curve --curves 300
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import ndtri

from finetune_cli.evaluation.power_law import fit_power_laws

MOST_ROWS, VALIDATION_ROWS, SHARED = 8000, 872, 0.8
CURVES = ((0.05, 2.0, 0.45), (0.10, 1.0, 0.35), (0.0, 1.0, 0.25), (0.12, 20.0, 0.9), (0.2, 0.0, 0.3))


@dataclass(frozen=True)
class Setting:
    """One kind of curve. luck: standard deviation of a training at the most rows; it grows as n^-growth with fewer."""

    floor: float
    factor: float
    exponent: float
    shares: int = 6
    seeds: int = 1
    luck: float = 0.004
    growth: float = 0.25

    def error(self, rows: np.ndarray | float) -> np.ndarray:
        return np.asarray(self.floor + self.factor * np.asarray(rows, np.float64) ** -self.exponent)

    def luck_at(self, rows: np.ndarray | float) -> np.ndarray:
        return np.asarray(self.luck * (MOST_ROWS / np.asarray(rows, np.float64)) ** self.growth)


@dataclass(frozen=True)
class Outcome:
    """Shares of the intervals that hold, the share of curves that say that data help, and the mean width of the gain's
    interval."""

    score: float
    run: float
    gain: float
    helps: float
    width: float


def simulate(setting: Setting, curves: int, *, seed: int = 0) -> Outcome:
    generator = np.random.default_rng([seed, setting.shares, setting.seeds])
    return Outcome(*np.mean([_curve(setting, generator) for _ in range(curves)], axis=0).tolist())


def _curve(setting: Setting, generator: np.random.Generator) -> tuple[float, ...]:
    rows = MOST_ROWS / 2.0 ** np.arange(setting.shares)[::-1]
    luck = setting.luck_at(rows)[:, None] * generator.standard_normal((setting.shares, setting.seeds))
    trainings = np.clip(setting.error(rows)[:, None] + luck, 0.001, 0.6)
    next_run = float(setting.error(2 * MOST_ROWS) + setting.luck_at(2 * MOST_ROWS) * generator.standard_normal())
    shared = generator.standard_normal(VALIDATION_ROWS)

    def wrong(errors: np.ndarray) -> np.ndarray:
        own = generator.standard_normal((*errors.shape, VALIDATION_ROWS))
        return np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own < ndtri(errors)[..., None]

    answers = wrong(trainings)
    covariance = np.cov(answers.mean(axis=1)) / VALIDATION_ROWS
    laws = fit_power_laws(rows, answers.mean(axis=2), covariance, seed=0)
    ahead = laws.error(2 * MOST_ROWS)
    gain = laws.error(MOST_ROWS) - ahead
    (low, high), (run_low, run_high), (gain_low, gain_high) = (
        np.quantile(one, [0.05, 0.95]) for one in (ahead, laws.error_of_a_run(2 * MOST_ROWS), gain)
    )
    truth, true_gain = setting.error(2 * MOST_ROWS), setting.error(MOST_ROWS) - setting.error(2 * MOST_ROWS)
    measured = wrong(np.clip(np.array(next_run), 0.001, 0.6)).mean()
    return (
        low <= truth <= high,
        run_low <= measured <= run_high,
        gain_low <= true_gain <= gain_high,
        gain_low > 0,
        gain_high - gain_low,
    )


def settings() -> Iterator[Setting]:
    for curve, (shares, seeds), growth in product(CURVES, ((4, 1), (6, 1), (6, 3)), (0.0, 0.25, 0.5)):
        yield Setting(*curve, shares=shares, seeds=seeds, growth=growth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", type=int, default=300, help="of each kind")
    parser.add_argument("--growth", type=float, help="the luck with this growth alone")
    curves, growth = parser.parse_args().curves, parser.parse_args().growth
    print("| a | b | c | shares | seeds | luck grows as | gain | error | a run | gain | says it helps | width |")
    print("| ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for one in (one for one in settings() if growth in (None, one.growth)):
        found, gain = simulate(one, curves), one.error(MOST_ROWS) - one.error(2 * MOST_ROWS)
        print(
            f"| {one.floor} | {one.factor:g} | {one.exponent} | {one.shares} | {one.seeds} | n^-{one.growth} | "
            f"{100 * gain:.2f} | {100 * found.score:.0f} | {100 * found.run:.0f} | {100 * found.gain:.0f} | "
            f"{100 * found.helps:.0f} | {100 * found.width:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
