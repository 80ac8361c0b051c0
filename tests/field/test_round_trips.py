"""What the writers write, the readers read back as the same, in every format, packed and not."""

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from finetune_cli.data.readers import good_rows, read_rows
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


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_null_in_a_table_is_an_empty_text(tmp_path: Path, ending: str) -> None:
    assert written_and_read([{"note": None, "text": "a"}], tmp_path / f"out.{ending}") == [{"note": "", "text": "a"}]


@pytest.mark.parametrize("packing", PACKINGS)
def test_many_rows_come_back_packed(tmp_path: Path, packing: str) -> None:
    """More than one block of each packing, and a quotation mark far below."""
    rows = [{"text": f"row {number} " + "x" * 50} for number in range(8_000)] + [{"text": 'the "last"\tone\n'}]
    assert written_and_read(rows, tmp_path / f"out.tsv{packing}") == rows
