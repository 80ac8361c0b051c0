"""Results as people read them, from records made by hand."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.display.tables.evaluate import evaluate_result
from finetune_cli.display.tables.prepare import histogram_lines, prepare_result
from finetune_cli.display.tables.seeds import seeds_result
from finetune_cli.display.tables.train import train_result
from finetune_cli.display.terminal import Output
from finetune_cli.records.evaluation import ClassScore, EvalReport, MetricValue, PairedDifference, TextBaseline
from finetune_cli.records.preparation import Padding, PrepareReport
from finetune_cli.records.training import BestSeed, SeedsReport, TrainReport


def report(num_classes: int = 2, **changes: Any) -> EvalReport:
    names = [f"class {number}" for number in range(num_classes)]
    fields: dict[str, Any] = {
        "split": "validation",
        "n": 408,
        "loss": 0.41234,
        "metrics": {"accuracy": MetricValue(0.8505, 0.8137, 0.8848), "f1": MetricValue(0.8994, 0.8722, 0.9234)},
        "baseline": {"accuracy": 0.6838, "f1": 0.8122},
        "per_class": [ClassScore(name, 0.5, 0.25, 0.3333, 204) for name in names],
        "confusion": [[100 + 10 * row + column for column in range(num_classes)] for row in range(num_classes)],
    }
    return EvalReport(**{**fields, **changes})


def test_a_score_shows_its_interval_its_rows_and_the_baseline(capsys: pytest.CaptureFixture[str]):
    evaluate_result(Output(), report())
    assert capsys.readouterr().out == (
        "validation: 408 rows, loss 0.4123\n"
        "  score                                always the commonest class\n"
        "  accuracy 0.851 [0.814, 0.885] n=408                       0.684\n"
        "  f1 0.899 [0.872, 0.923] n=408                             0.812\n"
        "\n"
        "  class    precision  recall     f1  rows\n"
        "  class 0      0.500   0.250  0.333   204\n"
        "  class 1      0.500   0.250  0.333   204\n"
        "\n"
        "  true \\ predicted  class 0  class 1\n"
        "  class 0               100      101\n"
        "  class 1               110      111\n"
    )


def test_regression_has_neither_classes_nor_a_confusion_matrix(capsys: pytest.CaptureFixture[str]):
    scored = report(
        metrics={"pearson": MetricValue(0.8, 0.7, 0.9), "mse": MetricValue(0.5)},
        baseline={"mse": 2.25},
        per_class=[],
        confusion=[],
    )
    evaluate_result(Output(), scored)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  score                               always the mean",
        "  pearson 0.800 [0.700, 0.900] n=408                -",
        "  mse 0.500 n=408                               2.250",
    ]


def test_a_bare_model_has_no_baseline(capsys: pytest.CaptureFixture[str]):
    evaluate_result(Output(), report(baseline={}))
    assert capsys.readouterr().out.splitlines()[1:3] == ["  score", "  accuracy 0.851 [0.814, 0.885] n=408"]


@pytest.mark.parametrize(
    ("metric", "low", "high", "worse"),
    [
        ("accuracy", -0.2, -0.01, True),
        ("accuracy", -0.2, 0.01, False),
        ("accuracy", 0.01, 0.2, False),
        ("log_loss", 0.01, 0.2, True),
        ("log_loss", -0.2, -0.01, False),
    ],
)
def test_a_model_that_the_words_alone_beat_is_told_what_to_try(
    capsys: pytest.CaptureFixture[str], metric: str, low: float, high: float, worse: bool
):
    difference = PairedDifference((low + high) / 2, low, high, 0.01, "bootstrap")
    words = TextBaseline(120, {metric: MetricValue(0.7, 0.6, 0.8)}, {metric: difference})
    evaluate_result(Output(), report(text_baseline=words))
    said = capsys.readouterr().out
    assert "TF-IDF, fitted on 120 rows" in said
    assert ("The model is worse than that" in said) is worse


def advice(capsys: pytest.CaptureFixture[str], *, stopped_early: bool = False, **changes: Any) -> str:
    """What the end of a run says of a model that is worse than TF-IDF, in one line."""
    worse = PairedDifference(-0.2, -0.3, -0.1, 0.01, "bootstrap")
    words = TextBaseline(120, {"accuracy": MetricValue(0.7, 0.6, 0.8)}, {"accuracy": worse})
    scored = report(text_baseline=words, **changes)
    train_result(Output(), train_report(evaluations=[scored], stopped_early=stopped_early), pair=False)
    return " ".join(capsys.readouterr().out.partition("The model is worse than that")[2].split())


SEVERAL_LABELS: dict[str, Any] = {"num_classes": 5, "confusion": []}
NUMBERS: dict[str, Any] = {"per_class": [], "confusion": []}


@pytest.mark.parametrize(
    ("changes", "diverged"),
    [
        ({"loss": 99.0}, True),
        ({"loss": math.inf}, True),
        ({"loss": 1.38}, False),
        ({"loss": 1.39}, True),
        ({"loss": 3.2, "num_classes": 5}, False),
        ({"loss": 3.3, "num_classes": 5}, True),
        ({"loss": 1.38, **SEVERAL_LABELS}, False),
        ({"loss": 1.39, **SEVERAL_LABELS}, True),
    ],
)
def test_after_a_training_that_diverged_a_lower_learning_rate_is_named(
    capsys: pytest.CaptureFixture[str], changes: dict[str, Any], diverged: bool
):
    said = advice(capsys, **changes)
    assert ("the training diverged. Set a lower training.learning_rate." in said) is diverged
    assert ("a higher training.learning_rate" in said) is not diverged


@pytest.mark.parametrize(("loss", "diverged"), [(17.7, True), (0.69, False)])
def test_a_collapsed_model_of_a_training_that_diverged_is_told_so_without_the_words(
    capsys: pytest.CaptureFixture[str], loss: float, diverged: bool
):
    evaluate_result(Output(), report(loss=loss, collapsed="class 1"))
    assert ("the training diverged. Set a lower training.learning_rate." in capsys.readouterr().out) is diverged


def test_after_an_early_stop_more_patience_is_named_in_place_of_more_epochs(capsys: pytest.CaptureFixture[str]):
    for kind in ({}, SEVERAL_LABELS, NUMBERS):
        assert "more training.num_epochs, or" in advice(capsys, **kind)
        said = advice(capsys, stopped_early=True, **kind)
        assert "more patience in training.early_stopping (or null)" in said
        assert "num_epochs" not in said


def test_the_advice_has_the_words_of_the_task(capsys: pytest.CaptureFixture[str]):
    assert "the words alone tell these classes apart." in advice(capsys)
    assert "the words alone tell which labels a row has." in advice(capsys, **SEVERAL_LABELS)
    said = advice(capsys, loss=99.0, **NUMBERS)
    assert "a lower one if the loss rose. Where nothing helps, the words alone predict these numbers." in said


def test_many_classes_show_their_commonest_mistakes(capsys: pytest.CaptureFixture[str]):
    confusion = [[0] * 20 for _ in range(20)]
    confusion[3][4], confusion[5][5] = 7, 90
    for row in range(12):
        confusion[row][19] = 1
    evaluate_result(Output(), report(20, confusion=confusion))
    said = capsys.readouterr().out.partition("  true")[2].splitlines()
    assert said[1].split() == ["class", "3", "class", "4", "7"]
    assert said[-1] == "  and 3 rarer kinds of mistake"
    assert len(said) == 12


def test_a_classifier_without_mistakes_is_said_to_make_none(capsys: pytest.CaptureFixture[str]):
    confusion = [[9 * (row == column) for column in range(20)] for row in range(20)]
    evaluate_result(Output(), report(20, confusion=confusion))
    assert capsys.readouterr().out.endswith("  No mistakes.\n")


def test_the_matrix_of_long_class_names_fits_80_columns(capsys: pytest.CaptureFixture[str]):
    names = [f"a very long name of a class, number {number}" for number in range(5)]
    evaluate_result(Output(), report(5, per_class=[ClassScore(name, 1, 1, 1, 1) for name in names]))
    matrix = capsys.readouterr().out.partition("  true")[2]
    assert max(map(len, matrix.splitlines())) <= 80


def train_report(**changes: Any) -> TrainReport:
    fields: dict[str, Any] = {
        "run_dir": Path("runs/my run"),
        "steps": 1377,
        "best_step": 918,
        "resumed_from": 0,
        "seconds": 754.0,
        "rows_per_second": 14.6,
        "already_finished": False,
        "evaluations": [report()],
    }
    return TrainReport(**{**fields, **changes})


def test_the_end_of_a_run_says_how_long_where_and_what_next(capsys: pytest.CaptureFixture[str]):
    train_result(Output(), train_report(), pair=True)
    said = capsys.readouterr().out
    assert "f1 0.899 [0.872, 0.923] n=408" in said
    assert "1377 updates in 12:34 (15 rows/s). Best: update 918, saved and scored above.\n" in said
    assert 'finetune predict \'runs/my run\' --text "..." --text-pair "..."\n' in said


def test_the_end_of_a_continued_run_says_where_it_went_on(capsys: pytest.CaptureFixture[str]):
    train_result(Output(), train_report(resumed_from=459), pair=False)
    said = capsys.readouterr().out
    assert "(15 rows/s), going on from update 459. Best: update 918, saved and scored above." in said
    assert "--text-pair" not in said


def test_a_run_that_was_finished_before_says_so(capsys: pytest.CaptureFixture[str]):
    train_result(Output(), train_report(already_finished=True), pair=False)
    assert "Finished before, after 1377 updates; nothing was trained." in capsys.readouterr().out


@pytest.mark.parametrize(("best", "named"), [(2, "seed-2"), (None, "seed-1")])
def test_after_several_seeds_the_best_one_is_named_as_the_next_to_evaluate(
    capsys: pytest.CaptureFixture[str], best: int | None, named: str
):
    runs = {seed: train_report(run_dir=Path(f"runs/sa/seed-{seed}")) for seed in (1, 2)}
    chosen = None if best is None else BestSeed(best, "accuracy", MetricValue(0.9), 2, None)
    seeds_result(Output(), SeedsReport(Path("runs/sa"), [1, 2], 0.95, runs, {}, [], best=chosen))
    said = capsys.readouterr().out
    assert re.findall("finetune evaluate (.*)", said) == [f"runs/sa/{named}"]


def test_json_has_null_where_a_number_is_not_finite(capsys: pytest.CaptureFixture[str]):
    Output(as_json=True).result(report(loss=math.nan, baseline={"f1": math.inf}), evaluate_result)
    answer = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (answer["loss"], answer["baseline"]["f1"], answer["metrics"]["f1"]["low"]) == (None, None, 0.8722)


def test_other_processes_than_the_main_one_print_nothing(capsys: pytest.CaptureFixture[str]):
    evaluate_result(Output(enabled=False), report())
    Output(as_json=True, enabled=False).result(report(), evaluate_result)
    assert capsys.readouterr().out == ""


def test_a_histogram_leaves_out_the_empty_end():
    bins = [(1, 10, 20), (11, 20, 0), (21, 30, 1), (31, 40, 0), (41, None, 0)]
    assert histogram_lines(bins) == [
        " 1-10  20  ########################################",
        "11-20   0",
        "21-30   1  ##",
    ]


def test_a_histogram_ends_with_the_truncated_rows():
    assert histogram_lines([(1, 64, 2), (65, None, 2)])[-1] == " 65+  2  ########################################"


def split_report(**changes: Any) -> dict[str, Any]:
    fields = {
        "where": "d/train.csv",
        "fingerprint": "0",
        "rows": 100,
        "labels": {"no": 60, "yes": 40},
        "lengths": {"min": 3, "q25": 5, "median": 9, "q75": 12, "q95": 15, "max": 80},
        "histogram": [[1, 64, 98], [65, None, 2]],
        "truncated": 2,
        "truncated_share": 0.02,
        "empty_texts": 1,
    }
    return {**fields, **changes}


def prepared_text(
    capsys: pytest.CaptureFixture[str], *, reused: bool = False, findings: Sequence[Any] = (), **splits: Any
) -> str:
    padding = {"batch_size": 8, "random": 0.314, "length": 0.021}
    facts = {"max_length": 64, "splits": splits, "seconds": 1.5, "rows_per_second": 66.7, "findings": findings}
    report = replace(PrepareReport.from_json(facts), padding=Padding(**padding), reused=reused)
    prepare_result(Output(), Path("cache/key"), None, report, [])
    return capsys.readouterr().out


def test_prepare_reports_rows_lengths_labels_and_padding(capsys: pytest.CaptureFixture[str]):
    said = prepared_text(capsys, train=split_report())
    assert "  train   100              9    15       80   2 (2.0%)      1\n" in said
    assert "labels of train: no 60 (60.0%), yes 40 (40.0%)\n" in said
    assert "Padding in batches of 8: 31.4% in random order, 2.1% with rows of similar length together.\n" in said
    assert "Tokenised in 1.5 s: cache/key\n" in said


def test_prepare_shows_what_always_answering_one_class_would_reach(capsys: pytest.CaptureFixture[str]):
    said = prepared_text(capsys, train=split_report(), validation=split_report(labels={"no": 30, "yes": 70}))
    assert "always answering no: accuracy 0.300 on validation\n" in said
    assert "always" not in prepared_text(capsys, train=split_report(labels=None), validation=split_report(labels=None))


def test_prepare_shows_findings_at_length(capsys: pytest.CaptureFixture[str]):
    assert "\nData checks: nothing found.\n" in prepared_text(capsys, train=split_report())
    finding = {
        "check": "markup",
        "split": "train",
        "where": "d/train.csv",
        "count": 9,
        "rows": [1, 2, 3, 4, 5],
        "problem": "9 of 100 rows have HTML tags or entities",
        "example": "'a <br> b'",
        "advice": "Turn them into plain text.",
        "level": "warn",
    }
    said = prepared_text(capsys, train=split_report(), findings=[finding])
    assert (
        "\nData checks: 1 warning\n"
        "  markup, d/train.csv: 9 of 100 rows have HTML tags or entities\n"
        "    rows 1, 2, 3, 4, 5 ... (9 in all)\n"
        "    such as 'a <br> b'\n"
        "    Turn them into plain text.\n\n"
    ) in said


def test_prepare_gives_the_same_advice_once(capsys: pytest.CaptureFixture[str]):
    def finding(check: str, split: str) -> dict[str, Any]:
        advice = f"What to do about {check}."
        facts = {"count": 0, "rows": [], "example": None, "level": "warn"}
        return {"check": check, "split": split, "where": f"d/{split}.csv", "problem": "bad", "advice": advice, **facts}

    found = [finding(check, split) for split in ("train", "validation") for check in ("markup", "duplicates")]
    said = prepared_text(capsys, train=split_report(), findings=found)
    assert (
        "\nData checks: 4 warnings\n"
        "  markup, d/train.csv: bad\n"
        "  markup, d/validation.csv: bad\n"
        "    What to do about markup.\n"
        "  duplicates, d/train.csv: bad\n"
        "  duplicates, d/validation.csv: bad\n"
        "    What to do about duplicates.\n\n"
    ) in said


def test_prepare_says_when_nothing_had_to_be_tokenised(capsys: pytest.CaptureFixture[str]):
    assert "Tokenised before, used again: cache/key\n" in prepared_text(capsys, reused=True, train=split_report())


def test_prepare_shows_the_commonest_of_many_labels(capsys: pytest.CaptureFixture[str]):
    labels = {f"c{number}": number for number in range(1, 78)}
    said = prepared_text(capsys, train=split_report(labels=labels), test=split_report(labels=None))
    assert "labels of train: c77 77 (2.6%), c76 76 (2.5%), " in said
    assert "and 72 more classes, the smallest with 1\n" in said
    assert "labels of test: -\n" in said
    said = prepared_text(capsys, train=split_report(labels={f"c{number}": number for number in range(1, 7)}))
    assert "c2 2 (9.5%), c1 1 (4.8%)\n" in said  # one more is shown itself
