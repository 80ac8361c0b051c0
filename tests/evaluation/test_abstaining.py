"""Abstaining with a guarantee: the bound holds as often as promised, and few answers are given up."""

import numpy as np
import pytest
from scipy.stats import binom

from finetune_cli.errors import DataError
from finetune_cli.evaluation.abstaining import START, fewest_rows, fit_abstention
from scripts.simulations.abstaining import promise


def rows_with_errors(n: int, wrong_from: float, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Confidences from 1 down to 0.5; below `wrong_from` this share of the answers is wrong, above none."""
    confidence = np.linspace(1.0, 0.5, n)
    below = np.flatnonzero(confidence < wrong_from)
    right = np.ones(n, bool)
    right[below[:: round(1 / share)]] = False
    return confidence, right


def test_the_bound_is_the_last_that_an_exact_binomial_test_passes():
    confidence, right = rows_with_errors(1000, 0.7, 0.5)
    found = fit_abstention(confidence, right, max_error=0.05, level=0.9)
    answered = confidence >= found.below
    assert found.answered == answered.mean()
    assert found.wrong == (~right[answered]).sum()
    assert binom.cdf(found.wrong, answered.sum(), 0.05) <= 0.1
    corners = fewest_rows(1000, 0.05, 0.1)
    more = confidence >= confidence[corners[corners > answered.sum()][0] - 1]  # one step further
    assert binom.cdf((~right[more]).sum(), more.sum(), 0.05) > 0.1


def test_a_model_that_is_good_enough_answers_everything():
    confidence, right = rows_with_errors(1000, 0.55, 0.1)
    found = fit_abstention(confidence, right, max_error=0.05, level=0.9)
    assert (found.answered, found.below) == (1.0, 0.5)


def test_rows_of_equal_confidence_are_answered_together():
    confidence = np.repeat([0.9, 0.6], [400, 600])
    right = np.repeat([True, False], [400, 600])
    found = fit_abstention(confidence, right, max_error=0.05, level=0.9)
    assert (found.below, found.answered, found.wrong) == (0.9, 0.4, 0)


def test_rows_that_cannot_give_it_are_refused_with_the_numbers():
    confidence = np.linspace(1, 0.5, 400)
    right = np.ones(400, bool)
    right[::10] = False
    with pytest.raises(DataError, match=r"400 validation rows.*105 surest answers 11 are wrong, and at most 2 may be"):
        fit_abstention(confidence, right, max_error=0.05, level=0.9)
    with pytest.raises(DataError, match=r"20 surest answers 0 are wrong, and without any mistake it takes 45"):
        fit_abstention(confidence[:20], np.ones(20, bool), max_error=0.05, level=0.9)


@pytest.mark.parametrize(("max_error", "risk"), [(0.05, 0.1), (0.01, 0.1), (0.3, 0.5), (0.9, 0.95)])
def test_the_fewest_rows_for_a_number_of_mistakes_are_those_of_the_binomial_tail(max_error, risk):
    found = fewest_rows(500, max_error, risk)
    rejected = binom.cdf(np.arange(len(found)), found, max_error) <= risk
    assert rejected.all()
    with_one_row_less = binom.cdf(np.arange(len(found)), found - 1, max_error) <= risk
    assert not with_one_row_less[found - 1 > np.arange(len(found))].any()


def test_few_rows_that_just_suffice_get_their_bound():
    """230 rows without a mistake show 1 % with 90 % confidence: more than a fifth of these, and enough."""
    confidence, right = np.linspace(1.0, 0.5, 408), np.ones(408, bool)
    right[300:] = False
    found = fit_abstention(confidence, right, max_error=0.01, level=0.9)
    assert START * 408 < 230 <= found.answered * 408 <= 300


def test_the_promise_is_broken_in_at_most_one_of_ten_cases_and_most_rows_are_kept():
    found = promise(0.9, 0.05, 1000, simulations=150)
    assert found.broken <= 0.10
    assert found.refused <= 0.05
    assert 0.9 <= found.kept <= found.best_possible + 0.01  # 93 %; simulation error
