"""Files in the forms that people have them: JSON lists, packed, in pieces, saved by datasets, other split names.

huggingface/datasets#2181 (JSON arrays), #3221 and #7047 (packed, sharded and saved files).
"""

import bz2
import gzip
import json
import lzma
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from finetune_cli.data.formats.row import BadRow, good_rows
from finetune_cli.data.readers import read_rows
from finetune_cli.data.sources import resolve_sources
from finetune_cli.errors import DataError
from tests.bad_inputs.in_process import Said, refused
from tests.field.conftest import labels_of, put, put_lines, rows_of, sentiment

Prepared = Callable[..., Said]
ROWS = sentiment()
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
CSV = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in ROWS)
COUNTS = {"bad": 3, "good": 3}


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packer:
        packer.write(content)
    return sink.getvalue().to_pybytes()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}
CONTENTS = {
    ".json": [LINES, json.dumps(ROWS), json.dumps(ROWS, indent=2), "\n " + json.dumps(ROWS, indent="\t") + "\n"],
    ".jsonl": [LINES, json.dumps(ROWS), LINES.replace("\n", "\n\n"), LINES.replace("\n", "\r\n")],
    ".ndjson": [LINES],
    ".csv": [CSV],
    ".tsv": [CSV.replace(",", "\t")],
}


@pytest.mark.parametrize("packing", ["", *PACKED])
@pytest.mark.parametrize("ending", CONTENTS)
def test_every_form_of_the_same_rows_is_read(tmp_path: Path, ending: str, packing: str) -> None:
    for number, content in enumerate(CONTENTS[ending]):
        for mark in (b"", b"\xef\xbb\xbf"):
            raw = PACKED.get(packing, bytes)(mark + content.encode())
            assert rows_of(put(tmp_path / f"{number}{ending}{packing}", raw)) == ROWS


@pytest.mark.parametrize("packing", PACKED)
def test_packed_parquet_is_read(tmp_path: Path, packing: str) -> None:
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    packed = put(tmp_path / f"b.parquet{packing}", PACKED[packing]((tmp_path / "a.parquet").read_bytes()))
    assert rows_of(packed) == ROWS


@pytest.mark.parametrize("packing", PACKED)
def test_packed_files_of_several_parts_are_read_to_their_end(tmp_path: Path, packing: str) -> None:
    parts = [PACKED[packing](line.encode()) for line in LINES.splitlines(keepends=True)]
    assert rows_of(put(tmp_path / f"a.jsonl{packing}", b"".join(parts))) == ROWS


BAD_FILES = {
    "plain under a packed name": ("a.csv.gz", CSV.encode(), "is not a gzip file. Name it a.csv"),
    "packed under a plain name": ("a.csv", gzip.compress(CSV.encode()), "is packed with gzip. Name it a.csv.gz"),
    "packed otherwise": ("a.csv.gz", bz2.compress(CSV.encode()), "is packed with bzip2. Name it a.csv.bz2"),
    "cut gzip": ("a.csv.gz", gzip.compress(CSV.encode())[:-12], "is damaged (gzip:"),
    "cut xz": ("a.csv.xz", lzma.compress(CSV.encode())[:-12], "is damaged (xz:"),
    "cut bzip2": ("a.csv.bz2", bz2.compress(CSV.encode())[:-12], "is damaged (bzip2:"),
    "cut zstd": ("a.csv.zst", zstd(CSV.encode())[:-12], "is damaged (Zstandard:"),
    "flipped gzip": ("a.csv.gz", gzip.compress(CSV.encode())[:-8] + b"\0" * 8, "is damaged (gzip:"),
    "no format": ("a.gz", gzip.compress(b"x"), "cannot tell its format"),
    "spreadsheet": ("a.xlsx", b"PK\3\4", "Save the sheet as CSV"),
    "zip": ("a.csv", b"PK\3\4rest", "is a zip archive. Unpack it"),
    "a workbook called .csv": ("a.csv", b"PK\3\4\0[Content_Types].xml", "is a spreadsheet. Save the sheet as CSV"),
    "an old workbook": ("a.csv", b"\xd0\xcf\x11\xe0\0", "is a spreadsheet. Save the sheet as CSV"),
    "Parquet called .csv": ("a.csv", b"PAR1\x15\x04", "is Parquet. Name the file, with .parquet at the end"),
    "Parquet called .jsonl": ("a.jsonl", b"PAR1\x15\x04", "is Parquet. Name the file, with .parquet at the end"),
    "UTF-16 of Excel": ("a.tsv", "text\tlabel\n".encode("utf-16"), "Or make a copy that can be read: finetune init "),
    "list cut short": (
        "a.json",
        json.dumps(ROWS)[:-9].encode(),
        "expected a list of JSON objects, found the end",
    ),
    "list of numbers": ("a.json", b"[1, 2]", "expected one JSON object per line, found a list"),
    "number among objects": ("a.json", b'[{"a": 1}, 2]', "found 2"),
    "no comma": ("a.json", b'[{"a": 1}\n {"a": 2}]', "line 2: expected a comma"),
    "bad object": ("a.json", b'[{"a": 1},\n {"a": x}]', "line 2: expected a list of JSON objects, found bad JSON"),
    "key twice": ("a.json", b'[{"a": 1, "a": 2}]', "the key 'a' occurs twice"),
    "two lists": ("a.json", b'[{"a": 1}]\n[{"a": 2}]', "line 2: expected nothing after the end of the list"),
    "not UTF-8": ("a.json", b'[{"a": "caf\xe9"}]', "found byte 0xe9 at offset 11"),
    "half a pair": ("a.json", b'[{"a": "\\ud800"}]', "half of a surrogate pair"),
    "empty list": ("a.json", b"[ ]", "has no rows"),
    "pandas' columns": ("a.json", b'{"text": {"0": "a"}, "label": {"0": "b"}}', 'to_json(..., orient="records"'),
    "pandas' split form": ("a.json", b'{"columns": ["a"], "index": [0], "data": [["x"]]}', "found one object of lists"),
    "one object over lines": ("a.json", b'{\n"text": "a"\n}\n', "can only be read in a list"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_what_cannot_be_read_says_why(tmp_path: Path, case: str) -> None:
    name, content, message = BAD_FILES[case]
    with pytest.raises(DataError) as caught:
        rows_of(put(tmp_path / name, content))
    assert message in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_rows_before_a_fault_in_a_list_are_read(tmp_path: Path) -> None:
    first, bad, last = read_rows(put(tmp_path / "a.json", b'[{"a": 1},\n\n  [],\n{"a": 3}]'))
    assert (first, last) == ((0, {"a": 1}), (2, {"a": 3}))
    assert isinstance(bad, BadRow)
    assert (bad.row, bad.line) == (1, 3)


def test_a_long_list_is_read_in_the_memory_of_a_few_rows(tmp_path: Path) -> None:
    row = {"text": "x" * 1000, "label": "y"}
    path = put(tmp_path / "a.json", json.dumps([row] * 20_000))  # 20 MB
    tracemalloc.start()
    count = sum(1 for _ in read_rows(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 2_000_000


def test_an_object_larger_than_a_block_is_read(tmp_path: Path) -> None:
    rows = [{"text": "é" * size} for size in (1, 300_000, 2)]
    assert rows_of(put(tmp_path / "a.json", json.dumps(rows, ensure_ascii=False))) == rows


# ---- several files of one split


def test_a_list_and_a_pattern_name_several_files(here: Path, prepared: Prepared) -> None:
    put_lines(here / "part-2.jsonl", ROWS[:2])
    put(here / "part-10.csv.gz", gzip.compress(CSV.encode()))
    put(here / "dev.csv", CSV)
    for train in (["part-2.jsonl", "part-10.csv.gz"], "part-*", ["part-2.*", "part-10.csv.gz"]):
        said = prepared(path="part-2.jsonl", splits={"train": train, "validation": "dev.csv"})
        assert labels_of(said) == {"bad": 4, "good": 4}


def test_rows_of_several_files_are_numbered_through_in_natural_order(here: Path) -> None:
    for number in (10, 9, 1):
        put_lines(here / f"part-{number}.jsonl", [{"n": number}, {"n": number}])
    source = resolve_sources("part-*.jsonl", splits={"validation": "part-1.jsonl"})["train"]
    assert [(row, values["n"]) for row, values in good_rows(source.open(None))] == list(enumerate([1, 1, 9, 9, 10, 10]))


def test_a_fault_in_one_of_several_files_names_that_file(here: Path, prepared: Prepared) -> None:
    put(here / "a.jsonl", LINES)
    put(here / "b.jsonl", '{"text": "a", "label": "good"}\n{oops\n')
    refused(prepared(path="a.jsonl", splits={"train": ["a.jsonl", "b.jsonl"], "validation": 0.2}), 3, "b.jsonl, line 2")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("none-*.csv", "data.splits.train: no file fits data/none-*.csv. Check the pattern"),
        (["a.csv", "a.csv"], "data/a.csv is named twice"),
        (["a.csv", "b.csv"], "data/b.csv is not a file. Did you mean data/a.csv?"),
    ],
)
def test_files_that_are_not_there_are_named(here: Path, prepared: Prepared, train: Any, message: str) -> None:
    put(here / "data" / "a.csv", CSV)
    refused(prepared(splits={"train": train, "validation": 0.2}), 3, message)


def test_a_list_of_fractions_is_a_mistake_of_the_config(here: Path, prepared: Prepared) -> None:
    refused(prepared(splits={"train": [0.1]}), 2, "data.splits.train")


def test_shards_in_a_folder_are_one_split(here: Path, prepared: Prepared) -> None:
    (here / "data").mkdir()
    for number, rows in enumerate((ROWS[:4], ROWS[4:])):
        table = pa.Table.from_pylist(rows)
        parquet.write_table(table, here / "data" / f"train-0000{number}-of-00002.parquet")
    put(here / "data" / "validation.csv", CSV)
    assert labels_of(prepared()) == COUNTS


def test_a_folder_of_save_to_disk_is_read(here: Path, prepared: Prepared) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    rows = [{"text": row["text"], "label": int(row["label"] == "good")} for row in ROWS]
    saved = datasets.Dataset.from_list(rows, features=features)
    datasets.DatasetDict({"train": saved, "validation": saved}).save_to_disk(here / "data")
    assert labels_of(prepared()) == {"neg": 3, "pos": 3}
    saved.save_to_disk(here / "one", num_shards=2)
    assert labels_of(prepared(path="one", splits={"validation": 0.34})) == {"neg": 2, "pos": 2}
    said = prepared(path="one", splits={"train": "one", "validation": "data/validation"})
    assert labels_of(said, "validation") == {"neg": 3, "pos": 3}
    (here / "one" / "data-00001-of-00002.arrow").unlink()
    refused(prepared(path="one", splits={"validation": 0.34}), 3, "data-00001-of-00002.arrow is missing")


# ---- other names of validation


@pytest.mark.parametrize("name", ["dev", "val", "valid", "eval"])
@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_other_names_of_validation_are_taken_and_said(
    here: Path, prepared: Prepared, name: str, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    content = CSV.encode() if ending == "csv" else gzip.compress(CSV.encode())
    put(here / "data" / f"train.{ending}", content)
    put(here / "data" / f"{name}.{ending}", content)
    said = prepared()
    assert labels_of(said, "validation") == COUNTS
    assert f"data: {name}.{ending} is taken as the split validation" in said.stderr


def test_a_split_called_validation_comes_first(here: Path) -> None:
    for name in ("train", "validation", "dev", "val_news"):
        put(here / "data" / f"{name}.csv", CSV)
    sources = resolve_sources("data")
    assert list(sources) == ["train", "validation", "validation_news"]
    assert sources["validation"].where == "data/validation.csv"


def test_two_that_could_be_validation_are_a_question(here: Path, prepared: Prepared) -> None:
    for name in ("train", "dev", "val"):
        put(here / "data" / f"{name}.csv", CSV)
    refused(prepared(), 3, "dev.csv and val.csv could both be the validation split. Set data.splits.validation")
    assert labels_of(prepared(splits={"validation": "dev.csv"}), "validation") == COUNTS


def test_advice_for_a_folder_works_when_followed(here: Path, prepared: Prepared) -> None:
    put(here / "data" / "reviews.json", json.dumps(ROWS))
    said = prepared()
    refused(said, 3, "Name your files: data.splits.train: reviews.json.")
    assert labels_of(prepared(splits={"train": "reviews.json", "validation": 0.34})) == {"bad": 2, "good": 2}


def test_a_directory_named_as_a_file_says_how_to_name_what_is_inside(here: Path, prepared: Prepared) -> None:
    put(here / "data" / "train" / "1.csv", CSV)
    put(here / "data" / "dev.csv", CSV)
    said = prepared(splits={"train": "train"})
    refused(said, 3, "is not a file but a directory. For all files in it: data/train/*.csv")
    assert labels_of(prepared(splits={"train": "train/*.csv"})) == COUNTS


def test_a_zip_archive_is_named(here: Path, prepared: Prepared) -> None:
    with zipfile.ZipFile(here / "a.zip", "w") as archive:
        archive.writestr("train.csv", CSV)
    refused(prepared(path="a.zip", splits={"validation": 0.2}), 3, "Unpack it, and name the file inside")


# ---- folders as other programs leave them


def test_a_folder_for_each_split_is_read(here: Path, prepared: Prepared) -> None:
    """As Spark and `datasets` write them, with marks and parts of downloads beside."""
    for split in ("train", "dev"):
        folder = here / "data" / split
        put(folder / "_SUCCESS", "")
        put(folder / "._part-1.jsonl", b"\0\5\26\7")
        put_lines(folder / "part-10.jsonl", ROWS[4:])
        put(folder / "part-9.csv", "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in ROWS[:4]))
        parquet.write_table(pa.Table.from_pylist(ROWS), folder / "part-0-c000.snappy.parquet")
    said = prepared()
    assert labels_of(said) == labels_of(said, "validation") == {"bad": 6, "good": 6}
    source = resolve_sources("data")["train"]
    assert [values["text"] for _, values in good_rows(source.open(None))] == [row["text"] for row in [*ROWS, *ROWS]]


def test_the_same_rows_twice_in_a_folder_are_a_question(here: Path, prepared: Prepared) -> None:
    put(here / "data" / "validation.csv", CSV)
    put(here / "data" / "train" / "a.csv", CSV)
    put_lines(here / "data" / "train" / "a.jsonl", ROWS)
    refused(prepared(), 3, "two files for the split train: train/a.csv and train/a.jsonl")


def test_a_copy_of_a_data_set_of_the_hub_is_read(here: Path, prepared: Prepared) -> None:
    """README.md beside data/train-00000-of-00001.parquet, as `hf download` leaves it."""
    put(here / "data" / "README.md", "about it")
    for split in ("train", "validation"):
        (here / "data" / "data").mkdir(exist_ok=True)
        parquet.write_table(pa.Table.from_pylist(ROWS), here / "data" / "data" / f"{split}-00000-of-00001.parquet")
    assert labels_of(prepared()) == COUNTS


@pytest.mark.parametrize(
    ("name", "packing"),
    [
        ("{}.snappy.parquet", ""),
        ("{}.gz.parquet", ""),
        ("{}.jsonlines", ""),
        ("{}.CSV", ""),
        ("{}.csv.gzip", ".gz"),
        ("{}.JSONL.GZ", ".gz"),
        ("{}.json.zstd", ".zst"),
        ("{}.pq", ""),
        ("{}.tab", ""),
    ],
)
def test_names_that_other_programs_give(here: Path, prepared: Prepared, name: str, packing: str) -> None:
    ending = name.lower().removesuffix(".gzip").removesuffix(".gz").removesuffix(".zstd").rpartition(".")[2]
    for split in ("train", "validation"):
        file = put(here / "data" / name.format(split), "")
        if ending in ("parquet", "pq"):
            parquet.write_table(pa.Table.from_pylist(ROWS), file)
        else:
            content = {"csv": CSV, "tab": CSV.replace(",", "\t")}.get(ending, LINES)
            file.write_bytes(PACKED.get(packing, bytes)(content.encode()))
    assert labels_of(prepared()) == COUNTS


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("data/train.txt", "To have other files looked at, and a copy made: finetune init data"),
        ("data/train.arrow", "Write it as Parquet, or name the folder that save_to_disk wrote."),
        ("data/sst2/train.csv", "Name the folder inside: -s data.path=data/sst2"),
        ("data/.hidden.csv", "found nothing. Name your files: data.splits.train: FILE."),
    ],
)
def test_a_folder_without_splits_says_what_to_type(here: Path, prepared: Prepared, name: str, advice: str) -> None:
    put(here / name, CSV)
    refused(prepared(), 3, advice)


def test_folders_of_texts_by_class_are_what_init_is_for(here: Path, prepared: Prepared) -> None:
    for name in ("spam/1.txt", "spam/2.txt", "ham/1.txt", "ham/2.txt"):
        put(here / "data" / name, "a text")
    refused(prepared(), 3, "To make rows of its folders of texts, one for each class: finetune init data")


def test_rows_inside_an_object_are_named(here: Path, prepared: Prepared) -> None:
    for split in ("train", "validation"):
        put(here / "data" / f"{split}.json", json.dumps({"version": 1, "data": ROWS}))
    said = prepared()
    refused(said, 3, "one object whose 'data' holds a list of objects. Write that list alone: jq .data data/train.json")
    put(here / "data" / "train.json", json.dumps({"columns": ["text"], "index": [0], "data": [["a"]], "n": 1}))
    refused(prepared(), 3, "found the columns and the data apart. Write rows instead")


def test_a_column_name_that_occurs_twice_in_parquet_is_refused(tmp_path: Path) -> None:
    table = pa.table([["a"], ["b"], ["c"]], names=["text", "label", "text"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="the column name 'text' occurs twice"):
        rows_of(tmp_path / "a.parquet")
