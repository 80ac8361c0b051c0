"""Predictions as files: every form holds the same rows, whole or not at all."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from finetune_cli.errors import ConfigError, DataError
from finetune_cli.predictions.files import choose_format, require_writable, write_predictions

ROWS = [
    {"id": "a", "prediction": "yes", "probabilities": {"yes": 0.75, "no": 0.25}},
    {"id": "b", "prediction": "no", "probabilities": {"yes": 0.125, "no": 0.875}},
]
FAILED = {"id": 7, "prediction": None, "error": "the text is missing"}


def written(path: Path, rows: list[dict[str, Any]], file_format: str, *, with_errors: bool = False) -> bytes:
    write_predictions(rows, path, file_format=file_format, with_errors=with_errors, stdout=io.BytesIO())
    return path.read_bytes()


def test_json_lines_are_the_rows_as_they_are(tmp_path: Path):
    rows = [*ROWS, {"id": 3, "prediction": "schön", "own": [1, None]}]
    content = written(tmp_path / "out.jsonl", rows, "jsonl")
    assert [json.loads(line) for line in content.splitlines()] == rows
    assert "schön".encode() in content


@pytest.mark.parametrize(("file_format", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_a_table_has_a_column_for_each_probability(tmp_path: Path, file_format: str, delimiter: str):
    content = written(tmp_path / "out", [{"text": 'say "hi",\tthen\ngo', **ROWS[0]}], file_format).decode()
    assert list(csv.DictReader(io.StringIO(content), delimiter=delimiter)) == [
        {
            "text": 'say "hi",\tthen\ngo',
            "id": "a",
            "prediction": "yes",
            "probabilities.yes": "0.75",
            "probabilities.no": "0.25",
        }
    ]


def test_parquet_keeps_types_and_structure(tmp_path: Path):
    written(tmp_path / "out.parquet", ROWS, "parquet")
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist() == ROWS


def test_the_number_of_an_unreadable_row_is_a_text_among_text_ids(tmp_path: Path):
    written(tmp_path / "out", [*ROWS, dict(FAILED)], "parquet", with_errors=True)
    assert pyarrow.parquet.read_table(tmp_path / "out").column("id").to_pylist() == ["a", "b", "7"]


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_rows_without_an_answer_may_come_first(tmp_path: Path, file_format: str):
    rows = [{**FAILED, "id": "first"}, *ROWS]
    content = written(tmp_path / "out", rows, file_format, with_errors=True)
    if file_format == "csv":
        first, second, _ = csv.DictReader(io.StringIO(content.decode()))
        assert (first["prediction"], first["error"], first["probabilities.yes"]) == ("", "the text is missing", "")
    else:
        first, second, _ = pyarrow.parquet.read_table(tmp_path / "out").to_pylist()
        assert (first["prediction"], first["error"], first["probabilities"]) == (None, "the text is missing", None)
    assert (second["prediction"], second["error"] or None) == ("yes", None)


def test_parquet_of_more_rows_than_one_group_is_whole(tmp_path: Path):
    rows = [{"id": number, "prediction": 0.5} for number in range(5000)]
    written(tmp_path / "out.parquet", rows, "parquet")
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist() == rows


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "tsv", "parquet"])
def test_no_rows_make_an_empty_file(tmp_path: Path, file_format: str):
    content = written(tmp_path / "out", [], file_format)
    if file_format == "parquet":
        assert pyarrow.parquet.read_table(tmp_path / "out").num_rows == 0
    else:
        assert (
            content.decode().splitlines()
            == {"jsonl": [], "csv": ["id,prediction"], "tsv": ["id\tprediction"]}[file_format]
        )


def test_a_row_with_a_new_column_is_refused_where_it_cannot_be_kept(tmp_path: Path):
    with pytest.raises(DataError, match=r"Row 'c' has a column that the first rows lack: extra\. .* --format jsonl"):
        written(tmp_path / "out.csv", [*ROWS, {"id": "c", "prediction": "no", "extra": 1}], "csv")
    assert list(tmp_path.iterdir()) == []


def test_a_column_that_changes_its_type_is_refused_in_parquet(tmp_path: Path):
    rows = [{"id": number, "prediction": "yes"} for number in range(3000)] + [{"id": 1, "prediction": 0.5}]
    with pytest.raises(DataError, match="changes its type"):
        written(tmp_path / "out.parquet", rows, "parquet")


def test_a_failure_leaves_the_old_file_as_it_was(tmp_path: Path):
    def broken() -> Iterator[dict[str, Any]]:
        yield ROWS[0]
        raise DataError("row 2 is bad")

    path = tmp_path / "out.jsonl"
    path.write_text("old\n")
    with pytest.raises(DataError, match="row 2"):
        write_predictions(broken(), path, file_format="jsonl", with_errors=False, stdout=io.BytesIO())
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_no_directory_is_a_mistake_of_the_command_line(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"-o .*out\.jsonl: cannot write it: .* no directory .*nowhere"):
        written(tmp_path / "nowhere" / "out.jsonl", ROWS, "jsonl")


def test_without_a_file_rows_go_to_the_stream():
    stream = io.BytesIO()
    assert write_predictions(ROWS, None, file_format="csv", with_errors=False, stdout=stream) == 2
    assert stream.getvalue().decode().splitlines()[0] == "id,prediction,probabilities.yes,probabilities.no"


@pytest.mark.parametrize(
    ("path", "requested", "chosen"),
    [
        ("out.csv", None, "csv"),
        ("out.TSV", None, "tsv"),
        ("out.parquet", None, "parquet"),
        ("out", None, "jsonl"),
        ("out.txt", "tsv", "tsv"),
        ("out.csv", "jsonl", "jsonl"),
        (None, None, "jsonl"),
    ],
)
def test_the_form_is_that_of_the_file_name_unless_asked_for(path: str | None, requested: str | None, chosen: str):
    assert choose_format(Path(path) if path else None, requested) == chosen


@pytest.mark.parametrize("name", ["out.xlsx", "out.json", "out.txt"])
def test_another_ending_is_refused_and_the_four_forms_are_named(name: str):
    with pytest.raises(ConfigError, match=r"is no form of predictions\. .*\.jsonl, \.csv, \.tsv or \.parquet"):
        choose_format(Path(name), None)


def test_whether_a_file_can_be_written_is_known_beforehand(tmp_path: Path):
    (tmp_path / "old.csv").write_text("kept\n")
    require_writable(tmp_path / "old.csv")
    require_writable(tmp_path / "new.csv")
    require_writable(Path("/dev/null"))
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "kept\n"
    for place, problem in ((tmp_path / "no" / "out.csv", "There is no directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=problem):
            require_writable(place)


def test_a_file_that_was_written_is_named_with_its_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level("INFO", "finetune_cli"):
        written(tmp_path / "out.jsonl", ROWS, "jsonl")
    assert re.fullmatch(rf"Wrote 2 rows to {tmp_path}/out\.jsonl in \d+\.\d s \([\d.e+]+ rows/s\)", caplog.messages[0])


def test_parquet_needs_a_file():
    with pytest.raises(ConfigError, match="-o FILE"):
        choose_format(None, "parquet")
