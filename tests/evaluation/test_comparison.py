"""Comparisons against SciPy, and how often they find a difference where there is none, and where there is one."""

import math

import numpy as np
import pytest
import scipy.stats

from finetune_cli.evaluation.comparison import (
    Difference,
    compare_predictions,
    compare_seeds,
    mcnemar,
)
from finetune_cli.evaluation.kinds.classification import softmax
from finetune_cli.evaluation.power import smallest_difference
from finetune_cli.evaluation.scored_rows import scored_rows
from finetune_cli.evaluation.seed_summary import at_least_as_wide, summarise_folds, summarise_seeds, within_range
from finetune_cli.evaluation.verdicts import describe
from finetune_cli.records.evaluation import MetricValue
from finetune_cli.records.resampling import Resampling
from scripts.simulations.seeds import coverage


def correct_rows(both, only_a, only_b, neither=0):
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return a, b


def two_models(rng, num_rows, gain_of_b=0.0):
    """Labels and the scores of two models that find the same rows hard, B better by `gain_of_b` in the logit."""
    labels = (rng.random(num_rows) < 0.6).astype(int)
    shared = rng.normal(size=num_rows)
    scores = []
    for strength in (1.2, 1.2 + gain_of_b):
        logit = (2 * labels - 1) * strength + shared + rng.normal(0, 0.7, size=num_rows)
        scores.append(softmax(np.stack([np.zeros(num_rows), logit], axis=1)))
    return labels, scores[0], scores[1]


def compare(names, labels, a, b, *, samples=500, seed=0):
    sides = [scored_rows(labels, scores, "classification") for scores in (a, b)]
    return compare_predictions(names, *sides, Resampling(samples, seed=seed))


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (0, 1), (1, 5), (0, 6), (10, 10), (12, 29), (480, 520)])
def test_mcnemar_with_few_disagreements_is_the_binomial_test(only_a, only_b):
    found = mcnemar(*correct_rows(50, only_a, only_b, 3))
    total = only_a + only_b
    expected = scipy.stats.binomtest(only_a, total, 0.5).pvalue if total else 1.0
    assert (found.only_a, found.only_b, found.exact) == (only_a, only_b, True)
    assert found.p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_by_hand():
    assert mcnemar(*correct_rows(10, 0, 6)).p_value == 2 / 64


@pytest.mark.parametrize(("only_a", "only_b"), [(500, 501), (450, 560), (900, 1100)])
def test_mcnemar_with_many_disagreements_is_chi_squared_with_continuity_correction(only_a, only_b):
    found = mcnemar(*correct_rows(50, only_a, only_b))
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / (only_a + only_b)
    assert not found.exact
    assert found.p_value == pytest.approx(scipy.stats.chi2.sf(statistic, 1), rel=1e-9)
    # and no jump where one method takes over from the other
    exact = scipy.stats.binomtest(only_a, only_a + only_b, 0.5).pvalue
    assert found.p_value == pytest.approx(exact, abs=0.001)


def test_the_same_predictions_twice_do_not_differ():
    labels, a, _ = two_models(np.random.default_rng(0), 100)
    for found in compare(["accuracy", "f1", "auroc", "ece"], labels, a, a).values():
        assert (found.difference, found.p_value) == (0, 1)


def test_where_all_rows_agree_the_interval_is_what_so_many_rows_cannot_rule_out():
    """SciPy's exact interval of no row of 100; twice that for a metric from -1 to 1."""
    labels, a, _ = two_models(np.random.default_rng(0), 100)
    reach = scipy.stats.binomtest(0, 100).proportion_ci(0.95, method="exact").high
    found = compare(["accuracy", "matthews", "log_loss"], labels, a, a)
    assert (found["accuracy"].low, found["accuracy"].high) == pytest.approx((-reach, reach))
    assert (found["matthews"].low, found["matthews"].high) == pytest.approx((-2 * reach, 2 * reach))
    assert (found["log_loss"].low, found["log_loss"].high) == (0, 0)  # it has no end: nothing can be said
    worst = labels == 0  # B has every row right, A none
    right, wrong = (np.eye(2)[(worst == other).astype(int)] for other in (False, True))
    ahead = compare(["accuracy"], labels, wrong, right)["accuracy"]
    assert (ahead.difference, ahead.low, ahead.high) == pytest.approx((1, 1 - reach, 1))


def test_exchanging_the_sides_turns_the_sign_and_nothing_else():
    labels, a, b = two_models(np.random.default_rng(1), 300, gain_of_b=0.1)
    names = ["accuracy", "f1", "matthews", "log_loss"]
    forth, back = compare(names, labels, a, b), compare(names, labels, b, a)
    for name in names:
        turned = -back[name].difference, -back[name].high, -back[name].low, back[name].p_value
        expected = forth[name].difference, forth[name].low, forth[name].high, forth[name].p_value
        assert turned == pytest.approx(expected, abs=1e-9), name


def test_bootstrap_difference_of_means_agrees_with_the_paired_t_test():
    labels, a, b = two_models(np.random.default_rng(2), 400, gain_of_b=0.1)
    found = compare(["log_loss"], labels, a, b, samples=4000)["log_loss"]
    rows = np.arange(400)
    paired = scipy.stats.ttest_rel(-np.log(b[rows, labels]), -np.log(a[rows, labels]))
    interval = paired.confidence_interval(0.95)
    assert found.difference == pytest.approx(np.log(a[rows, labels] / b[rows, labels]).mean())
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.004)
    assert found.p_value == pytest.approx(paired.pvalue, abs=0.02)


def test_a_clear_gain_is_found_by_every_metric():
    labels, a, b = two_models(np.random.default_rng(3), 1000, gain_of_b=1.0)
    found = compare(["accuracy", "f1", "matthews", "auroc", "log_loss"], labels, a, b)
    assert all(difference.p_value < 0.01 for difference in found.values())
    assert found["log_loss"].high < 0 < found["f1"].low
    assert found["accuracy"].method == "mcnemar"
    assert found["f1"].method == "bootstrap"


def test_bootstrap_calls_equal_models_different_in_3_to_7_percent_of_500_test_sets():
    rng = np.random.default_rng(5)
    found = {"f1": 0, "log_loss": 0}
    for seed in range(500):
        labels, a, b = two_models(rng, 408)
        for name, difference in compare(list(found), labels, a, b, samples=400, seed=seed).items():
            found[name] += difference.p_value < 0.05
    assert all(0.03 <= count / 500 <= 0.07 for count in found.values()), found


def test_mcnemar_calls_equal_models_different_in_3_to_7_percent_of_500_test_sets():
    # 3,000 rows: with fewer the exact test keeps below its level (of 5,000 test sets of 408 rows it called 3.4 %)
    rng = np.random.default_rng(5)
    found = 0
    for _ in range(500):
        labels, a, b = two_models(rng, 3000)
        found += mcnemar(a.argmax(axis=1) == labels, b.argmax(axis=1) == labels).p_value < 0.05
    assert 0.03 <= found / 500 <= 0.07


@pytest.mark.parametrize("disagreements", [1, 6, 25, 60, 200])
def test_mcnemar_never_calls_more_than_its_level(disagreements):
    splits = range(disagreements + 1)
    called = [k for k in splits if mcnemar(*correct_rows(0, k, disagreements - k)).p_value < 0.05]
    assert scipy.stats.binom.pmf(called, disagreements, 0.5).sum() <= 0.05


def seed_runs(rng, labels, offset, num_runs, seed_spread):
    """Runs of one setting: each has its own strength, all share the setting's view of the rows."""
    runs = []
    for _ in range(num_runs):
        logit = (2 * labels - 1) * (1.2 + seed_spread * rng.normal()) + offset + rng.normal(0, 0.3, len(labels))
        runs.append(softmax(np.stack([np.zeros(len(labels)), logit], axis=1)))
    return runs


def compare_runs(names, labels, runs_a, runs_b, *, paired=False, samples=200, seed=0):
    sides = [[scored_rows(labels, scores, "classification") for scores in runs] for runs in (runs_a, runs_b)]
    return compare_seeds(names, *sides, Resampling(samples, seed=seed), paired=paired)


@pytest.mark.parametrize("paired", [False, True])
def test_equal_settings_are_called_different_in_few_of_300_pairs_of_four_runs(paired):
    rng = np.random.default_rng(6)
    count = 0
    for seed in range(300):
        labels = (rng.random(200) < 0.6).astype(int)
        shared = rng.normal(size=200)
        a, b = (seed_runs(rng, labels, shared + rng.normal(0, 0.6, 200), 4, 0.15) for _ in range(2))
        count += compare_runs(["accuracy"], labels, a, b, paired=paired, seed=seed)["accuracy"].p_value < 0.05
    assert 0.01 <= count / 300 <= 0.08  # 5 % expected at most, standard error 1.3 %


def test_seeds_without_difference_in_the_rows_follow_welch():
    # a thousand copies of one row make the choice of rows certain, so only the seeds are left to chance
    labels = np.ones(1000, dtype=int)
    runs = [[softmax(np.tile([0.0, x], (1000, 1))) for x in side] for side in ([0.5, 0.8, 0.7], [1.5, 0.9, 2.0, 1.1])]
    losses = [[math.log(1 + math.exp(-x)) for x in side] for side in ([0.5, 0.8, 0.7], [1.5, 0.9, 2.0, 1.1])]
    found = compare_runs(["log_loss"], labels, *runs)["log_loss"]
    welch = scipy.stats.ttest_ind(losses[1], losses[0], equal_var=False)
    assert found.difference == pytest.approx(np.mean(losses[1]) - np.mean(losses[0]))
    assert found.p_value == pytest.approx(2 * scipy.stats.t.sf(abs(welch.statistic), math.floor(welch.df)))


def test_paired_seeds_without_difference_in_the_rows_follow_the_paired_t_test():
    labels = np.ones(1000, dtype=int)
    logits = ([0.5, 0.8, 0.7], [0.7, 0.9, 0.95])
    runs = [[softmax(np.tile([0.0, x], (1000, 1))) for x in side] for side in logits]
    losses = [[math.log(1 + math.exp(-x)) for x in side] for side in logits]
    found = compare_runs(["log_loss"], labels, *runs, paired=True)["log_loss"]
    expected = scipy.stats.ttest_rel(losses[1], losses[0])
    interval = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6)


def test_one_run_a_side_is_no_comparison_of_seeds():
    labels, a, b = two_models(np.random.default_rng(0), 20)
    with pytest.raises(ValueError, match="two or more runs a side"):
        compare_runs(["accuracy"], labels, [a], [b])


def test_summary_of_seeds_equals_scipys_t_interval():
    values = [0.86, 0.88, 0.91, 0.84, 0.87]
    found = summarise_seeds(values, level=0.95)
    low, high = scipy.stats.t.interval(0.95, 4, loc=np.mean(values), scale=scipy.stats.sem(values))
    assert (found.mean, found.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_one_seed_has_a_mean_and_no_interval():
    found = summarise_seeds([0.9], level=0.95)
    assert found.mean == 0.9
    assert all(math.isnan(value) for value in (found.sd, found.low, found.high))


def difference(metric, value, low, high, p_value):
    return Difference(metric, 0.5, 0.5 + value, value, low, high, p_value, 408, "bootstrap")


def test_a_gain_is_said_in_a_plain_sentence():
    found = describe(difference("f1", 0.021, 0.004, 0.038, 0.02), greater_is_better=True, level=0.95)
    assert found == "B is better than A on f1 by 0.021 [0.004, 0.038], p = 0.02."


def test_a_loss_that_fell_is_a_gain():
    found = describe(
        difference("log_loss", -0.1, -0.15, -0.05, 0.0001), greater_is_better=False, level=0.95, a="old", b="new"
    )
    assert found == "new is better than old on log_loss (lower is better) by 0.100 [0.050, 0.150], p < 0.001."


def test_a_fall_of_a_score_names_the_other_side():
    found = describe(difference("f1", -0.1, -0.15, -0.05, 0.01), greater_is_better=True, level=0.95)
    assert found == "A is better than B on f1 by 0.100 [0.050, 0.150], p = 0.01."


def test_no_difference_says_how_many_rows_could_not_show_one():
    found = describe(difference("f1", 0.003, -0.01, 0.02, 0.61), greater_is_better=True, level=0.95)
    assert found == ("No difference on f1 that 408 rows can show: B - A = +0.003 [-0.010, +0.020], p = 0.61.")


def test_an_undefined_metric_says_so():
    nan = math.nan
    assert "not defined" in describe(difference("auroc", nan, nan, nan, nan), greater_is_better=True, level=0.95)


def test_the_interval_over_seeds_holds_the_mean_over_all_seeds_and_all_rows() -> None:
    """The simulation of scripts/simulations/seeds.py, small: that of the seeds alone holds it in about 55 %."""
    held, _, alone = coverage(5, 100, 0.01, 0.8, "accuracy", settings=80)
    assert held >= 0.88  # 95 %, standard error 2.4 %
    assert alone <= 0.75


def test_an_interval_of_seeds_stays_where_the_metric_can_be() -> None:
    few = [0.0, 0.675, 0.0]
    assert summarise_seeds(few, level=0.95).low < 0
    assert within_range(summarise_seeds(few, level=0.95), "f1").low == 0.0
    assert within_range(summarise_seeds([0.65, 1.0], level=0.95), "accuracy").high == 1.0
    assert within_range(summarise_seeds([0.1, 0.9], level=0.95), "loss").low == 0.0
    assert within_range(summarise_seeds(few, level=0.95), "evaluate:mine").low < 0
    assert math.isnan(within_range(summarise_seeds([0.9], level=0.95), "f1").low)


def test_folds_that_are_alike_by_chance_are_no_surer_than_one_score_of_all_rows() -> None:
    alike = summarise_folds([0.5, 0.5, 0.5], n=3, level=0.95)
    assert (alike.low, alike.high) == (0.5, 0.5)
    wider = at_least_as_wide(alike, MetricValue(0.51, 0.47, 0.55))
    assert (wider.low, wider.high) == pytest.approx((0.46, 0.54))
    apart = summarise_folds([0.3, 0.5, 0.7], n=3, level=0.95)
    assert at_least_as_wide(apart, MetricValue(0.51, 0.47, 0.55)) == apart


def test_a_difference_of_seeds_stays_where_it_can_be() -> None:
    labels = np.repeat([0, 1], 20)
    right, wrong = np.eye(2)[labels], np.eye(2)[1 - labels]
    found = compare_runs(["f1"], labels, [right, wrong], [wrong, right])["f1"]
    assert -1 <= found.low < found.high <= 1
    assert smallest_difference(found, None, alpha=0.05) is None, "no difference can be that large"


def test_few_rows_have_no_test_but_mcnemars() -> None:
    labels = np.arange(6) % 2
    wrong_thrice = np.where(np.arange(6) < 3, 1 - labels, labels)
    found = compare(["accuracy", "f1"], labels, np.eye(2)[labels], np.eye(2)[wrong_thrice])
    assert found["accuracy"].p_value == pytest.approx(0.25)
    assert math.isnan(found["f1"].p_value)
    said = describe(found["f1"], greater_is_better=True, level=0.95)
    assert said.startswith("f1: 6 rows are too few for a test: B - A = -0.")
    assert compare(["f1"], labels, np.eye(2)[labels], np.eye(2)[labels])["f1"].p_value == 1.0
