"""Several labels a row, end to end: prepare, both loops, evaluate, predict, compare, and plain transformers."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.predict import predict
from finetune_cli.commands.prepare import prepare, show_examples
from finetune_cli.config.load import load_config
from tests.commands.run_files import Answer, Trained, history, read_jsonl, saved_scores

CLASSES = {"good": "praise", "film": "film", "song": "music", "sad": "complaint"}
NAMES = ("complaint", "film", "music", "praise")


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """A class for each of four telling words that a text has: none to four of them."""
    rng = random.Random(seed)
    texts = [[word for word in (*CLASSES, "the", "was", "very") if rng.random() < 0.4] or ["a"] for _ in range(count)]
    return [{"text": " ".join(text), "tags": [CLASSES[word] for word in text if word in CLASSES]} for text in texts]


def write(path: Path, content: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(content)), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(content[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(content)


def as_columns(row: dict[str, Any]) -> dict[str, Any]:
    return {"text": row["text"], **{name: int(name in row["tags"]) for name in NAMES}}


def as_text(row: dict[str, Any]) -> dict[str, Any]:
    return {"text": row["text"], "tags": "|".join(row["tags"])}


@pytest.mark.parametrize(
    ("ending", "form", "label"),
    [
        ("jsonl", dict, "tags"),
        ("parquet", dict, "tags"),
        ("csv", as_text, "tags"),
        ("tsv", as_columns, list(NAMES)),
    ],
    ids=["json lists", "parquet lists", "joined text", "columns"],
)
def test_every_form_of_the_labels_is_the_same_data(
    tmp_path: Path, write_config: Callable[..., Path], ending: str, form: Callable[..., Any], label: Any
) -> None:
    content = rows(30)
    for split in ("train", "validation"):
        write(tmp_path / f"{split}.{ending}", [form(row) for row in content])
    data = {"path": str(tmp_path), "text": "text", "label": label}
    prepared = prepare(load_config(write_config(tmp_path, task="multilabel", data=data)))
    assert (prepared.label_names, prepared.kind) == (NAMES, "multilabel")
    expected = [[int(name in row["tags"]) for name in NAMES] for row in content]
    assert np.array_equal(prepared.splits["train"].known_labels(), expected)
    report = prepared.report.splits["train"]
    assert report.labels == dict(zip(NAMES, np.sum(expected, axis=0).tolist(), strict=True))
    assert report.labels_per_row is not None
    assert sum(report.labels_per_row.values()) == 30
    assert "0" in report.labels_per_row
    assert show_examples(prepared, 1)[0].label == sorted(content[0]["tags"])


@pytest.fixture(scope="module")
def trained() -> dict[str, Trained]:
    """The runs of the tests below, by loop; made by the first test that asks."""
    return {}


@pytest.fixture
def run_of(
    trained: dict[str, Trained], tmp_path_factory: pytest.TempPathFactory, train_run: Callable[..., Trained]
) -> Callable[[str], Trained]:
    def run(loop: str) -> Trained:
        if loop not in trained:
            directory = tmp_path_factory.mktemp(loop)
            write(directory / "data" / "train.jsonl", rows(64))
            write(directory / "data" / "validation.jsonl", rows(24, seed=1))
            trained[loop] = train_run(
                directory,
                task="multilabel",
                model={"dropout": 0.0, "attention_dropout": 0.0},
                data={
                    "path": str(directory / "data"),
                    "text": "text",
                    "label": "tags",
                    "checks": {"overlap": "ignore"},
                },
                training={"loop": loop, "num_epochs": 10, "learning_rate": 5e-3, "precision": "fp32"},
                evaluation={
                    "every": 40,
                    "metric_for_best": "auroc",
                    "metrics": ["f1_micro", "accuracy", "auroc", "average_precision", "hamming_loss"],
                },
            )
        return trained[loop]

    return run


def test_both_loops_learn_the_same_and_the_files_say_it(run_of: Callable[[str], Trained]) -> None:
    first, second = run_of("trainer"), run_of("accelerate")
    for kind, fields in (("train", ("loss", "grad_norm", "learning_rate")), ("eval", ("loss", "f1_micro", "accuracy"))):
        one, other = (
            [[line[field] for field in fields] for line in history(run.run.path, kind)] for run in (first, second)
        )
        assert np.allclose(one, other, rtol=1e-5)
    scores, written = saved_scores(first.run.path), read_jsonl(first.run.evaluation("validation") / "predictions.jsonl")
    assert scores["metrics"]["auroc"]["value"] > 0.6 > scores["baseline"]["auroc"] == 0.5
    auroc = scores["metrics"]["auroc"]  # 24 rows
    assert (auroc["low"], auroc["note"]) == (None, "too few rows for an interval")
    assert [entry["label"] for entry in scores["per_class"]] == list(NAMES)
    assert (scores["confusion"], scores["collapsed"]) == ([], None)
    assert [row["label"] for row in written] == [sorted(row["tags"]) for row in rows(24, seed=1)]
    right = np.mean([row["label"] == row["prediction"] for row in written])
    assert scores["metrics"]["accuracy"]["value"] == pytest.approx(right)
    assert all(row["prediction"] == [n for n, p in row["probabilities"].items() if p >= 0.5] for row in written)
    page = (first.run.evaluation("validation") / "report.html").read_text()
    assert "always the commonest set of labels of training" in page
    assert "complaint" in page


def test_evaluate_and_plain_transformers_agree_with_the_saved_scores(
    tmp_path: Path, run_of: Callable[[str], Trained]
) -> None:
    from transformers import pipeline

    run = run_of("trainer").run
    again = evaluate(run.path)
    assert {name: metric.value for name, metric in again.metrics.items()} == pytest.approx(
        {name: metric["value"] for name, metric in saved_scores(run.path)["metrics"].items()}
    )
    write(tmp_path / "new.csv", [as_text(row) for row in rows(24, seed=1)])
    of_file = evaluate(run.path, data=tmp_path / "new.csv")
    assert of_file.metrics["f1_micro"] == again.metrics["f1_micro"]
    of_model = evaluate(run.model, data=write_labels(tmp_path / "named.jsonl"))
    assert of_model.metrics["accuracy"].value == again.metrics["accuracy"].value
    assert set(of_model.metrics) == {"f1_micro", "f1_macro", "accuracy"}
    texts = ["good film song", "sad", "a"]
    answers = list(predict(run.path, texts, probabilities=True))
    classify = pipeline("text-classification", str(run.model), device="cpu")
    for answer, scored in zip(answers, classify(texts, top_k=None), strict=True):
        assert answer["probabilities"] == pytest.approx({one["label"]: one["score"] for one in scored}, abs=1e-5)
    card = (run.model / "README.md").read_text()
    assert "any number of them: `complaint`, `film`, `music`, `praise`" in card
    assert "top_k=None" in card


def write_labels(path: Path) -> Path:
    """The validation rows under the usual column names, which a bare model is asked with."""
    write(path, [{"text": row["text"], "label": row["tags"]} for row in rows(24, seed=1)])
    return path


def test_predictions_in_tables(
    tmp_path: Path, run_of: Callable[[str], Trained], command: Callable[..., Answer]
) -> None:
    run = run_of("trainer").run
    texts = [row["text"] for row in rows(24, seed=1)]
    write(tmp_path / "new.jsonl", [{"text": text} for text in texts])
    answers = [answer["prediction"] for answer in predict(run.path, texts)]
    assert min(map(len, answers)) == 0
    assert max(map(len, answers)) > 1
    for ending in ("csv", "parquet"):
        out = tmp_path / f"out.{ending}"
        assert command(["predict", run.path, tmp_path / "new.jsonl", "-o", out, "--probabilities"]).code == 0
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "id,prediction," + ",".join(f"probabilities.{name}" for name in NAMES)
    assert [line.split(",")[1] for line in lines[1:]] == ["|".join(names) for names in answers]
    assert pq.read_table(tmp_path / "out.parquet").column("prediction").to_pylist() == answers


def test_the_terminal_says_what_several_labels_are(
    run_of: Callable[[str], Trained], command: Callable[..., Answer]
) -> None:
    trained = run_of("trainer")
    said = command(["evaluate", trained.run.path])
    assert (said.code, "always the commonest set of labels" in said.stdout) == (0, True)
    assert "complaint" in said.stdout
    assert "true" not in said.stdout
    said = command(["prepare", trained.file])
    assert "labels of a row in train: 0 in " in said.stdout
    assert "of 64 rows" in said.stdout
    assert "always answering" not in said.stdout
    page = trained.file.with_name("comparison.html")
    said = command(["compare", trained.run.path, run_of("accelerate").run.path, "--html", page])
    assert "hamming_loss" in page.read_text()
    assert said.code == 0
    assert "No difference on accuracy" in said.stdout
    said = command(["evaluate", trained.run.path, "--min-confidence", "0.9"])
    assert said.code == 2
    assert "--min-confidence is for one class a row" in said.stderr


@pytest.mark.parametrize(
    ("bad", "options", "message"),
    [
        (
            {"tags": ["praise", "nonsense"]},
            ["data.labels=[complaint, film, music, praise]"],
            "unknown label 'nonsense' in row 31",
        ),
        ({"tags": 3}, [], "expected a list of class names, found int 3 in row 31"),
        ({"tags": None}, [], "expected labels in each row, found null in row 31"),
        ({"other": []}, [], "expected the column 'tags'"),
    ],
)
def test_bad_labels_are_named_by_file_and_row(
    tmp_path: Path,
    write_config: Callable[..., Path],
    command: Callable[..., Answer],
    bad: Any,
    options: Any,
    message: str,
) -> None:
    write(tmp_path / "train.jsonl", [*rows(30), {"text": "good", **bad}])
    write(tmp_path / "validation.jsonl", rows(8))
    config = write_config(tmp_path, task="multilabel", data={"path": str(tmp_path), "text": "text", "label": "tags"})
    said = command(["prepare", config, *(part for option in options for part in ("-s", option))])
    assert said.code == 3
    assert "train.jsonl" in said.stderr
    assert message in said.stderr


def test_the_data_checks_understand_sets(tmp_path: Path, write_config: Callable[..., Path]) -> None:
    """Row 3 repeats row 1, row 4 contradicts it, Film is an odd spelling, music is rare, rare is not in train."""
    train = [
        ("one", ["film", "praise"]),
        ("two", ["film"]),
        ("one", ["praise", "film"]),
        ("one", []),
        ("three", ["Film"]),
    ]
    train += [(f"text {number}", ["film"]) for number in range(20)] + [("four", ["music"])]
    write(tmp_path / "train.jsonl", [{"text": text, "tags": tags} for text, tags in train])
    write(tmp_path / "validation.jsonl", [{"text": "new", "tags": ["film", "rare"]}, {"text": "newer", "tags": []}])
    data = {
        "path": str(tmp_path),
        "text": "text",
        "label": "tags",
        "labels": ["film", "Film", "music", "praise", "rare"],
        "checks": {"unseen_labels": "warn"},
    }
    prepared = prepare(load_config(write_config(tmp_path, task="multilabel", data=data)))
    found = {(entry["check"], entry["split"]): entry for entry in prepared.report.to_json()["findings"]}
    assert found["duplicates", "train"]["rows"] == [3]
    assert found["contradictions", "train"]["rows"] == [4]
    assert "row 1 with 'film' and 'praise' and row 4 with no label" in found["contradictions", "train"]["example"]
    assert found["label_spelling", "train"]["rows"] == [5]
    assert found["unseen_labels", "validation"]["rows"] == [1]
    assert "'rare'" in found["unseen_labels", "validation"]["problem"]
    assert found["imbalance", "train"]["problem"].startswith("1 of 26 rows has the label ")
