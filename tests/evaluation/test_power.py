"""What a comparison could have shown: families, smallest differences, and the rows and seeds that others need."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, false_discovery_control

from finetune_cli.errors import ConfigError
from finetune_cli.evaluation.comparison import Difference, compare_predictions, compare_seeds
from finetune_cli.evaluation.power import (
    holm,
    mcnemar_power,
    planned,
    rows_by_mcnemar,
    smallest_by_mcnemar,
    smallest_difference,
)
from finetune_cli.evaluation.scored_rows import scored_rows
from finetune_cli.records.resampling import Resampling
from scripts.simulations.families import false_finds, share_found

nan = math.nan


def difference(**changes) -> Difference:
    values = {"row_variance": 0.0004, "method": "bootstrap", "num_rows": 400} | changes
    return Difference("f1", 0.8, 0.81, 0.01, -0.03, 0.05, 0.6, **values)


def test_holm_is_the_textbook_example():
    # Holm 1979: 0.01 x 3, then at least as much: 0.02 x 2 and 0.03 x 1
    assert holm([0.01, 0.03, 0.02]) == pytest.approx([0.03, 0.04, 0.04])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.7]) == [0.7]


def test_what_is_not_defined_is_no_part_of_a_family():
    found = holm([0.01, nan, 0.02])
    assert found[0] == pytest.approx(0.02)
    assert math.isnan(found[1])


def test_holm_is_never_below_the_false_discovery_rate():
    p = np.random.default_rng(0).random(20) ** 3
    assert (np.array(holm(list(p))) >= false_discovery_control(p) - 1e-12).all()


def test_the_power_of_mcnemars_test_is_that_of_simulated_tests():
    expected = mcnemar_power(200, 0.15, 0.07, 0.05)
    drawn = np.random.default_rng(1).multinomial(200, [0.11, 0.04, 0.85], size=1500)
    found = np.mean([a + b > 0 and binomtest(int(min(a, b)), int(a + b)).pvalue < 0.05 for a, b, _ in drawn])
    assert found == pytest.approx(expected, abs=0.035)  # three standard errors


def test_the_smallest_difference_and_the_rows_for_it_are_two_sides_of_one_thing():
    smallest = smallest_by_mcnemar(408, 0.09, 0.05)
    assert smallest == pytest.approx(0.043, abs=0.001)
    assert rows_by_mcnemar(0.09, smallest, 0.05) == pytest.approx(408, rel=0.02)


def test_very_few_rows_show_nothing():
    assert smallest_by_mcnemar(5, 0.2, 0.05) is None  # even five to nothing has p = 0.06
    assert smallest_by_mcnemar(20, 0.0, 0.05) > 0.3  # a difference brings its own disagreements


def test_other_metrics_take_the_standard_error():
    # 0.02 x (1.960 + 0.842), and half of it takes four times the rows
    smallest = smallest_difference(difference(), None, alpha=0.05)
    assert smallest == pytest.approx(0.02 * 2.802, rel=1e-3)
    assert planned(difference(), None, smallest / 2, seeds=1, alpha=0.05).rows == pytest.approx(1600, rel=0.01)


def test_seeds_can_only_take_away_their_own_share():
    found = difference(seed_variance=0.0001, freedom=8.0, method="seeds")
    distance = 2.306 + 0.889  # Student's t of 8 degrees at 0.975 and 0.8
    plan = planned(found, None, 0.9 * distance * 0.02, seeds=3, alpha=0.05)
    assert plan.seeds is None  # the rows alone leave a standard error of 0.02
    assert plan.rows == pytest.approx(400 * 0.0004 / (0.81 * 0.0004 - 0.0001), abs=1)
    more = planned(found, None, 1.05 * distance * 0.02, seeds=3, alpha=0.05)
    assert more.seeds == pytest.approx(3 * 0.0001 / (1.1025 * 0.0004 - 0.0004), abs=1)
    assert "seeds a side on these rows" in more.sentence("f1")


def test_a_difference_of_accuracies_above_one_is_refused():
    with pytest.raises(ConfigError, match="the largest difference on f1 is 1"):
        planned(difference(method="mcnemar"), 0.1, 2.0, seeds=1, alpha=0.05)


def test_the_variance_of_a_comparison_is_what_its_plan_takes():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=300)
    answers = [np.where(rng.random(300) < 0.8, labels, 1 - labels) for _ in range(4)]
    runs = [scored_rows(labels, np.eye(2)[of_run], "classification") for of_run in answers]
    single = compare_predictions(["f1"], runs[0], runs[1], Resampling(500))["f1"]
    assert math.sqrt(single.row_variance) == pytest.approx((single.high - single.low) / 3.92, rel=0.15)
    seeds = compare_seeds(["f1"], runs[:2], runs[2:], Resampling(500), paired=False)["f1"]
    assert seeds.row_variance > 0 < seeds.seed_variance


def test_ten_equal_runs_look_different_in_few_families():
    assert false_finds(runs=10, families=120, num_rows=200, all_pairs=True) <= 0.10  # 5 % at most, three errors


def test_the_printed_smallest_difference_is_found_in_four_of_five_tests():
    assert share_found(num_rows=408, disagreements=0.09, tests=600) == pytest.approx(0.8, abs=0.05)
