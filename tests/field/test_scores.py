"""Scores that are not defined, thousands of classes, and warnings where they belong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune_cli.evaluation.scoring import ScoringRules, predictions, score_split, write_evaluation
from finetune_cli.predictions.files import write_predictions
from finetune_cli.records.evaluation import EvalReport
from finetune_cli.records.resampling import Resampling
from finetune_cli.runs.answers import read_answers
from tests.bad_inputs.in_process import finetune
from tests.field.conftest import put_lines, sentiment

# ---- a metric that is not defined


def history(here: Path, kind: str) -> list[dict[str, Any]]:
    lines = (here / "run" / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["type"] == kind]


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_auroc_of_one_class_is_said_before_training_and_spends_no_patience(
    here: Path, config: Callable[..., Path], loop: str
) -> None:
    put_lines(here / "data" / "train.jsonl", sentiment())
    put_lines(here / "data" / "validation.jsonl", sentiment(["good"] * 6))
    settings = [
        "evaluation={every: 1, metrics: [auroc, accuracy], metric_for_best: auroc, bootstrap: {samples: 10}}",
        "training={max_steps: 5, batch_size: 2, early_stopping: {patience: 1}, learning_rate: 1e-3}",
        f"training.loop={loop}",
    ]
    said = finetune("train", config(), *(word for setting in settings for word in ("-s", setting)))
    assert said.code == 0, said.stderr
    before, after = said.stderr.split("Update 1:", 1)
    assert "warning: evaluation.metric_for_best: auroc is not defined on the validation rows" in before
    assert after.count("Until it is, the lowest loss does.") == 1  # five evaluations, said once
    assert len(history(here, "train")) == 5
    evaluations = history(here, "eval")
    record = json.loads((here / "run" / "run.json").read_text(encoding="utf-8"))
    losses = [row["loss"] for row in evaluations]
    assert record["best_step"] == losses.index(min(losses)) + 1
    assert "auroc is not defined on the validation rows" in (here / "run" / "run.log").read_text(encoding="utf-8")


def test_a_correlation_with_equal_labels_is_said_before_training(here: Path, config: Callable[..., Path]) -> None:
    put_lines(here / "data" / "train.jsonl", sentiment([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
    put_lines(here / "data" / "validation.jsonl", sentiment([1.5] * 6))
    said = finetune("train", config("regression"), "-s", "training.max_steps=1")
    assert said.code == 0, said.stderr
    assert "pearson is not defined on the validation rows: all their labels are the same" in said.stderr


@pytest.mark.parametrize(("numbers", "warned"), [([200.0, 400.0, 900.0], True), ([0.0, 2.5, 5.0], False)])
def test_numbers_far_from_zero_are_said_before_training(
    here: Path, config: Callable[..., Path], numbers: list[float], warned: bool
) -> None:
    put_lines(here / "data" / "train.jsonl", sentiment(numbers * 2))
    put_lines(here / "data" / "validation.jsonl", sentiment(numbers * 2))
    said = finetune("train", config("regression"), "-s", "training.max_steps=1")
    assert said.code == 0, said.stderr
    assert ("numbers with a mean of 500 and a standard deviation of 294.4" in said.stderr) is warned


# ---- warnings where they belong


def test_warnings_of_the_data_checks_are_in_the_log_and_evaluate_is_about_its_split(
    here: Path, config: Callable[..., Path]
) -> None:
    put_lines(here / "data" / "train.jsonl", [*sentiment(), *sentiment()])
    put_lines(here / "data" / "validation.jsonl", [{"text": "&amp;", "label": "good"}, {"text": "b", "label": "bad"}])
    file = config()
    said = finetune("train", file)
    assert said.code == 0, said.stderr
    log = (here / "run" / "run.log").read_text(encoding="utf-8")
    for line in ("6 of 12 rows repeat the text and label of an earlier row", "1 of 2 rows has HTML tags or entities"):
        assert line in said.stderr
        assert log.count(line) == 1
    again = finetune("evaluate", "run")
    assert "HTML tags or entities" in again.stderr
    assert "repeat the text" not in again.stderr


# ---- many classes

MANY = 300


@pytest.fixture
def many() -> tuple[np.ndarray, np.ndarray, ScoringRules]:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, MANY, 500)
    logits = rng.standard_normal((500, MANY)).astype(np.float32)
    logits[np.arange(500), labels] += 4
    names = tuple(f"class {number}" for number in range(MANY))
    return logits, labels, ScoringRules("classification", names, ("accuracy", "f1_macro", "log_loss"), Resampling(50))


def test_files_of_many_classes_are_small_and_say_the_same(
    tmp_path: Path, many: tuple[np.ndarray, np.ndarray, ScoringRules]
) -> None:
    logits, labels, rules = many
    names = rules.label_names or ()
    report = score_split("validation", logits, labels, rules, train_labels=labels)
    rows = list(predictions(range(500), logits, kind="classification", label_names=names, labels=labels))
    write_evaluation(tmp_path, report, rows)
    stored = EvalReport.from_json(json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8")))
    assert (stored.confusion, sum(count for *_, count in stored.confusion_cells)) == ([], 500)
    assert sum(count for label, given, count in stored.cells() if label == given) == round(
        500 * report.metrics["accuracy"].value
    )
    assert (tmp_path / "predictions.jsonl").stat().st_size < 500 * 700
    everything = list(
        predictions(range(500), logits, kind="classification", label_names=names, labels=labels, all_probabilities=True)
    )
    for short, whole in zip(rows, everything, strict=True):
        of_short, of_whole = short["probabilities"], whole["probabilities"]
        assert list(of_short.items())[:10] == sorted(of_whole.items(), key=lambda item: -item[1])[:10]
        assert {short["label"], short["prediction"]} <= of_short.keys()
        assert sum(of_short.values()) + short["rest"] == pytest.approx(1)
        assert len(of_whole) == MANY
        assert "rest" not in whole
    answers = read_answers(tmp_path / "predictions.jsonl")
    assert answers.is_partial
    assert answers.classes == names
    assert (answers.labels == labels).all()
    assert (answers.predictions == logits.argmax(axis=1)).all()


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
def test_likeliest_classes_are_written_in_every_format(
    tmp_path: Path, many: tuple[np.ndarray, np.ndarray, ScoringRules], ending: str
) -> None:
    from finetune_cli.data.formats.row import good_rows
    from finetune_cli.data.readers import read_rows

    logits, _, rules = many
    rows = list(predictions(range(500), logits, kind="classification", label_names=rules.label_names))
    file = tmp_path / f"out.{ending}"
    write_predictions(rows, file, file_format=ending, with_errors=False, stdout=None)  # type: ignore[arg-type]
    for (_, read), row in zip(good_rows(read_rows(file)), rows, strict=True):
        stored = read["probabilities"]
        assert (json.loads(stored) if isinstance(stored, str) else stored) == row["probabilities"]


def test_many_classes_from_the_command_line(here: Path, config: Callable[..., Path]) -> None:
    """120 classes: train, evaluate, compare, predict, each with the likeliest and with all."""
    rows = [{"text": f"the {word} {number}", "label": f"c{number}"} for number in range(120) for word in ("a", "b")]
    for split in ("train", "validation"):
        put_lines(here / "data" / f"{split}.jsonl", rows)
    settings = ["-s", "training.max_steps=1", "-s", "evaluation.bootstrap.samples=20"]
    metrics = ["-s", "evaluation.metrics=[accuracy, brier, log_loss]"]
    for name in ("a", "b"):
        said = finetune("train", config(), *settings, *metrics, "-s", f"output_dir={name}")
        assert said.code == 0, said.stderr
    compared = finetune("compare", "a", "b")
    assert compared.code == 0, compared.stderr
    assert "Left out, since it needs the probability of every class: brier" in compared.stderr
    assert "accuracy" in compared.stdout
    assert finetune("compare", "a", "b", "--metric", "brier").code == 2
    for name in ("a", "b"):
        said = finetune("evaluate", name, "--probabilities", "all")
        assert said.code == 0, said.stderr
        assert "the 20 lowest F1 of 120 classes" in said.stdout
    assert finetune("compare", "a", "b", "--metric", "brier").code == 0
    few = json.loads(finetune("predict", "a", "--text", "a", "--probabilities").stdout)
    assert (len(few["probabilities"]), "rest" in few) == (10, True)
    for words in (["--probabilities", "all"], ["--probabilities=all"]):
        everything = json.loads(finetune("predict", "a", "--text", "a", *words).stdout)
        assert (len(everything["probabilities"]), "rest" in everything) == (120, False)


@pytest.mark.slow
def test_ten_thousand_classes_are_scored_in_a_minute() -> None:
    """The goal is a minute on a quiet machine; here three, for a busy one."""
    import time

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10_000, 10_000)
    logits = rng.standard_normal((10_000, 10_000), dtype=np.float32)
    rules = ScoringRules(
        "classification", tuple(map(str, range(10_000))), ("accuracy", "f1_macro", "log_loss", "auroc"), Resampling()
    )
    began = time.monotonic()
    report = score_split("validation", logits, labels, rules, train_labels=labels)
    assert report.metrics["accuracy"].low is not None
    assert time.monotonic() - began < 180


# ---- predict reads what the run was trained on


def test_predict_reads_rows_without_a_header_as_the_run_does(here: Path, config: Callable[..., Path]) -> None:
    rows = [f"{row['label']},{row['text']}\n" for row in sentiment()]
    for split in ("train", "validation"):
        (here / "data").mkdir(exist_ok=True)
        (here / "data" / f"{split}.csv").write_text("".join(rows), encoding="utf-8")
    said = finetune("train", config(columns=["label", "text"]), "-s", "training.max_steps=1")
    assert said.code == 0, said.stderr
    (here / "bare.csv").write_text("".join(f"{row['text']}\n" for row in sentiment()), encoding="utf-8")
    (here / "named.csv").write_text("text\n" + "".join(f"{row['text']}\n" for row in sentiment()), encoding="utf-8")
    answers = {
        file: finetune("predict", "run", file, "--keep-columns") for file in ("data/train.csv", "bare.csv", "named.csv")
    }
    texts = {file: [json.loads(line)["text"] for line in said.stdout.splitlines()] for file, said in answers.items()}
    assert texts["data/train.csv"] == texts["bare.csv"] == texts["named.csv"] == [row["text"] for row in sentiment()]
    assert finetune("evaluate", "run", "--data", "data/train.csv").code == 0


def test_a_second_training_on_the_same_rows_tells_the_warnings_in_one_line(
    here: Path, config: Callable[..., Path]
) -> None:
    put_lines(here / "data" / "train.jsonl", [*sentiment(), *sentiment()])
    put_lines(here / "data" / "validation.jsonl", [{"text": "&amp;", "label": "good"}, {"text": "b", "label": "bad"}])
    found = ("6 of 12 rows repeat the text and label", "1 of 2 rows has HTML tags")
    for name, in_full in (("first", True), ("second", False)):
        said = finetune("train", config(), "-s", f"output_dir={name}", "-s", "training.max_steps=1", "-q")
        assert said.code == 0, said.stderr
        log = (here / name / "run.log").read_text(encoding="utf-8")
        for line in found:
            assert (line in said.stderr) is in_full
            assert log.count(line) == 1
    assert said.stderr.count("findings of the data checks, as before; `finetune prepare` shows them") == 1
    assert all(line in finetune("prepare", config()).stdout for line in found)
    assert finetune("train", config(), "-s", "output_dir=third", "-s", "data.checks.duplicates=error").code == 3


def test_rows_that_were_prepared_elsewhere_are_told_with_their_own_place(
    here: Path, config: Callable[..., Path]
) -> None:
    for place in ("data", "copy"):
        for split in ("train", "validation"):
            put_lines(here / place / f"{split}.jsonl", sentiment())
        said = finetune("prepare", config(), "-s", f"data.path={place}")
        assert f"overlap, {place}/validation.jsonl: 6 of 6 rows" in said.stdout
