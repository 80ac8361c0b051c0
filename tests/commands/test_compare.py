"""finetune compare, on small run directories made by hand."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from finetune_cli.cli import app
from finetune_cli.commands.compare import compare
from finetune_cli.config.dump import to_yaml
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, DataError, GateFailedError, MissingError
from finetune_cli.evaluation.comparison import compare_seeds
from finetune_cli.evaluation.scored_rows import ScoredRows, scored_rows
from finetune_cli.evaluation.scoring import ScoringRules, score_split
from finetune_cli.evaluation.seed_summary import summarise_seeds
from finetune_cli.records.comparison import CompareReport, Comparison
from finetune_cli.records.resampling import Resampling
from tests.commands.run_files import Answer

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("negative", "positive")
LABELS = [0, 1] * 20
ONLY_A, ONLY_B = {0}, set(range(1, 10))  # of 40 rows A has one alone right and B nine; the other thirty both


def class_rows(wrong: set[int], *, sure: float = 0.8, labels: Sequence[int] = LABELS) -> list[dict[str, Any]]:
    """Rows as `evaluate` writes them: the chosen ones answered wrongly, all with the same confidence."""
    rows = []
    for number, label in enumerate(labels):
        answer = 1 - label if number in wrong else label
        probabilities = {name: sure if code == answer else 1 - sure for code, name in enumerate(CLASSES)}
        row = {"id": f"row {number}", "label": CLASSES[label], "prediction": CLASSES[answer]}
        rows.append({**row, "probabilities": probabilities})
    return rows


def number_rows(noise: float, *, constant: float | None = None) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    labels = rng.random(60) * 5
    values = labels + noise * rng.normal(size=60)
    predictions = values if constant is None else np.full(60, constant)
    pairs = zip(labels.tolist(), predictions.tolist(), strict=True)
    return [{"id": number, "label": a, "prediction": b} for number, (a, b) in enumerate(pairs)]


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def make_run(path: Path, rows: Sequence[Any], *overrides: str, task: str = "sst2", split: str = "validation") -> str:
    """A run directory with a config and the predictions of one split; returns its name."""
    path.mkdir(parents=True)
    source = path.with_suffix(".source.yaml")
    source.write_text(f"task: {task}\nmodel:\n  name_or_path: bert-base-uncased\noutput_dir: {json.dumps(str(path))}\n")
    (path / "config.yaml").write_text(to_yaml(load_config(source, overrides)), encoding="utf-8")
    write_jsonl(path / "eval" / split / "predictions.jsonl", rows)
    return str(path)


@pytest.fixture
def two_runs(tmp_path: Path) -> tuple[str, str]:
    """A, and B which is right more often; they differ in the learning rate and the seed."""
    a = make_run(tmp_path / "a", class_rows(ONLY_B))
    return a, make_run(tmp_path / "b", class_rows(ONLY_A), "training.learning_rate=2e-5", "seed=7")


def by_metric(report: CompareReport) -> dict[str, Comparison]:
    assert len(report.sides) == 2
    return {one.metric: one for one in report.comparisons}


def test_accuracy_is_mcnemars_test_worked_by_hand(two_runs: tuple[str, str]) -> None:
    report = compare(two_runs)
    accuracy = by_metric(report)["accuracy"]
    # Of 10 disagreements 1 against 9: 2 * (C(10,0) + C(10,1)) / 2^10
    assert accuracy.p_value == pytest.approx(22 / 1024)
    assert (accuracy.only_a, accuracy.only_b, accuracy.method) == (1, 9, "mcnemar")
    assert accuracy.difference == pytest.approx(8 / 40)
    assert [side.metrics["accuracy"].value for side in report.sides] == [31 / 40, 39 / 40]
    assert (accuracy.verdict, report.n, report.seeds) == ("better", 40, False)
    assert accuracy.sentence.startswith("B is better than A on accuracy by 0.200 [0.")
    assert accuracy.sentence.endswith("], p = 0.021 (interval: bootstrap, p: McNemar's test).")


def test_the_metrics_are_those_of_the_runs_or_those_asked_for(two_runs: tuple[str, str]) -> None:
    assert list(by_metric(compare(two_runs))) == ["accuracy", "f1"]
    assert list(by_metric(compare(two_runs, metrics=["auroc", "ece"]))) == ["auroc", "ece"]
    gated = compare(two_runs, metrics=["auroc"], fail_if_worse=["f1"])
    assert [one.method for one in gated.comparisons] == ["bootstrap", "bootstrap"]
    assert list(by_metric(gated)) == ["auroc", "f1"]


def test_lower_is_better_where_it_is(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", class_rows(set(), sure=0.6))
    b = make_run(tmp_path / "b", class_rows(set(), sure=0.9))
    found = by_metric(compare([a, b], metrics=["log_loss", "accuracy"]))
    assert found["log_loss"].difference == pytest.approx(np.log(0.6 / 0.9))
    assert (found["log_loss"].verdict, found["accuracy"].verdict) == ("better", "no difference")
    assert "40 rows can show" in found["accuracy"].sentence


def test_the_config_keys_that_differ_are_listed_for_every_side(tmp_path: Path, two_runs: tuple[str, str]) -> None:
    third = make_run(tmp_path / "c", class_rows(ONLY_A), "data.max_length=64")
    file = write_jsonl(tmp_path / "answers.jsonl", class_rows(ONLY_A))
    found = {one.key: one.values for one in compare([*two_runs, third, str(file)]).config_differences}
    assert found == {
        "training.learning_rate": {"A": 5e-5, "B": 2e-5, "C": 5e-5},
        "seed": {"A": 42, "B": 7, "C": 42},
        "data.max_length": {"A": None, "B": None, "C": 64},
    }


def test_intervals_are_those_that_evaluate_printed(two_runs: tuple[str, str]) -> None:
    logits = np.log([[row["probabilities"][name] for name in CLASSES] for row in class_rows(ONLY_A)])
    rules = ScoringRules("classification", CLASSES, ("accuracy", "f1"), Resampling(1000, 0.95, 7))
    printed = score_split("validation", logits, np.array(LABELS), rules, train_labels=np.array(LABELS))
    assert compare(two_runs).sides[1].metrics == printed.metrics


def test_a_run_without_intervals_can_be_compared(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / name, class_rows(wrong), "evaluation.bootstrap.samples=0")
        for name, wrong in (("a", ONLY_B), ("b", ONLY_A))
    ]
    report = compare(runs)
    assert report.samples == 1000
    assert by_metric(report)["f1"].verdict == "better"


def test_rows_and_classes_are_paired_by_name_whatever_their_order(tmp_path: Path, two_runs: tuple[str, str]) -> None:
    turned = [
        {**row, "probabilities": dict(reversed(row["probabilities"].items()))} for row in reversed(class_rows(ONLY_A))
    ]
    other = make_run(tmp_path / "turned", turned, "training.learning_rate=2e-5", "seed=7")
    names = ["accuracy", "f1", "log_loss"]
    expected, found = compare(two_runs, metrics=names), compare([two_runs[0], other], metrics=names)
    assert found.comparisons == expected.comparisons
    assert found.sides[1].metrics == expected.sides[1].metrics


def test_a_prediction_counts_as_it_was_written(tmp_path: Path) -> None:
    """A threshold may decide otherwise than the likeliest class."""
    rows = class_rows({3})
    decided = [{**row, "prediction": row["label"]} for row in rows]
    files = [str(write_jsonl(tmp_path / f"{n}.jsonl", rows)) for n, rows in enumerate([rows, decided])]
    report = compare(files, metrics=["accuracy", "log_loss"])
    assert [side.metrics["accuracy"].value for side in report.sides] == [39 / 40, 1.0]
    assert by_metric(report)["log_loss"].difference == 0


def test_predictions_files_need_no_run(tmp_path: Path) -> None:
    files = [str(write_jsonl(tmp_path / f"{n}.jsonl", class_rows(wrong))) for n, wrong in enumerate([ONLY_B, ONLY_A])]
    report = compare(files)
    assert list(by_metric(report)) == ["accuracy", "f1_macro"]
    assert (report.split, report.config_differences, report.sides[0].seeds) == (None, [], [])


def test_regression_is_compared_by_its_own_metrics(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, number_rows(noise), task="stsb") for name, noise in (("a", 1.0), ("b", 0.2))]
    report = compare(runs)
    found = by_metric(report)
    assert list(found) == ["pearson", "spearman", "mse"]
    assert {one.verdict for one in found.values()} == {"better"}
    rows = number_rows(1.0)
    assert report.sides[0].metrics["mse"].value == pytest.approx(
        np.mean([(row["label"] - row["prediction"]) ** 2 for row in rows])
    )
    with pytest.raises(ConfigError, match="accuracy is a metric for classification or multilabel, and this task is"):
        compare(runs, metrics=["accuracy"])


def seed_runs(tmp_path: Path, seeds_b: Sequence[int] = (2, 1, 3)) -> list[str]:
    """Two settings, three seeds each; of setting B in another order. Every second wrong row is the settings' own."""
    made = []
    for setting, rate, seeds in (("a", "5e-5", (1, 2, 3)), ("b", "2e-5", seeds_b)):
        for run, seed in enumerate(seeds):
            wrong = {seed, seed + 10, seed + 20} if setting == "b" else set(range(8 + seed))
            change = f"training.learning_rate={rate}"
            made.append(make_run(tmp_path / f"{setting}-{run}", class_rows(wrong), change, f"seed={seed}"))
    return made


def test_several_seeds_a_side_are_repeated_measures(tmp_path: Path) -> None:
    report = compare(seed_runs(tmp_path))
    assert report.seeds
    assert [side.seeds for side in report.sides] == [[1, 2, 3], [2, 1, 3]]
    assert [one.key for one in report.config_differences] == ["training.learning_rate"]
    expected = summarise_seeds([31 / 40, 30 / 40, 29 / 40], level=0.95, row_variance=0.75 * 0.25 / 40)
    first = report.sides[0]
    assert (first.metrics["accuracy"].value, first.sd["accuracy"]) == pytest.approx((30 / 40, 1 / 40))
    # the rows' part is of 1,000 resamples: its standard error is 2 %
    assert first.metrics["accuracy"].low == pytest.approx(expected.low, abs=0.01)
    found = by_metric(report)["accuracy"]
    assert (found.method, found.only_a) == ("seeds", None)
    assert found.difference == pytest.approx(37 / 40 - 30 / 40)


@pytest.mark.parametrize(("seeds_b", "paired"), [((2, 1, 3), True), ((4, 5, 6), False)])
def test_runs_with_the_same_seeds_are_paired_by_seed(tmp_path: Path, seeds_b: tuple[int, ...], paired: bool) -> None:
    found = by_metric(compare(seed_runs(tmp_path, seeds_b)))["accuracy"]

    def with_errors(wrong: set[int]) -> ScoredRows:
        answers = [1 - label if n in wrong else label for n, label in enumerate(LABELS)]
        return scored_rows(np.array(LABELS), np.eye(2)[answers], "classification")

    expected = compare_seeds(
        ["accuracy"],
        [with_errors(set(range(8 + seed))) for seed in (1, 2, 3)],
        [with_errors({seed, seed + 10, seed + 20}) for seed in sorted(seeds_b)],
        Resampling(1000, seed=1),
        paired=paired,
    )["accuracy"]
    assert (found.low, found.high, found.p_value) == pytest.approx((expected.low, expected.high, expected.p_value))


def test_without_two_settings_of_several_seeds_each_run_stands_alone(tmp_path: Path) -> None:
    runs = seed_runs(tmp_path)
    for chosen in (runs[:3], runs[:4]):  # one setting; one run of B
        report = compare(chosen)
        assert not report.seeds
        assert [side.runs for side in report.sides] == [[run] for run in chosen]
        assert [(one.a, one.b) for one in report.comparisons if one.metric == "f1"] == [
            ("A", side.name) for side in report.sides[1:]
        ]


def seeds_run(path: Path, right: int, *overrides: str) -> str:
    """The directory that a training with seeds 1, 2 and 3 leaves; `right` of 40 rows are right, less the seed."""
    for seed in (1, 2, 3):
        run = Path(
            make_run(path / f"seed-{seed}", class_rows(set(range(right - seed, 40))), f"seed={seed}", *overrides)
        )
        (run / "model").mkdir()
    config = load_config(path / "seed-1.source.yaml", ["training.seeds=[1, 2, 3]", f"output_dir={path}", *overrides])
    (path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    return str(path)


def test_directories_of_several_seeds_are_repeated_measures(tmp_path: Path) -> None:
    a, b = seeds_run(tmp_path / "a", 30), seeds_run(tmp_path / "b", 38, "training.learning_rate=2e-5")
    report = compare([a, b])
    assert report.seeds
    assert [side.seeds for side in report.sides] == [[1, 2, 3], [1, 2, 3]]
    assert report.sides[1].runs == [f"{b}/seed-{seed}" for seed in (1, 2, 3)]
    assert by_metric(report)["accuracy"].difference == pytest.approx(8 / 40)
    assert [one.key for one in report.config_differences] == ["training.learning_rate"]
    same_setting = seeds_run(tmp_path / "c", 30)
    assert compare([a, same_setting]).seeds  # another version of the code, say


def test_several_seeds_are_not_compared_with_one_run(tmp_path: Path, two_runs: tuple[str, str]) -> None:
    seeds = seeds_run(tmp_path / "seeds", 30)
    with pytest.raises(ConfigError, match=r"a is one run, .* such as .*seeds/seed-1"):
        compare([two_runs[0], seeds])
    (tmp_path / "seeds" / "seed-2" / "model").rmdir()
    with pytest.raises(MissingError, match=r"(?s)not finished: seeds without a model are 2\..*finetune train "):
        compare([seeds, two_runs[0]])


def test_runs_with_the_same_answers_are_called_that(tmp_path: Path) -> None:
    report = compare([make_run(tmp_path / name, class_rows(ONLY_A)) for name in ("a", "b")])
    assert by_metric(report)["f1"].sentence == "No difference on f1: B answers every row exactly as A does."
    twice = compare([report.sides[0].runs[0], f"{report.sides[0].runs[0]}/"])
    assert by_metric(twice)["f1"].sentence == "No difference on f1: B is the same run as A."


def test_a_collapsed_run_is_called_that(tmp_path: Path, command: Callable[..., Answer]) -> None:
    a = make_run(tmp_path / "a", class_rows(ONLY_A))
    b = make_run(tmp_path / "b", class_rows({number for number, label in enumerate(LABELS) if label == 0}))
    assert [side.collapsed for side in compare([a, b]).sides] == [{}, {b: "positive"}]
    for option in ([], ["--markdown"]):
        assert "Collapsed: every row is given the answer 'positive'" in command(["compare", a, b, *option]).stdout


def test_the_result_for_people(two_runs: tuple[str, str], command: Callable[..., Answer]) -> None:
    answer = command(["compare", *two_runs])
    assert (answer.code, answer.stderr) == (0, "")
    lines = answer.stdout.splitlines()
    assert lines[:9] == [
        "validation: 40 rows, paired by id",
        f"  A  {two_runs[0]}",
        f"  B  {two_runs[1]}",
        "",
        "  config                      A      B",
        "  training.learning_rate  5e-05  2e-05",
        "  seed                       42      7",
        "",
        "  score                        A                     B",
    ]
    assert lines[9].startswith("  accuracy  0.775 [0.")
    assert lines[12].startswith("B is better than A on accuracy by 0.200 [")
    assert lines[12].endswith("p: McNemar's test). Rows that one alone has right: A 1, B 9.")
    assert lines[13] == "  At 25.0 % disagreements these rows show differences from 0.219 on, in 80 % of such tests."
    assert lines[14].startswith("B is better than A on f1 by ")
    assert lines[15].startswith("  These rows show differences from 0.")
    assert lines[17].startswith("Accuracy by McNemar's test, the rest by paired bootstrap; 95 % intervals, 1,000 res")


def test_the_seeds_result_shows_spread(tmp_path: Path, command: Callable[..., Answer]) -> None:
    answer = command(["compare", *seed_runs(tmp_path), "--metric", "accuracy"])
    assert answer.code == 0
    low, high = map(float, re.search(r"0\.750 \[(.*), (.*)\] sd 0\.025", answer.stdout).groups())
    # rows: sqrt(0.75 * 0.25 / 40) = 0.068, seeds: 0.025 / sqrt(3) = 0.014; with so many degrees of freedom t is 1.96
    assert (low, high) == pytest.approx((0.75 - 0.137, 0.75 + 0.137), abs=0.01)
    assert "Means over seeds; tests by Student's t over seeds and rows" in answer.stdout


def test_three_runs_are_a_family(tmp_path: Path, command: Callable[..., Answer]) -> None:
    wrong = {"a": set(range(10)), "b": set(range(4)), "c": {30, 31}}
    runs = [make_run(tmp_path / name, class_rows(rows)) for name, rows in wrong.items()]
    pair, first, every = compare(runs[:2]), compare(runs), compare(runs, all_pairs=True)
    assert (pair.family, first.family, every.family) == (1, 2, 3)
    assert every.pairs == [("A", "B"), ("A", "C"), ("B", "C")]
    alone, of_two, of_three = (
        next(one for one in report.comparisons if one.metric == "accuracy") for report in (pair, first, every)
    )
    assert alone.p_adjusted == alone.p_value == of_two.p_value == of_three.p_value
    assert alone.p_value < of_two.p_adjusted <= of_three.p_adjusted
    assert alone.detectable < of_two.detectable <= of_three.detectable  # exact tests go in steps
    assert (alone.verdict, of_three.verdict) == ("better", "no difference")
    assert "adjusted for 3 comparisons, alone 0.031" in of_three.sentence
    answer = command(["compare", *runs, "--all-pairs", "--html", tmp_path / "page.html", "--metric", "accuracy"])
    assert "p adjusted for 3 comparisons of a metric (Holm), intervals not" in answer.stdout
    page = (tmp_path / "page.html").read_text()
    assert "C against B" in page
    assert "adjusted for 3 comparisons" in page


def test_a_plan_says_how_many_rows_a_difference_needs(
    two_runs: tuple[str, str], command: Callable[..., Answer]
) -> None:
    answer = command(["compare", *two_runs, "--metric", "accuracy", "--plan", "0.05"])
    assert answer.code == 0, answer.stderr
    rows = int(
        re.search(r"To show 0\.05 on accuracy in 80 % of such tests: ([\d,]+) rows", answer.stdout)[1].replace(",", "")
    )
    assert 700 < rows < 900  # normal distribution: 2.8^2 * (0.25 - 0.05^2) / 0.05^2 = 776
    for wrong in ("0", "-1", "nan"):
        refused = command(["compare", *two_runs, f"--plan={wrong}"])
        assert refused.code == 2
        assert "expected a difference above 0" in refused.stderr


def test_json_is_one_document_with_every_number(tmp_path: Path, command: Callable[..., Answer]) -> None:
    a = make_run(tmp_path / "a", number_rows(0.5), task="stsb")
    b = make_run(tmp_path / "b", number_rows(0.5, constant=2.5), "data.text=[x, y]", task="stsb")
    found = json.loads(command(["compare", a, b, "--json"]).stdout)
    assert found.keys() == {
        "split", "n", "level", "samples", "seeds", "sides", "config_differences", "comparisons", "family"
    }  # fmt: skip
    assert (found["split"], found["n"], found["level"], found["seeds"]) == ("validation", 60, 0.95, False)
    assert found["config_differences"] == [
        {"key": "data.text", "values": {"A": ["sentence1", "sentence2"], "B": ["x", "y"]}}
    ]
    side, comparison = found["sides"][1], found["comparisons"][0]
    assert side.keys() == {"name", "runs", "seeds", "metrics", "sd", "collapsed"}
    assert (side["name"], side["runs"], side["seeds"], side["sd"]) == ("B", [b], [42], {})
    assert side["metrics"]["pearson"] == {"value": None, "low": None, "high": None}  # of a constant: not defined
    assert side["metrics"]["mse"].keys() == {"value", "low", "high"}
    assert comparison == {
        "metric": "pearson", "a": "A", "b": "B", "difference": None, "low": None, "high": None, "p_value": None,
        "p_adjusted": None, "method": "bootstrap", "verdict": "undefined",
        "sentence": "pearson is not defined on these 60 rows.", "detectable": None, "disagreements": None, "plan": None,
        "only_a": None, "only_b": None,
    }  # fmt: skip
    assert found["comparisons"][2]["verdict"] == "worse"


def test_markdown_is_ready_to_paste(tmp_path: Path, command: Callable[..., Answer]) -> None:
    same = class_rows({1, 2})
    a = make_run(tmp_path / "old", same, "evaluation.metrics=[accuracy]")
    b = make_run(tmp_path / "new|`x`", same, "evaluation.metrics=[accuracy]", "model.name_or_path='a|b'")
    answer = command(["compare", a, b, "--markdown"])
    score = answer.stdout.splitlines()[8].split(" | ")[1]
    assert answer.stdout == (
        "**validation: 40 rows, paired by id**\n"
        "\n"
        f"- **A**: `{a}`\n"
        f"- **B**: `{tmp_path}/new\\|'x'`\n"
        "\n"
        "| | A | B |\n"
        "| --- | ---: | ---: |\n"
        "| `model.name_or_path` | `bert-base-uncased` | `a\\|b` |\n"
        f"| **accuracy** | {score} | {score} |\n"
        "\n"
        "- No difference on accuracy: B answers every row exactly as A does. "
        "Rows that one alone has right: A 0, B 0.\n"
        "  At 0.0 % disagreements these rows show differences from 0.190 on, in 80 % of such tests.\n"
        "\n"
        "Accuracy by McNemar's test, the rest by paired bootstrap; 95 % intervals, 1,000 resamples. This tells these "
        "models apart; for their settings, compare two or more seeds of each.\n"
    )
    assert score.startswith("0.950 [")


def test_a_run_that_is_worse_fails_and_is_shown_all_the_same(
    two_runs: tuple[str, str], command: Callable[..., Answer]
) -> None:
    a, b = two_runs
    answer = command(["compare", b, a, "--fail-if-worse", "accuracy", "--fail-if-worse", "log_loss"])
    assert answer.code == 4
    assert "A is better than B on accuracy by 0.200" in answer.stdout
    assert answer.stderr.startswith("error: --fail-if-worse:\n  A is better than B on accuracy by 0.200")
    assert "log_loss (lower is better)" in answer.stderr
    document = json.loads(command(["compare", b, a, "--fail-if-worse", "accuracy", "--json"]).stdout)
    assert document["comparisons"][0]["verdict"] == "worse"
    passed = command(["compare", a, b, "--fail-if-worse", "accuracy"])
    assert (passed.code, "--fail-if-worse accuracy: passed" in passed.stderr) == (0, True)
    assert command(["compare", a, a, "--fail-if-worse", "accuracy"]).code == 0


def test_a_metric_that_is_not_defined_does_not_pass(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", number_rows(0.5), task="stsb")
    b = make_run(tmp_path / "b", number_rows(0.5, constant=2.5), task="stsb")
    with pytest.raises(GateFailedError, match="pearson is not defined on these 60 rows") as caught:
        compare([a, b], fail_if_worse=["pearson"])
    assert caught.value.report.n == 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "compare needs two or more runs; found 1"),
        (["b", "--metric", "f2"], "metric f2: 'f2' is not a metric"),
        (["b", "--metric", "mse"], "mse is a metric for regression"),
        (["b", "--fail-if-worse", "loss"], "use log_loss"),
        (["b", "--markdown", "--json"], "Choose one"),
        (["a.source.yaml"], "is a config. Name the run directory"),
        (["b", "--fail-if-worse", "f2"], "--fail-if-worse f2: 'f2' is not a metric. Allowed: accuracy, f1, f1_macro,"),
        (["b", "--metric", "matthew"], "brier, ece. Did you mean matthews?"),
    ],
)
def test_a_wrong_command_line_exits_with_2(
    tmp_path: Path, two_runs: tuple[str, str], command: Callable[..., Answer], arguments: list[str], message: str
) -> None:
    named = [str(tmp_path / one) if one[0] in "ab" else one for one in arguments]
    answer = command(["compare", two_runs[0], *named])
    assert (answer.code, answer.stdout) == (2, "")
    assert message in answer.stderr


def test_runs_that_drew_other_rows_from_train_are_told_a_way_that_helps(
    tmp_path: Path, command: Callable[..., Answer]
) -> None:
    a = make_run(tmp_path / "a", class_rows(ONLY_B), "data.splits.validation=0.5")
    b = make_run(tmp_path / "b", class_rows(ONLY_A)[:20], "data.splits.validation=0.25")
    answer = command(["compare", a, b])
    assert answer.code == 3
    for run, rows in ((a, class_rows(ONLY_B)), (b, class_rows(ONLY_A))):
        assert f"\n  finetune evaluate {run} --data FILE\n" in answer.stderr
        write_jsonl(Path(run) / "eval" / "file-fresh" / "predictions.jsonl", rows)
    assert "name --split file-STEM" in answer.stderr
    assert f"({a} took a share of its train rows" in answer.stderr
    assert command(["compare", a, b, "--split", "file-fresh"]).code == 0


def other_classes(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "label": "x", "prediction": "x", "probabilities": {"x": 0.5, "y": 0.5}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "1 id ('row 39') only in the first, 0 ids only in the second"),
        (lambda rows: [{**row, "id": n} for n, row in enumerate(rows)], "40 ids ('row 0', 'row 1', 'row 2', ...) only"),
        (
            lambda rows: [{**row, "id": f"new {n}"} for n, row in enumerate(rows)],
            "40 ids ('new 0', 'new 1', 'new 2', ...) only in the second",
        ),
        (lambda rows: [*rows[:-1], rows[0]], "id 'row 0' is there twice"),
        (
            lambda rows: [{**row, "label": "positive"} for row in rows],
            "20 of 40 rows differ, first id 'row 0' with 'negative' and 'positive'",
        ),
        (lambda rows: list(map(other_classes, rows)), "do not answer the same question"),
        (lambda rows: number_rows(1.0), "do not answer the same question"),
        (lambda rows: [], "has no rows"),
        (lambda rows: [*rows[:4], "text"], ":5: not a JSON object"),
        (lambda rows: [{"id": 1, "prediction": "positive"}], ":1: no label. Expected"),
        (lambda rows: [{**rows[0], "id": [1]}], ":1: the id is [1]"),
        (lambda rows: [{**rows[0], "probabilities": None}], ":1: expected the probabilities, as"),
        (lambda rows: [rows[0], {**rows[1], "probabilities": {"x": 1}}], ":2: expected the probabilities of negative"),
        (lambda rows: [{**rows[0], "probabilities": {**rows[0]["probabilities"], "positive": "high"}}], "not a number"),
        (lambda rows: [rows[0], {**rows[1], "label": "neutral"}], ":2: label 'neutral' is none of the classes"),
        (lambda rows: [rows[0], number_rows(1.0)[0]], ":2: expected the probabilities of negative, positive"),
        (lambda rows: [number_rows(1.0)[0], rows[0]], ":2: label 'negative' and prediction"),
        (lambda rows: [{**rows[0], "label": True}], ":1: label True"),
    ],
)
def test_rows_that_do_not_belong_together_exit_with_3(
    tmp_path: Path, command: Callable[..., Answer], change: Callable[..., list[Any]], message: str
) -> None:
    a = make_run(tmp_path / "a", class_rows(ONLY_B))
    b = make_run(tmp_path / "b", change(class_rows(ONLY_A)))
    answer = command(["compare", a, b])
    assert (answer.code, answer.stdout) == (3, "")
    assert message in answer.stderr


def test_regression_labels_that_differ_are_shown_as_numbers(tmp_path: Path) -> None:
    rows = number_rows(1.0)
    a = make_run(tmp_path / "a", rows, task="stsb")
    b = make_run(tmp_path / "b", [{**rows[0], "label": 9.5}, *rows[1:]], task="stsb")
    with pytest.raises(DataError, match=r"1 of 60 rows differ, first id 0 with 3\.18\d+ and 9\.5"):
        compare([a, b])


def test_a_binary_file_is_no_predictions_file(tmp_path: Path, two_runs: tuple[str, str]) -> None:
    file = tmp_path / "answers.parquet"
    file.write_bytes(b"PAR1\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as JSON Lines"):
        compare([two_runs[0], str(file)])


def test_missing_scores_say_what_to_type(tmp_path: Path, command: Callable[..., Answer]) -> None:
    a = make_run(tmp_path / "run a", class_rows(ONLY_A))
    answer = command(["compare", a, a, "--split", "test"])
    assert (answer.code, answer.stdout) == (5, "")
    assert answer.stderr == (
        f"error: {a} has no scores of the split 'test' (only of: validation). Make them first:\n"
        f"  finetune evaluate '{a}' --split test\n"
    )
    assert command(["compare", a, tmp_path / "nowhere"]).code == 5
    with pytest.raises(MissingError, match=r"is no run: it has no config\.yaml"):
        compare([a, str(tmp_path)])


def test_another_split_is_compared_by_name(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, class_rows({1}), split="test") for name in "ab"]
    assert compare(runs, split="test").split == "test"


def test_comparing_loads_nothing_heavy_but_numpy_and_special_functions(two_runs: tuple[str, str]) -> None:
    heavy = {"accelerate", "datasets", "evaluate", "pandas", "pyarrow", "scipy.stats", "torch", "transformers"}
    program = (
        "import sys; from finetune_cli.cli.app import main\n"
        f"sys.argv = ['finetune', 'compare', *{list(two_runs)!r}, '--metric', 'accuracy', '--metric', 'auroc']\n"
        f"assert main() == 0; print(sorted({heavy!r} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_help_is_complete_and_its_examples_are_accepted() -> None:
    page = CliRunner().invoke(app.app, ["compare", "--help"], env={"COLUMNS": "80"}).stdout
    assert max(map(len, page.splitlines())) <= 80
    assert page.isascii()
    command = typer.main.get_command(app.app).commands["compare"]
    assert [parameter.name for parameter in command.params if not parameter.help] == []
    examples = page.partition("Examples:\n")[2].splitlines()
    assert len(examples) > 2
    for program, name, *arguments in map(shlex.split, examples):
        assert (program, name) == ("finetune", "compare")
        assert len(command.make_context(name, arguments).params["runs"]) > 1


def test_few_draws_of_one_config_do_not_hide_a_run_that_is_worse(tmp_path: Path) -> None:
    """The least p of 200 draws is 0.01; adjusted for six comparisons it would be 0.06."""
    first = make_run(tmp_path / "first", class_rows(ONLY_A), "evaluation.bootstrap.samples=200")
    others = [make_run(tmp_path / f"r{number}", class_rows(ONLY_A | {10 + number})) for number in range(5)]
    bad = make_run(tmp_path / "bad", class_rows(set(range(30))))
    with pytest.raises(GateFailedError, match="A is better than G on f1"):
        compare([first, *others, bad], fail_if_worse=["f1"])
    assert compare([first, *others, bad]).samples == 1000
    assert compare([first, *others, bad], all_pairs=True).samples == 2100  # 5 for each of 21 comparisons and 1 / 0.05


def test_which_run_is_named_first_changes_the_sign_alone(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", class_rows(ONLY_B), "evaluation.bootstrap.samples=200", "seed=7")
    b = make_run(tmp_path / "b", class_rows(ONLY_A), "evaluation.bootstrap.samples=2000")
    forth, back = compare([a, b]), compare([b, a])
    assert forth.samples == back.samples == 2000
    for here, there in zip(forth.comparisons, back.comparisons, strict=True):
        assert (here.difference, here.low, here.high) == pytest.approx((-there.difference, -there.high, -there.low))
        assert here.p_value == there.p_value
