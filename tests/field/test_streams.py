"""Rows to answer as people hand them over: piped tables, other separators, pipes by name.

A CSV file piped into `predict RUN -` used to be read as lines of text, its header first.
"""

import csv
import gzip
import io
import json
import os
import threading
from pathlib import Path

import pytest

from finetune_cli.data.formats.row import BadRow, Row, TableForm
from finetune_cli.data.readers import read_stream
from finetune_cli.errors import DataError
from finetune_cli.predictions.input import with_own_columns
from tests.bad_inputs.in_process import Said, finetune, refused
from tests.field.conftest import put

TEXTS = ["a good film, really", "bad"]
TABLES = {
    "commas": 'id,text,label\n7,"a good film, really",1\n8,bad,0\n',
    "commas and marks": '"id","text","label"\r\n"7","a good film, really","1"\r\n"8","bad","0"\r\n',
    "tabs": "id\ttext\tlabel\n7\ta good film, really\t1\n8\tbad\t0\n",
    "semicolons": "id;text;label\n7;a good film, really;1\n8;bad;0\n",
    "bars": "text|id\na good film, really|7\nbad|8\n",
    "a mark of the encoding": '\ufeffid,text\n7,"a good film, really"\n8,bad\n',
    "blank lines above": '\n\nid,text\n7,"a good film, really"\n8,bad\n',
}


def stream(content: str, *columns: str, stream_format: str | None = None, form: TableForm | None = None) -> list[Row]:
    options = {} if form is None else {"form": form}
    return list(read_stream(io.BytesIO(content.encode()), columns or ("text",), stream_format=stream_format, **options))


def texts_of(rows: list[Row]) -> list[str]:
    return ["?" if isinstance(row, BadRow) else row[1]["text"] for row in rows]


# ---- standard input


@pytest.mark.parametrize("case", TABLES)
def test_a_piped_table_is_recognised_by_the_text_column_in_its_header(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = stream(TABLES[case])
    assert texts_of(rows) == TEXTS
    assert [row[1]["id"] for row in rows if not isinstance(row, BadRow)] == ["7", "8"]
    assert "Where each line is a text: --input-format lines." in caplog.text


def test_a_piped_table_of_pairs_is_recognised() -> None:
    rows = stream("s1\ts2\tlabel\na\tb\t0\n", "s1", "s2")
    assert rows == [(0, {"s1": "a", "s2": "b", "label": "0"})]
    assert stream("s1\ts2\na\tb\n", "s1", "s2") == [(0, {"s1": "a", "s2": "b"})]


@pytest.mark.parametrize("line", ["text", "review,stars", "review\tstars", '"text"'])
def test_a_first_line_that_may_be_a_header_is_a_text_and_the_option_is_named(
    line: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert texts_of(stream(f"{line}\nfine\n")) == [line, "fine"]
    assert "may be the header of a table. If it is: --input-format csv (or tsv)" in caplog.text


@pytest.mark.parametrize("line", ["hello, world", "well; yes", "plain", "a | b", "good,bad and ugly"])
def test_texts_with_marks_are_read_without_a_word(line: str, caplog: pytest.LogCaptureFixture) -> None:
    assert texts_of(stream(f"{line}\nfine\n")) == [line, "fine"]
    assert stream("a\tb\n", "s1", "s2") == [(0, {"s1": "a", "s2": "b"})]
    assert caplog.records == []


def test_the_named_format_counts() -> None:
    assert texts_of(stream(TABLES["commas"], stream_format="lines"))[0] == "id,text,label"
    assert texts_of(stream("text\nbad\n", stream_format="csv")) == ["bad"]
    assert texts_of(stream("id\ttext\n1\tbad\n", stream_format="tsv")) == ["bad"]
    assert stream('{"text": "a"}\n', stream_format="lines") == [(0, {"text": '{"text": "a"}'})]
    (bad,) = stream("no json\n", stream_format="jsonl")
    assert isinstance(bad, BadRow)


def test_a_bad_row_of_a_piped_table_has_its_line() -> None:
    good, bad = stream("\nid,text\n1,a\n2,b,c\n")
    assert good == (0, {"id": "1", "text": "a"})
    assert str(bad).startswith("standard input, line 4: expected 2 fields (id, text), found 3.")


def test_a_row_of_a_piped_table_is_there_before_the_next_line() -> None:
    class Lines(io.RawIOBase):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield b"id,text\n"
            yield b"1,first\n"
            pytest.fail("read on before the first row was taken")

    assert next(read_stream(Lines(), ("text",))) == (0, {"id": "1", "text": "first"})  # type: ignore[arg-type]


def answers_of(said: Said) -> list[dict[str, object]]:
    assert said.code == 0, said.stderr
    return [json.loads(line) for line in said.stdout.splitlines()]


def test_the_command_takes_a_piped_table_as_the_file(finished: Path, here: Path) -> None:
    """The columns of the file, in their order, then the answer: the id stays where it was."""
    content = "sentence,id,stars\na good film,x,5\nbad,y,1\n"
    piped = answers_of(finetune("predict", finished / "run", "-", "--keep-columns", stdin=content.encode()))
    put(here / "rows.csv", content)
    assert piped == answers_of(finetune("predict", finished / "run", "rows.csv", "--keep-columns"))
    assert [list(row) for row in piped] == [["sentence", "id", "stars", "prediction"]] * 2
    assert [row["id"] for row in piped] == ["x", "y"]
    said = finetune("predict", finished / "run", "rows.csv", "--keep-columns", "-o", "out.csv")
    assert said.code == 0, said.stderr
    with (here / "out.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["sentence", "id", "stars", "prediction"]
    refused(finetune("predict", finished / "run", "--text", "a", "--input-format", "csv"), 2, "--input-format is about")


def test_an_id_that_is_the_rows_number_comes_after_the_columns() -> None:
    answer = {"id": 3, "prediction": "x"}
    assert list(with_own_columns(answer, {"text": "a", "n": 1})) == ["text", "n", "id", "prediction"]
    assert list(with_own_columns(answer, {"id": 3, "text": "a"})) == ["id", "text", "prediction"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"id,text\n1,a\n"), "standard input is packed with gzip. Unpack it first, or name the file."),
        (b"PAR1\x15\x04", "standard input is Parquet. Name the file"),
        (b"PK\3\4\0[Content_Types].xml", "standard input is a spreadsheet. Save the sheet as CSV (UTF-8)."),
        ("a\n".encode("utf-16"), "standard input is UTF-16 text. Save it as UTF-8: iconv -f UTF-16"),
    ],
    ids=("gzip", "Parquet", "spreadsheet", "UTF-16"),  # gzip's bytes hold the time, and a test's name must not
)
def test_what_is_no_text_is_said_once_and_not_for_each_line(content: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        list(read_stream(io.BytesIO(content), ("text",)))
    assert str(caught.value).startswith(message)


# ---- files


@pytest.mark.parametrize("separator", [";", "|", "\t"])
def test_predict_and_evaluate_read_a_table_with_another_separator_and_say_so(
    finished: Path, here: Path, separator: str
) -> None:
    lines = [["sentence", "label"], ["a good film", "positive"], ["an awful, sad room", "negative"]] * 1
    put(here / "rows.csv", "".join(f"{separator.join(cells)}\n" for cells in lines))
    said = finetune("predict", finished / "run", "rows.csv", "--keep-columns")
    assert [row["sentence"] for row in answers_of(said)] == [cells[0] for cells in lines[1:]]
    assert "warning: rows.csv: the columns are separated by " in said.stderr
    said = finetune("evaluate", finished / "run", "--data", "rows.csv")
    assert said.code == 0, said.stderr
    assert "n=2" in said.stdout


def test_a_header_without_the_text_column_is_not_split_otherwise(finished: Path, here: Path) -> None:
    put(here / "rows.csv", "sentence\na good film; really\nbad | worse\n")
    kept = answers_of(finetune("predict", finished / "run", "rows.csv", "--keep-columns"))
    assert [row["sentence"] for row in kept] == ["a good film; really", "bad | worse"]


def test_a_table_with_another_separator_that_lacks_the_column_is_said_to_lack_it(finished: Path, here: Path) -> None:
    put(here / "rows.csv", "a;b\nx y;1\n")
    refused(finetune("predict", finished / "run", "rows.csv"), 3, "expected the column 'sentence'; found 'a', 'b'")


def test_prepare_says_what_to_type_for_semicolons(finished: Path, here: Path) -> None:
    put(here / "train.csv", "sentence;label\na good film;positive\nbad;negative\n" * 3)
    changes = ["-s", "data.path=train.csv", "-s", "data.splits.validation=0.3"]
    said = finetune("prepare", finished / "config.yaml", *changes)
    refused(said, 3, "separated by semicolons, not commas", "makes a copy that can be read: finetune init train.csv")


def test_a_pipe_by_its_name_is_a_stream(finished: Path, here: Path) -> None:
    os.mkfifo(here / "pipe")
    for content in ("a good film\nbad\n", "id,sentence\n4,bad\n", '{"sentence": "bad"}\n'):
        writer = threading.Thread(target=put, args=(here / "pipe", content))
        writer.start()
        rows = answers_of(finetune("predict", finished / "run", "pipe"))
        writer.join()
        assert len(rows) == 2 if content.startswith("a good") else len(rows) == 1


def test_a_file_whose_name_says_nothing_is_read_as_named(finished: Path, here: Path) -> None:
    put(here / "rows.dat", "id,sentence\n4,bad\n")
    refused(finetune("predict", finished / "run", "rows.dat"), 3, "cannot tell its format")
    (row,) = answers_of(finetune("predict", finished / "run", "rows.dat", "--input-format", "csv"))
    assert row["id"] == "4"
