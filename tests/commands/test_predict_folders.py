"""`predict` on a folder with a file for each text: a row of each file, its path as the id."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_cli.commands.predict import predict
from finetune_cli.errors import DataError
from tests.commands.run_files import Answer, Trained


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    """Three mails, one of them in a folder below and of several lines; and files that are no texts."""
    folder = tmp_path / "mails"
    (folder / "old").mkdir(parents=True)
    (folder / "10.txt").write_text("a good film\n", encoding="utf-8")
    (folder / "2.txt").write_bytes("\ufeffbad, sad and awful\r\n".encode())
    (folder / "old" / "1").write_text("a good film\n\nthe film was good\n", encoding="utf-8")
    (folder / ".hidden.txt").write_text("bad", encoding="utf-8")
    (folder / "README.txt").write_text("where these are from", encoding="utf-8")
    return folder


def test_each_file_of_a_folder_is_one_text(mails: Path, learned: Callable[..., Trained]) -> None:
    run = learned("sst2").run.path
    rows = list(predict(run, mails, keep_columns=True))
    assert [row["id"] for row in rows] == ["2.txt", "10.txt", "old/1"]
    assert [row["sentence"] for row in rows] == [
        "bad, sad and awful",
        "a good film",
        "a good film\n\nthe film was good",
    ]
    assert [row["prediction"] for row in rows] == [
        row["prediction"] for row in predict(run, [row["sentence"] for row in rows])
    ]


def test_the_column_that_data_id_names_holds_the_path(mails: Path, learned: Callable[..., Trained]) -> None:
    rows = predict(learned("sst2").run.path, mails, overrides=["data.id=mail"], keep_columns=True)
    assert [(row["mail"], row["id"]) for row in rows] == [(name, name) for name in ("2.txt", "10.txt", "old/1")]


def test_other_encodings_are_read_as_init_reads_them_and_said(
    mails: Path, learned: Callable[..., Trained], caplog: pytest.LogCaptureFixture
) -> None:
    (mails / "2.txt").write_bytes("schlecht für uns".encode("cp1252"))
    (mails / "10.txt").write_bytes("gut für uns".encode("utf-16"))
    rows = list(predict(learned("sst2").run.path, mails, keep_columns=True))
    assert [row["sentence"] for row in rows][:2] == ["schlecht für uns", "gut für uns"]
    assert "1 file is not UTF-8, and read as windows-1252" in caplog.text


def test_a_file_that_is_no_text_is_a_bad_row(
    mails: Path, learned: Callable[..., Trained], command: Callable[..., Answer]
) -> None:
    (mails / "10.txt").write_bytes(b"PK\x03\x04" + bytes(50))
    run = learned("sst2").run.path
    answer = command(["predict", run, mails])
    assert answer.code == 3
    assert str(mails / "10.txt") in answer.stderr
    skipped = command(["predict", run, mails, "--on-bad-row", "skip"])
    assert [json.loads(line)["id"] for line in skipped.stdout.splitlines()] == ["2.txt", "old/1"]


def test_rows_beside_the_texts_are_left_out_with_a_warning(
    mails: Path, learned: Callable[..., Trained], command: Callable[..., Answer]
) -> None:
    run = learned("sst2").run.path
    for _ in range(2):  # the second time the answers are there
        answer = command(["predict", run, mails, "-o", mails / "answers.jsonl"])
        assert answer.code == 0, answer.stderr
    assert "answers.jsonl is no text and left out" in answer.stderr
    assert len((mails / "answers.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_folders_that_hold_no_texts_and_pairs_are_refused(
    tmp_path: Path, mails: Path, learned: Callable[..., Trained], command: Callable[..., Answer]
) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    run = learned("sst2").run.path
    answer = command(["predict", run, rows])
    assert answer.code == 3
    assert "a .txt file for each text" in answer.stderr
    (rows / "new.csv").write_text("sentence\ngood\n", encoding="utf-8")
    answer = command(["predict", run, rows])
    assert answer.code == 3
    assert f"Name a file: {rows / 'new.csv'}" in answer.stderr
    answer = command(["predict", run, mails, "--input-format", "lines"])
    assert answer.code == 2
    assert "--input-format is about one file" in answer.stderr
    with pytest.raises(DataError, match="one text in each file, and this model takes two"):
        list(predict(learned("mrpc").run.path, mails))


def test_a_whole_file_or_stream_as_one_text(
    tmp_path: Path, learned: Callable[..., Trained], command: Callable[..., Answer]
) -> None:
    run, text = learned("sst2").run.path, "a good film\n\n{the} film was bad\n"
    file = tmp_path / "mail.txt"
    file.write_text(text, encoding="utf-8")
    expected = next(predict(run, [text], probabilities=True))["probabilities"]
    for source in (file, "-"):
        answer = command(["predict", run, source, "--input-format", "text", "--probabilities"], stdin=text.encode())
        assert answer.code == 0, answer.stderr
        row = json.loads(answer.stdout)
        assert row["id"] == 0
        assert row["probabilities"] == pytest.approx(expected, abs=1e-6)
    answer = command(["predict", learned("mrpc").run.path, file, "--input-format", "text"])
    assert answer.code == 3
    assert "this model takes two" in answer.stderr


def test_a_labelled_folder_for_evaluate_says_how_to_make_rows_of_it(
    tmp_path: Path, learned: Callable[..., Trained], command: Callable[..., Answer]
) -> None:
    folder = tmp_path / "test"
    for name in ("positive", "negative"):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.txt").write_text("a film", encoding="utf-8")
    answer = command(["evaluate", learned("sst2").run.path, "--data", folder])
    assert answer.code == 3
    assert f"finetune init {folder}" in answer.stderr
