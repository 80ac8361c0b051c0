"""The arithmetic of scripts/bench/bench.py and scripts/bench/quality.py; what they measure is not for tests."""

import pytest
from scipy import stats

from scripts.bench.bench import table
from scripts.bench.inference import extrapolate
from scripts.bench.measure import Pair, evenly
from scripts.bench.quality import seed_test


def test_ratio_is_of_the_medians_and_its_spread_of_the_turns():
    pair = Pair("train8", "train", "rows/s", [30.0, 31.0, 10.0], [20.0, 10.0, 20.0], goal=1.4)
    assert pair.ratio == 1.5
    assert pair.ratios == [1.5, 3.1, 0.5]
    assert pair.reached
    assert table([pair])[1].split("  ")[-1] == ">= 1.4 yes"


def test_a_figure_to_keep_low_reaches_its_goal_from_above():
    slow, quick = (Pair("start", "start", "s", [ours], [8.0], goal=0.5, higher_is_better=False) for ours in (5.0, 4.0))
    assert not slow.reached
    assert quick.reached
    assert table([slow])[1].endswith("<= 0.5 NO")


def test_a_goal_without_a_reference_is_about_the_figure_itself():
    pair = Pair("prepare", "second prepare", "s", [0.8, 0.9, 1.3], goal=1.0, higher_is_better=False)
    assert pair.ratio is None
    assert pair.reached


def test_rows_are_taken_from_all_over_the_file():
    lines = [str(number) for number in range(10)]
    assert evenly(lines, 4) == ["0", "2", "5", "7"]
    assert evenly(lines[:3], 5) == ["0", "1", "2", "0", "1"]


def test_constant_memory_and_linear_time_are_extrapolated_as_such():
    measured = [(100_000, 5.0, 300.0), (1_000_000, 32.0, 300.0)]
    assert extrapolate(measured, 1) == pytest.approx(302.0)  # 2 s at the start and 30 s a million
    assert extrapolate(measured, 2) == pytest.approx(300.0)


def test_the_test_over_seeds_is_students_paired_t():
    plain, ours = [0.80, 0.81, 0.79, 0.82, 0.80], [0.81, 0.83, 0.78, 0.84, 0.82]
    assert seed_test(plain, ours) == pytest.approx(stats.ttest_rel(plain, ours).pvalue)
    assert seed_test(plain, plain) == 1.0
