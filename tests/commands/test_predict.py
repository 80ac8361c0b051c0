"""Predictions: every way in and out, and each row's answer the same whatever company it has."""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.predict import predict
from finetune_cli.errors import DataError
from tests.commands.run_files import Answer, Trained, read_jsonl

TEXTS = ["a good film", "this was a bad meal and we were sad", "good", "the room is awful " * 12, "a talk, quite happy"]


def probabilities(rows: list[dict[str, Any]]) -> dict[Any, float]:
    return {row["id"]: row["probabilities"]["positive"] for row in rows}


def test_a_row_alone_is_a_row_in_a_batch_padded_and_in_another_order(
    tmp_path: Path, learned: Callable[..., Trained]
) -> None:
    """Equal to 5 decimals; the texts have 1 to 48 words, so a batch pads them."""
    run = learned("sst2").run.path
    together = probabilities(list(predict(run, TEXTS, probabilities=True)))
    alone = {
        number: next(predict(run, [text], probabilities=True))["probabilities"]["positive"]
        for number, text in enumerate(TEXTS)
    }
    assert alone == pytest.approx(together, abs=1e-5)
    shuffled = list(enumerate(TEXTS))
    random.Random(0).shuffle(shuffled)
    file = tmp_path / "shuffled.jsonl"
    file.write_text("".join(json.dumps({"id": number, "sentence": text}) + "\n" for number, text in shuffled))
    for window in (1, 2, 2048):
        rows = list(predict(run, file, probabilities=True, window_rows=window))
        assert [row["id"] for row in rows] == [number for number, _ in shuffled]
        assert probabilities(rows) == pytest.approx(together, abs=1e-5)


def test_predict_answers_as_evaluate_did(learned: Callable[..., Trained]) -> None:
    trained = learned("mrpc")
    scored = read_jsonl(trained.run.evaluation("validation") / "predictions.jsonl")
    rows = list(predict(trained.run.path, Path(trained.config.data.path) / "validation.jsonl", probabilities=True))
    assert [row["id"] for row in rows] == [row["id"] for row in scored]
    assert [row["prediction"] for row in rows] == [row["prediction"] for row in scored]
    for row, other in zip(rows, scored, strict=True):
        assert row["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)


def test_texts_and_pairs_on_the_command_line(learned: Callable[..., Trained], command: Callable[..., Answer]) -> None:
    single, pair = learned("sst2").run.path, learned("mrpc").run.path
    answer = command(["predict", single, "--text", "a good film", "--text", "an awful room", "--probabilities"])
    rows = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [row["prediction"] for row in rows] == ["positive", "negative"]
    assert [list(row) for row in rows] == [["id", "prediction", "probabilities"]] * 2
    answer = command(["predict", pair, "--text", "a good film", "--text-pair", "the lovely film"])
    assert json.loads(answer.stdout)["prediction"] in ("equivalent", "not_equivalent")
    answer = command(["predict", pair, "--text", "a good film"])
    assert (answer.code, answer.stdout) == (3, "")
    assert "Add --text-pair" in answer.stderr
    answer = command(["predict", single, "--text", "a good film", "--text-pair", "x"])
    assert answer.code == 3
    assert "Leave out --text-pair" in answer.stderr


def test_standard_input_takes_lines_tabs_and_json(
    learned: Callable[..., Trained], command: Callable[..., Answer]
) -> None:
    single, pair = learned("sst2").run.path, learned("mrpc").run.path
    plain = command(["predict", single, "-"], stdin=b"a good film\n\nan awful room")
    assert [json.loads(line)["id"] for line in plain.stdout.splitlines()] == [0, 1, 2]
    rows = b'{"id": "b", "sentence": "a good film"}\n{"id": "a", "sentence": "an awful room"}\n'
    as_json = command(["predict", single, "-", "--keep-columns"], stdin=rows)
    assert [json.loads(line) for line in as_json.stdout.splitlines()] == [
        {"sentence": "a good film", "id": "b", "prediction": "positive"},
        {"sentence": "an awful room", "id": "a", "prediction": "negative"},
    ]
    tabs = command(["predict", pair, "-"], stdin=b"a good film\tthe good film\n")
    assert tabs.code == 0, tabs.stderr
    assert len(tabs.stdout.splitlines()) == 1


def test_answers_come_in_order_while_the_input_is_still_open(learned: Callable[..., Trained]) -> None:
    """A window of rows is answered as soon as it is full; the rest at the end of the input."""
    read_end, write_end = os.pipe()
    source, sink = os.fdopen(read_end, "rb"), os.fdopen(write_end, "wb", buffering=0)
    answers = predict(learned("sst2").run.path, source, window_rows=4)
    received: list[int] = []
    four_are_out = threading.Event()

    def read() -> None:
        for row in answers:
            received.append(row["id"])
            if len(received) == 4:
                four_are_out.set()

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(6):
        sink.write(f"{'good ' * (6 - number)}\n".encode())
    assert four_are_out.wait(timeout=60)
    assert received == [0, 1, 2, 3]
    sink.close()
    reader.join(timeout=60)
    source.close()
    assert received == [0, 1, 2, 3, 4, 5]


def test_an_output_called_dash_is_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learned: Callable[..., Trained], command: Callable[..., Answer]
) -> None:
    run = learned("sst2").run.path
    monkeypatch.chdir(tmp_path)
    answer = command(["predict", run, "--text", "a good film", "-o", "-", "--format", "csv"])
    assert answer.stdout.splitlines()[0] == "id,prediction"
    assert not (tmp_path / "-").exists()


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_the_file_name_chooses_the_form_of_the_output(
    tmp_path: Path, learned: Callable[..., Trained], command: Callable[..., Answer], ending: str
) -> None:
    source, output = tmp_path / "rows.jsonl", tmp_path / f"answers.{ending}"
    rows = [{"sentence": 'a "good", film', "label": -1, "n": 7}, {"sentence": "an awful room", "label": -1, "n": 8}]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer = command(["predict", learned("sst2").run.path, source, "-o", output, "--keep-columns", "--probabilities"])
    assert (answer.code, answer.stdout) == (0, ""), answer.stderr
    if ending == "jsonl":
        found = read_jsonl(output)
    elif ending == "parquet":
        found = pq.read_table(output).to_pylist()
    else:
        with output.open(newline="") as file:
            found = list(csv.DictReader(file, delimiter="\t" if ending == "tsv" else ","))
    assert [row["sentence"] for row in found] == [row["sentence"] for row in rows]
    assert [row["prediction"] for row in found] == ["positive", "negative"]
    assert [int(row["id"]) for row in found] == [0, 1]
    assert [int(row["n"]) for row in found] == [7, 8]
    positive = (
        found[0]["probabilities"]["positive"]
        if ending in ("jsonl", "parquet")
        else (found[0]["probabilities.positive"])
    )
    assert float(positive) > 0.5


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_every_form_of_input_gives_the_same_answers(
    tmp_path: Path, learned: Callable[..., Trained], ending: str
) -> None:
    file = tmp_path / f"rows.{ending}"
    rows = [{"sentence": text, "idx": number + 100} for number, text in enumerate(TEXTS)]
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif ending == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with file.open("w", newline="") as opened:
            writer = csv.DictWriter(opened, ["sentence", "idx"], delimiter="\t" if ending == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    run = learned("sst2").run.path
    expected = [row["prediction"] for row in predict(run, TEXTS)]
    found = list(predict(run, file))
    assert [row["prediction"] for row in found] == expected
    assert [int(row["id"]) for row in found] == [100, 101, 102, 103, 104]


IDS = {
    "a column id": ([{"id": "a"}, {"id": "b"}, {"id": 7}, {"id": "d"}], None, ["a", "b", 7, "d"]),
    "id before idx": ([{"idx": n, "id": f"n{n}"} for n in range(4)], None, ["n0", "n1", "n2", "n3"]),
    "idx alone": ([{"idx": 10 + n} for n in range(4)], None, [10, 11, 12, 13]),
    "none": ([{}] * 4, None, [0, 1, 2, 3]),
    "empty cells": ([{"id": ""}, {"id": None, "idx": 9}, {"id": 0.5}, {"id": True}], None, [0, 9, 2, 3]),
    "repeated": ([{"id": "same"}] * 4, None, ["same"] * 4),
    "the named column": ([{"id": 0, "key": f"k{n}"} for n in range(4)], "key", ["k0", "k1", "k2", "k3"]),
}


@pytest.mark.parametrize(("cells", "named", "expected"), IDS.values(), ids=IDS)
def test_predict_and_evaluate_name_each_row_alike(
    tmp_path: Path, learned: Callable[..., Trained], cells: list[dict[str, Any]], named: str | None, expected: list[Any]
) -> None:
    run, file = learned("sst2").run, tmp_path / "named.jsonl"
    rows = [
        {"sentence": text, "label": n % 2, **cell} for n, (text, cell) in enumerate(zip(TEXTS, cells, strict=False))
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = [f"data.id={named}"] if named else []
    report = evaluate(run.path, data=file, overrides=overrides)
    scored = read_jsonl(run.evaluation(report.split) / "predictions.jsonl")
    predicted = list(predict(run.path, file, overrides=overrides))
    assert [row["id"] for row in scored] == [row["id"] for row in predicted] == expected
    assert [row["prediction"] for row in scored] == [row["prediction"] for row in predicted]
    assert "have changed since they were scored" not in (run.evaluation(report.split) / "report.md").read_text()


@pytest.mark.parametrize("cell", ["", None, 0.5, True, ["a"]])
def test_predict_and_evaluate_refuse_an_empty_cell_of_the_named_id(
    tmp_path: Path, learned: Callable[..., Trained], cell: Any
) -> None:
    run, file = learned("sst2").run, tmp_path / "unnamed.jsonl"
    rows = [{"sentence": text, "label": 0, "key": key} for text, key in zip(TEXTS, ["a", cell, "c"], strict=False)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    message = r"row 2: expected a text or whole number in data\.id, found "
    with pytest.raises(DataError, match=message):
        evaluate(run.path, data=file, overrides=["data.id=key"])
    with pytest.raises(DataError, match=message):
        list(predict(run.path, file, overrides=["data.id=key"]))
    nulls = list(predict(run.path, file, overrides=["data.id=key"], on_bad_row="null"))
    assert [row["id"] for row in nulls] == ["a", 1, "c"]


def test_a_bad_row_keeps_its_id_and_its_own_columns(tmp_path: Path, learned: Callable[..., Trained]) -> None:
    run, file = learned("sst2").run, tmp_path / "texts.jsonl"
    rows = [{"sentence": text, "ticket": 7 + number} for number, text in enumerate(["good", None, "bad"])]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "no JSON\n")
    answers = list(predict(run.path, file, overrides=["data.id=ticket"], on_bad_row="null", keep_columns=True))
    assert [answer["id"] for answer in answers] == [7, 8, 9, 3]  # of the last nothing but its number is known
    assert [answer.get("ticket") for answer in answers] == [7, 8, 9, None]
    assert [answer["prediction"] is None for answer in answers] == [False, True, False, True]


def test_an_input_without_the_named_id_gets_row_numbers_and_a_warning(
    tmp_path: Path, learned: Callable[..., Trained], caplog: pytest.LogCaptureFixture
) -> None:
    run, file = learned("sst2").run, tmp_path / "other.csv"
    file.write_text("sentence,id\ngood,a\nbad,b\n")
    assert [row["id"] for row in predict(run.path, file, overrides=["data.id=key"])] == [0, 1]
    assert "no column 'key' (data.id); the ids are row numbers" in caplog.text
    caplog.clear()
    assert [row["id"] for row in predict(run.path, TEXTS, overrides=["data.id=key"])] == list(range(len(TEXTS)))
    assert caplog.text == ""


def test_a_bad_row_leaves_no_half_output_file(
    tmp_path: Path, learned: Callable[..., Trained], command: Callable[..., Answer]
) -> None:
    source, output = tmp_path / "rows.jsonl", tmp_path / "answers.jsonl"
    source.write_text('{"sentence": "good"}\n{"sentence": null}\n{"sentence": "bad"}\n')
    output.write_text("what was there\n")
    run = learned("sst2").run.path
    failed = command(["predict", run, source, "-o", output])
    assert failed.code == 3
    assert "line 2" in failed.stderr or "row 2" in failed.stderr
    assert output.read_text() == "what was there\n"
    written = command(["predict", run, source, "-o", output, "--on-bad-row", "skip"])
    assert f"Wrote 2 rows to {output} in place of the file that was there in" in written.stderr
    assert len(output.read_text().splitlines()) == 2
    assert sorted(path.name for path in tmp_path.glob("*answers*")) == ["answers.jsonl"]
    skipped = command(["predict", run, source, "--on-bad-row", "skip"])
    assert [json.loads(line)["id"] for line in skipped.stdout.splitlines()] == [0, 2]
    nulls = command(["predict", run, source, "--on-bad-row", "null"])
    assert [json.loads(line)["prediction"] is None for line in nulls.stdout.splitlines()] == [False, True, False]


def test_a_config_a_run_and_a_model_give_the_same_answers(learned: Callable[..., Trained]) -> None:
    trained = learned("sst2")
    answers = [list(predict(target, TEXTS)) for target in (trained.file, trained.run.path, trained.run.model)]
    assert answers[0] == answers[1] == answers[2]


def test_a_file_without_the_text_column_is_refused(tmp_path: Path, learned: Callable[..., Trained]) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("sentense\ngood\n")
    with pytest.raises(DataError, match=r"expected the column 'sentence'.*Did you mean 'sentense'"):
        list(predict(learned("sst2").run.path, file))


def test_a_text_file_is_read_one_text_per_line(tmp_path: Path, learned: Callable[..., Trained]) -> None:
    file, pairs = tmp_path / "lines.txt", tmp_path / "pairs.txt"
    file.write_text("".join(f"{text}\n" for text in TEXTS))
    run = learned("sst2").run.path
    assert list(predict(run, file)) == list(predict(run, TEXTS))
    pairs.write_text("a good film\tthe good film\none text alone\n")
    with pytest.raises(DataError, match=r"pairs\.txt, line 2: expected 2 texts with a tab between them, found 1"):
        list(predict(learned("mrpc").run.path, pairs))


def test_an_empty_text_is_answered_with_one_warning(
    learned: Callable[..., Trained], caplog: pytest.LogCaptureFixture
) -> None:
    run = learned("sst2").run.path
    caplog.clear()  # of a training that this test is the first to ask for
    with caplog.at_level("WARNING", "finetune_cli"):
        assert len(list(predict(run, ["good", "", "bad", " "], window_rows=2))) == 4
        assert len(list(predict(run, ["good", "bad"]))) == 2
    assert caplog.messages == ["2 rows have an empty text (the first is row 2, id 1): the answer there says nothing."]


def test_rows_that_are_cut_are_counted_once(learned: Callable[..., Trained], caplog: pytest.LogCaptureFixture) -> None:
    run = learned("sst2").run.path
    caplog.clear()
    with caplog.at_level("INFO", "finetune_cli.commands.predict"):
        assert len(list(predict(run, ["good", "bad " * 80, "sad " * 90], window_rows=2))) == 3
        assert len(list(predict(run, ["good", "bad " * 60]))) == 2
    assert [one for one in caplog.messages if "cut" in one] == ["2 of 3 rows were cut to 64 tokens."]


def test_kept_columns_are_all_there_beside_the_answer(tmp_path: Path, learned: Callable[..., Trained]) -> None:
    file = tmp_path / "rows.jsonl"
    own = {"sentence": "a good film", "prediction": "mine", "id": 2.5, "id_input": 1, "probabilities": None}
    file.write_text(json.dumps(own) + "\n" + json.dumps({"sentence": "bad", "id": "b"}) + "\n")
    rows = list(predict(learned("sst2").run.path, file, keep_columns=True))
    assert rows == [
        {
            "sentence": "a good film",
            "prediction_input": "mine",
            "id_input_input": 2.5,
            "id_input": 1,
            "probabilities_input": None,
            "id": 0,
            "prediction": "positive",
        },
        {"sentence": "bad", "id": "b", "prediction": "negative"},
    ]


def test_predict_leaves_no_thread_behind(learned: Callable[..., Trained]) -> None:
    before = threading.active_count()
    answers = predict(learned("sst2").run.path, TEXTS, window_rows=1)
    next(answers)
    answers.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.csv"], 3, "none.csv does not exist. Expected a data file. A text to label goes with --text."),
        (["--text", "x", "-o", "out.xlsx"], 2, "-o out.xlsx: .xlsx is no form of predictions."),
        (["--text", "x", "-o", "no/out.csv"], 2, "There is no directory no."),
    ],
)
def test_cheap_mistakes_show_before_anything_heavy_is_imported(
    learned: Callable[..., Trained],
    run_cli: Callable[..., subprocess.CompletedProcess[str]],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    done = run_cli(["predict", learned("sst2").run.path, *arguments], env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "finetune_cli.runs.target" in imported
    assert imported.isdisjoint({"torch", "transformers", "datasets", "numpy"})


def test_a_mistyped_run_is_not_looked_for_on_the_hub(
    learned: Callable[..., Trained], command: Callable[..., Answer]
) -> None:
    run = learned("sst2").run.path
    answer = command(["predict", run.with_name("rum"), "--text", "x"])
    assert (answer.code, answer.stdout) == (5, "")
    assert f"{run.with_name('rum')} does not exist. Did you mean {run}?" in answer.stderr
    assert "Hub" not in answer.stderr
