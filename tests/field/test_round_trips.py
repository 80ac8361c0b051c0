"""What the writers write, the readers read back as the same, in every format, packed and not."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from finetune_cli.data.formats.row import OF_OTHERS, good_rows
from finetune_cli.data.readers import read_rows, read_stream
from finetune_cli.predictions.files import choose_format, write_predictions

PACKINGS = ["", ".gz", ".bz2", ".xz", ".zst"]
FORMATS = ["csv", "tsv", "jsonl", "parquet", "ndjson"]
# A NUL is refused in tables, with its line: no text has one. Half of a surrogate pair is no character.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.text(
    "\"\t\r\n,;|\\' a", max_size=8
)
TABLE = st.lists(st.fixed_dictionaries({"text": TEXT, "other": TEXT}), min_size=1, max_size=8)
quickly = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written_and_read(rows: list[dict[str, Any]], file: Path) -> list[dict[str, Any]]:
    answers = ({**row, "id": number, "prediction": "x"} for number, row in enumerate(rows))
    write_predictions(answers, file, file_format=choose_format(file, None), with_errors=False, stdout=io.BytesIO())
    return [{key: values[key] for key in rows[0]} for _, values in good_rows(read_rows(file))]


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("packing", PACKINGS)
@given(rows=TABLE)
@example(rows=[{"text": 'He said "hi"', "other": ""}])
@example(rows=[{"text": '"', "other": '""'}])
@example(rows=[{"text": "a\tb", "other": "a\nb"}, {"text": "a\r\nb", "other": "a\rb"}])
@example(rows=[{"text": "plain", "other": "plain"}, {"text": "plain", "other": 'a "late" quote\t'}])
@example(rows=[{"text": "\u2028\x85\x0b\x1c", "other": "\ufeff"}])
@quickly
def test_any_text_comes_back(tmp_path: Path, ending: str, packing: str, rows: list[dict[str, Any]]) -> None:
    assert written_and_read(rows, tmp_path / f"out.{ending}{packing}") == rows


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@given(values=st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=5), min_size=1, max_size=5))
@quickly
def test_nulls_and_nul_characters_come_back_where_there_are_types(
    tmp_path: Path, ending: str, values: list[str | None]
) -> None:
    rows = [{"note": value} for value in values]
    assert written_and_read(rows, tmp_path / f"out.{ending}") == rows


NAME = TEXT.map(str.strip).filter(bool)  # a name is refused with blanks around it, and left out when it is blank


@pytest.mark.parametrize("ending", FORMATS)
@given(names=st.lists(NAME, min_size=2, max_size=4, unique=True), text=TEXT)
@example(names=["a,b", 'say "x"', "two\nlines"], text="a")
@quickly
def test_columns_of_any_name_come_back(tmp_path: Path, ending: str, names: list[str], text: str) -> None:
    names = [name for name in names if name not in ("id", "prediction")] or ["a"]
    rows = [dict.fromkeys(names, text), dict.fromkeys(names, "x")]
    assert written_and_read(rows, tmp_path / f"out.{ending}") == rows


def as_table(rows: list[dict[str, Any]], separator: str) -> bytes:
    file = io.StringIO()
    writer = csv.DictWriter(file, ["number", *rows[0]], delimiter=separator, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({"number": number, **row} for number, row in enumerate(rows))
    return file.getvalue().encode()


@pytest.mark.parametrize("separator", [",", ";", "|", "\t"])
@given(rows=TABLE)
@example(rows=[{"text": "a;b|c,d\te", "other": ";"}])
@quickly
def test_a_table_with_any_separator_is_read_from_a_file_and_from_a_pipe(
    tmp_path: Path, separator: str, rows: list[dict[str, Any]]
) -> None:
    written = as_table(rows, separator)
    lines = written.decode().split("\n")[:-1]
    # A text broken so that each of its lines has all columns: with tabs both readings are whole, and nothing decides.
    assume(separator != "\t" or len(lines) == len(rows) + 1 or len({line.count("\t") for line in lines}) > 1)
    file = tmp_path / "table.csv"
    file.write_bytes(written)
    from_file = [row for _, row in good_rows(read_rows(file, form=OF_OTHERS))]
    piped = [row for _, row in good_rows(read_stream(io.BytesIO(written), ("text",)))]
    assert piped == from_file == [{"number": str(number), **row} for number, row in enumerate(rows)]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_null_in_a_table_is_an_empty_text(tmp_path: Path, ending: str) -> None:
    assert written_and_read([{"note": None, "text": "a"}], tmp_path / f"out.{ending}") == [{"note": "", "text": "a"}]


@pytest.mark.parametrize("packing", PACKINGS)
def test_many_rows_come_back_packed(tmp_path: Path, packing: str) -> None:
    """More than one block of each packing, and a quotation mark far below."""
    rows = [{"text": f"row {number} " + "x" * 50} for number in range(8_000)] + [{"text": 'the "last"\tone\n'}]
    assert written_and_read(rows, tmp_path / f"out.tsv{packing}") == rows
