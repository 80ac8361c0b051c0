"""The page of a sweep: every trial, what the best is worth, drawings of the search, text that stays text."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.display.tables.sweep import sweep_result
from finetune_cli.display.terminal import Output
from finetune_cli.records.comparison import Comparison
from finetune_cli.records.evaluation import Corrected, MetricValue
from finetune_cli.records.sweep import ComparedTrials, Finalist, SearchedSetting, SweepReport, TrialResult
from finetune_cli.report.search_charts import Axis, history_chart, parallel_chart, slice_chart
from finetune_cli.report.sweep import sweep_html
from tests.report.report_pages import HOSTILE, Tags

RATE, LORA, PACKED = "training.learning_rate", "model.lora", "training.packing"
PARAMETERS: dict[str, Any] = {
    RATE: {"low": 1e-5, "high": 1e-3, "log": True},
    LORA: [None, {"r": 8}],
    PACKED: [True, False],
    "model.name_or_path": ["a", HOSTILE],
}
TRIALS = [
    (1e-5, None, True, "a"),
    (1e-4, {"r": 8}, False, HOSTILE),
    (1e-3, {"r": 8}, True, "a"),
    (1e-4, None, True, "a"),
]


def trial(number: int, state: Any, value: float | None, **more: Any) -> TrialResult:
    score = None if value is None else MetricValue(value, value - 0.02, value + 0.02)
    values = dict(zip(PARAMETERS, TRIALS[number % 4], strict=True))
    fields = {"n": 100, "seconds": 1.0, "error": None, "defaults": number == 0}
    return TrialResult(number, state, values, score, **{**fields, **more})


def swept(**changes: Any) -> SweepReport:
    comparison = Comparison("f1", "A", "B", -0.04, -0.08, -0.01, 0.01, 0.02, "bootstrap", "worse", "A is better.")
    report = SweepReport(
        run_dir=None,  # type: ignore[arg-type]
        metric="f1",
        greater_is_better=True,
        trials=[
            trial(0, "complete", 0.80),
            trial(1, "complete", 0.86),
            trial(2, "pruned", 0.5),
            trial(3, "failed", None, error=HOSTILE),
        ],
        best=1,
        candidates=9,
        corrected=Corrected(0.84, 0.82, 0.86, 9),
        comparisons=[ComparedTrials(0, comparison)],
        finalists=[Finalist(1, 0.85, 0.01, 0.83, 0.87)],
        settings=[SearchedSetting(RATE, 1e-4, 0.7, 0.1, "high"), SearchedSetting(LORA, {"r": 8}, None, None, None)],
    )
    return replace(report, **changes)


def page(report: SweepReport, parameters: dict[str, Any] = PARAMETERS) -> str:
    return sweep_html(HOSTILE, parameters, report, facts=[("task", HOSTILE)], level=0.95)


def test_the_page_says_what_the_best_is_worth_and_shows_every_trial() -> None:
    found = Tags(page(swept()))
    text = " ".join(found.text.split())
    assert "of the best, trial 10.860[0.840, 0.880]" in text
    assert "corrected for its choice0.840[0.820, 0.860]" in text
    assert "Corrected for the choice among 9 evaluations of 3 trials" in text
    assert "the config's own values, trial 0+0.040 [+0.010, +0.080]" in text  # how much better the best is
    assert "near the high end of its range" in text
    assert "0.70 ± 0.10" in text
    charts = [attributes["aria-label"] for tag, attributes in found.tags if tag == "svg" and "aria-label" in attributes]
    assert charts[:2] == ["f1 of each trial", f"f1 over {RATE}"]
    assert charts[-1] == "Settings and score of each trial"


def test_the_terminal_shows_the_same_difference_as_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    sweep_result(Output(), swept(run_dir=Path("run")))
    shown = capsys.readouterr().out
    assert "trial 1, less" in shown
    assert "trial 0, the config's own values  +0.040 [+0.010, +0.080] p 0.020  better" in shown


def test_an_undefined_difference_has_no_numbers_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    nan = math.nan
    one = replace(
        swept().comparisons[0].comparison, difference=nan, low=nan, high=nan, p_adjusted=nan, verdict="undefined"
    )
    sweep_result(Output(), swept(run_dir=Path("run"), comparisons=[ComparedTrials(0, one)]))
    shown = capsys.readouterr().out
    assert "nan" not in shown
    assert "undefined" in shown


def test_a_collapsed_trial_is_called_that_in_the_page_and_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    trials = [trial(0, "complete", 0.8), trial(1, "complete", 0.86, collapsed="yes")]
    report = swept(run_dir=Path("run"), trials=trials, finalists=[Finalist(1, 0.85, 0.01, 0.83, 0.87, [2, 3])])
    assert "complete, collapsed" in Tags(page(report)).text
    assert "collapsed: seed 2, 3" in Tags(page(report)).text
    sweep_result(Output(), report)
    shown = capsys.readouterr().out
    assert re.search(r"1 \* best +complete, collapsed  0\.860", shown)
    assert "Collapsed: every row is given the answer 'yes'" in shown
    assert "0.010  collapsed: seed 2, 3" in shown


def test_text_stays_text_and_nothing_is_loaded() -> None:
    html = page(swept())
    found = Tags(html)
    assert not {tag for tag, _ in found.tags} & {"script", "img", "iframe", "link", "a"}
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert "\x00" not in html
    assert "\u202e" not in html
    assert "default-src 'none'; style-src 'unsafe-inline'" in html


def test_a_sweep_without_a_finished_trial_has_a_page() -> None:
    failed = swept(trials=[trial(3, "failed", None, error="x")], best=None, comparisons=[], corrected=None, settings=[])
    assert "Trial 3 failed: x" in Tags(page(failed)).text
    assert parallel_chart(failed, [Axis(RATE, PARAMETERS[RATE])]) == ""
    alone = swept(trials=[trial(0, "complete", 0.8)], best=0, comparisons=[], candidates=1)
    assert "It is the only evaluation" in page(alone)


def test_undefined_differences_and_equal_scores_are_drawn() -> None:
    undefined = replace(swept().comparisons[0].comparison, difference=math.nan, low=math.nan, high=math.nan)
    equal = swept(
        trials=[trial(number, "complete", 0.8) for number in range(4)], comparisons=[ComparedTrials(0, undefined)]
    )
    assert "nan" not in page(equal)


@pytest.mark.parametrize(
    ("choice", "value", "place"),
    [
        ({"low": 1e-5, "high": 1e-3, "log": True}, 1e-4, 0.5),
        ({"low": 0, "high": 10}, 2, 0.2),
        ([8, 16, 32], 16, 0.5),
        ([True, 1], 1, 1.0),
        ([None, {"r": 8}], {"r": 8}, 1.0),
    ],
)
def test_values_have_their_place_on_the_axis(choice: Any, value: Any, place: float) -> None:
    assert Axis("a.b", choice).place(value) == pytest.approx(place)


def test_the_line_of_the_history_follows_the_best_so_far() -> None:
    report = swept(trials=[trial(n, "complete", value) for n, value in enumerate((0.5, 0.3, 0.9))], best=2)
    for ours, heights in ((report, [1, 1, 2]), (replace(report, greater_is_better=False), [1, 0, 0])):
        line = history_chart(ours).partition('<polyline class="curve noise" points="')[2].partition('"')[0]
        found = [float(point.partition(",")[2]) for point in line.split()]
        levels = sorted({float(y) for y in found}, reverse=True)
        assert len(levels) == len(set(heights))
        assert [found[0] >= y for y in found] == [heights[0] <= height for height in heights]
    assert slice_chart(report, Axis(RATE, PARAMETERS[RATE])).count("<circle") == 3
