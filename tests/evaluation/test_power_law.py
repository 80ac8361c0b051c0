"""Power laws through learning curves whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from finetune_cli.evaluation.power_law import fit_power_laws
from scripts.simulations.learning_curve import Setting, simulate

ROWS = 250 * 2.0 ** np.arange(6)
TIGHT = 1e-8 * np.eye(6)


def middle(values: np.ndarray) -> float:
    return float(np.median(values))


@pytest.mark.parametrize(("floor", "factor", "exponent"), [(0.05, 2.0, 0.5), (0.1, 20.0, 0.9), (0.0, 1.0, 0.3)])
def test_a_curve_without_luck_is_found_again(floor: float, factor: float, exponent: float) -> None:
    errors = (floor + factor * ROWS**-exponent)[:, None]
    laws = fit_power_laws(ROWS, errors, TIGHT, seed=0)
    for rows in (250, 8000, 16000):
        assert middle(laws.error(rows)) == pytest.approx(
            floor + factor * rows**-exponent, abs=0.0015
        )  # the grid's step
    aim = floor + factor * 12_000.0**-exponent
    assert middle(laws.rows_for(np.full(len(laws.floor), aim))) == pytest.approx(
        12_000, rel=0.15
    )  # near the floor an error has many rows


def test_the_same_seed_gives_the_same_curves_and_the_unit_of_the_error_does_not_matter() -> None:
    errors = np.array([[0.31], [0.26], [0.2], [0.19], [0.17], [0.16]])
    first = fit_power_laws(ROWS, errors, TIGHT * 1e4, seed=1)
    again = fit_power_laws(ROWS, errors, TIGHT * 1e4, seed=1)
    in_percent = fit_power_laws(ROWS, 100 * errors, TIGHT * 1e8, seed=1)
    assert (first.error(16000) == again.error(16000)).all()
    assert 100 * first.error(16000) == pytest.approx(in_percent.error(16000), rel=1e-6)


def test_a_flat_curve_shows_no_gain_and_no_end_of_rows() -> None:
    errors = np.array([[0.2], [0.203], [0.198], [0.201], [0.199], [0.2]])
    laws = fit_power_laws(ROWS, errors, 1e-6 * np.eye(6), seed=0)
    low, high = np.quantile(laws.error(8000) - laws.error(16000), [0.05, 0.95])
    assert low < 0 < high < 0.01
    assert middle(laws.rows_for(laws.error(8000) - 0.01)) == np.inf


def test_rows_that_all_runs_share_leave_the_gain_surer_than_the_score() -> None:
    """An unlucky choice of validation rows makes all scores worse, and the gain hardly."""
    errors = (0.05 + 2.0 * ROWS**-0.5)[:, None]
    apart, together = 1e-4 * np.eye(6), 1e-4 * (0.95 + 0.05 * np.eye(6))

    def widths(covariance: np.ndarray) -> tuple[float, float]:
        laws = fit_power_laws(ROWS, errors, covariance, seed=0)
        values = (laws.error(16000), laws.error(8000) - laws.error(16000))
        score, gain = (float(np.subtract(*np.quantile(one, [0.95, 0.05]))) for one in values)
        return score, gain

    assert widths(together)[0] > 0.8 * widths(apart)[0]
    assert widths(together)[1] < 0.7 * widths(apart)[1]


def test_more_seeds_make_the_forecast_surer() -> None:
    generator = np.random.default_rng(0)
    errors = (0.05 + 2.0 * ROWS**-0.5)[:, None] + 0.01 * generator.standard_normal((6, 5))
    few, many = (fit_power_laws(ROWS, part, TIGHT, seed=0) for part in (errors[:, :1], errors))
    assert np.std(many.error(16000)) < np.std(few.error(16000))
    assert middle(many.spread) == pytest.approx(0.006, abs=0.004)  # of the largest share; 0.01 over all


def test_three_shares_and_no_errors_give_no_curve() -> None:
    with pytest.raises(ValueError, match="3 shares"):
        fit_power_laws(ROWS[:3], np.ones((3, 1)), np.eye(3), seed=0)
    with pytest.raises(ValueError, match="6 shares with errors up to 0"):
        fit_power_laws(ROWS, np.zeros((6, 1)), np.eye(6), seed=0)


@pytest.mark.parametrize("seeds", [1, 3])
def test_nine_in_ten_intervals_hold_what_twice_the_rows_bring(seeds: int) -> None:
    """40 simulated curves on 872 rows: fewer than 31 of 40 has a chance below 1 % where 90 % do."""
    found = simulate(Setting(0.05, 2.0, 0.45, seeds=seeds), 40)
    assert min(found.score, found.gain) >= 31 / 40
    assert found.helps >= 0.9
    flat = simulate(Setting(0.2, 0.0, 0.3, seeds=seeds), 20)
    assert flat.helps <= 0.1
