"""Every task by its name on files in its own columns, and own data in all forms: prepare, train, evaluate."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.predict import predict
from finetune_cli.commands.prepare import prepare
from finetune_cli.config.load import load_config
from finetune_cli.errors import DataError
from finetune_cli.tasks import TASKS
from tests.commands.run_files import Trained, history, read_jsonl, saved_scores

GLUE = ["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte", "wnli"]
WORDS = ("good", "bad", "film", "meal", "the", "was", "a", "very", "sad", "happy", "we", "song")


def some_text(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randrange(2, 9)))


def task_rows(task: str, count: int, *, labelled: bool = True) -> list[dict[str, Any]]:
    """Rows in the task's own columns; labels go round the classes, or are similarities from 0 to 5."""
    spec, rng = TASKS[task], random.Random(task)
    rows = []
    for number in range(count):
        label = number % len(spec.labels) if spec.labels else round(rng.uniform(0, 5), 2)
        unlabelled = -1 if spec.labels else -1.0
        rows.append({column: some_text(rng) for column in spec.text} | {"label": label if labelled else unlabelled})
    return [{**row, "idx": number} for number, row in enumerate(rows)]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("task", GLUE)
def test_a_glue_task_by_name(tmp_path: Path, train_run: Callable[..., Trained], task: str) -> None:
    data = tmp_path / "data"
    matched = "_matched" if task == "mnli" else ""
    write_jsonl(data / "train.jsonl", task_rows(task, 16))
    write_jsonl(data / f"validation{matched}.jsonl", task_rows(task, 9))
    write_jsonl(data / f"test{matched}.jsonl", task_rows(task, 5, labelled=False))
    if task == "mnli":
        write_jsonl(data / "validation_mismatched.jsonl", task_rows(task, 7))
    trained = train_run(tmp_path, task=task, data={"path": str(data)}, training={"max_steps": 2})
    splits = ["validation", "validation_mismatched"] if task == "mnli" else ["validation"]
    assert [(line["step"], line["split"]) for line in history(trained.run.path, "eval")] == [(2, s) for s in splits]
    assert [report.split for report in trained.report.evaluations] == splits
    for split in splits:
        scores = saved_scores(trained.run.path, split)
        assert tuple(scores["metrics"]) == TASKS[task].metrics
        assert scores["n"] == (7 if split == "validation_mismatched" else 9)
        assert evaluate(trained.run.path, split=split).to_json() == scores
    config = json.loads((trained.run.model / "config.json").read_text())
    if names := TASKS[task].labels:
        assert config["id2label"] == {str(number): name for number, name in enumerate(names)}
    else:
        assert config["problem_type"] == "regression"


@pytest.mark.parametrize("task", ["rte", "stsb"])
def test_a_test_split_without_labels_is_predicted_and_not_evaluated(
    tmp_path: Path, train_run: Callable[..., Trained], task: str
) -> None:
    data = tmp_path / "data"
    for split in ("train", "validation", "test"):
        write_jsonl(data / f"{split}.jsonl", task_rows(task, 8, labelled=split != "test"))
    run = train_run(tmp_path, task=task, data={"path": str(data)}, training={"max_steps": 1}).run.path
    with pytest.raises(DataError, match="can be predicted but not scored"):
        evaluate(run, split="test")
    rows = list(predict(run, data / "test.jsonl"))
    assert [row["id"] for row in rows] == list(range(8))
    kinds = {type(row["prediction"]) for row in rows}
    assert kinds == ({float} if task == "stsb" else {str})


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        write_jsonl(path, rows)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["no", "yes", "maybe"], ["maybe", "no", "yes"]),
        ([3, 1, 2], ["1", "2", "3"]),
        ([f"topic {n}" for n in range(12)], [f"topic {n}" for n in range(12)]),
        (list(range(12)), [str(n) for n in range(12)]),
    ],
    ids=["3 texts", "3 numbers", "12 texts", "12 numbers"],
)
def test_own_classes_in_natural_order_from_any_file(
    tmp_path: Path, write_config: Callable[..., Path], ending: str, labels: list[Any], names: list[str]
) -> None:
    rng = random.Random(0)
    rows = [{"review": some_text(rng), "stars": labels[number % len(labels)]} for number in range(24)]
    for split in ("train", "validation"):
        write_table(tmp_path / f"{split}.{ending}", rows)
    data = {"path": str(tmp_path), "text": "review", "label": "stars"}
    prepared = prepare(load_config(write_config(tmp_path, task="classification", data=data)))
    assert list(prepared.label_names or ()) == names
    assert [names[number] for number in prepared.splits["train"].known_labels()] == [str(row["stars"]) for row in rows]


def test_own_twelve_classes_train_score_and_predict_by_name(tmp_path: Path, train_run: Callable[..., Trained]) -> None:
    rng = random.Random(0)
    rows = [{"text": some_text(rng), "label": f"topic {number % 12}"} for number in range(24)]
    for split in ("train", "validation"):
        write_table(tmp_path / f"{split}.csv", rows)
    trained = train_run(
        tmp_path, task="classification", data={"path": str(tmp_path), "text": "text"}, training={"max_steps": 2}
    )
    scores = saved_scores(trained.run.path)
    assert set(scores["metrics"]) == {"accuracy", "f1_macro"}
    assert [entry["label"] for entry in scores["per_class"]] == [f"topic {number}" for number in range(12)]
    [answer] = predict(trained.run.path, ["a good song"], probabilities=True)
    assert len(answer["probabilities"]) == 12
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_own_regression_learns_numbers(tmp_path: Path, train_run: Callable[..., Trained]) -> None:
    """The target is the share of the word good: 10 epochs bring the correlation above 0.8 on the rows themselves."""
    rng = random.Random(0)
    rows = []
    for _ in range(48):
        words = rng.choices(("good", "film"), k=6)
        rows.append({"text": " ".join(words), "score": words.count("good") / 6})
    for split in ("train", "validation"):
        write_table(tmp_path / f"{split}.csv", rows)
    trained = train_run(
        tmp_path,
        task="regression",
        data={"path": str(tmp_path), "text": "text", "label": "score"},
        model={"dropout": 0.0},
        training={"num_epochs": 10, "learning_rate": 3e-3},
    )
    scores = saved_scores(trained.run.path)
    assert set(scores["metrics"]) == {"pearson", "spearman", "mse"}
    assert scores["metrics"]["pearson"]["value"] > 0.8
    assert scores["loss"] == pytest.approx(scores["metrics"]["mse"]["value"])
    written = read_jsonl(trained.run.evaluation("validation") / "predictions.jsonl")
    assert [row["label"] for row in written] == pytest.approx([row["score"] for row in rows])
    assert list(written[0]) == ["id", "label", "prediction"]
    answers = [row["prediction"] for row in predict(trained.run.path, [row["text"] for row in rows])]
    assert answers == pytest.approx([row["prediction"] for row in written], abs=1e-5)


def test_a_score_that_is_not_defined_still_leaves_a_model(tmp_path: Path, train_run: Callable[..., Trained]) -> None:
    """A correlation with constant labels is no number: null on disk, and the earliest evaluation is the best."""
    rows = [{"text": text, "label": number} for number, text in enumerate(WORDS)]
    write_table(tmp_path / "train.csv", rows)
    write_table(tmp_path / "validation.csv", [{**row, "label": 1.0} for row in rows])
    trained = train_run(tmp_path, task="regression", data={"path": str(tmp_path), "text": "text"})
    assert trained.report.best_step == 2
    text = (trained.run.evaluation("validation") / "metrics.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["metrics"]["pearson"]["value"] is None
    assert history(trained.run.path, "eval")[0]["pearson"] is None


def test_a_tenth_of_train_as_validation_is_stratified_and_the_same_each_time(
    tmp_path: Path, write_config: Callable[..., Path]
) -> None:
    rows = [{"sentence": f"good film {n}", "label": int(n % 5 == 0)} for n in range(100)]
    write_jsonl(tmp_path / "all" / "train.jsonl", rows)
    config = load_config(write_config(tmp_path, data={"path": str(tmp_path / "all")}), ["data.splits.validation=0.1"])
    splits = prepare(config).splits
    assert (splits["train"].num_rows, splits["validation"].num_rows) == (90, 10)
    assert splits["validation"].known_labels().sum() == 2
    ids = [*splits["train"].ids, *splits["validation"].ids]
    assert sorted(ids) == list(range(100))
