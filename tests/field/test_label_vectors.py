"""Several labels a row as vectors of 0 and 1 (ThilinaRajapakse/simpletransformers#51, huggingface/setfit#337)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.bad_inputs.in_process import Said, refused
from tests.field.conftest import TEXTS, labels_of, put, put_lines

Prepared = Callable[..., Said]
NAMES = ["toxic", "obscene", "insult"]
VECTORS = [[1, 0, 0], [0, 0, 0], [1, 0, 1], [0, 1, 1], [0, 0, 1], [1, 1, 1]]
COUNTS = {"toxic": 3, "obscene": 2, "insult": 4}


def rows(cells: list[Any]) -> list[dict[str, Any]]:
    return [{"text": text, "label": cell} for text, cell in zip(TEXTS, cells, strict=True)]


FORMS: dict[str, Callable[[list[int]], Any]] = {
    "numbers": lambda vector: vector,
    "flags": lambda vector: [bool(flag) for flag in vector],
    "floats": lambda vector: [float(flag) for flag in vector],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_vector_has_a_place_for_each_class(here: Path, prepared: Prepared, form: str, ending: str) -> None:
    cells = [FORMS[form](vector) for vector in VECTORS]
    for split in ("train", "validation"):
        file = here / "data" / f"{split}.{ending}"
        if ending == "jsonl":
            put_lines(file, rows(cells))
        else:
            file.parent.mkdir(exist_ok=True)
            parquet.write_table(pa.table({"text": TEXTS, "label": cells}), file)
    assert labels_of(prepared("multilabel", labels=NAMES)) == COUNTS


@pytest.mark.parametrize(
    "form",
    [
        json.dumps,
        lambda vector: "|".join(map(str, vector)),
        lambda vector: f"[{' '.join(map(str, vector))}]",  # as NumPy shows an array
        lambda vector: f"[{' '.join(f'{flag}.' for flag in vector)}]",
        lambda vector: " ".join(map(str, vector)),
        lambda vector: ",".join(map(str, vector)),
        lambda vector: str([bool(flag) for flag in vector]),  # as Python shows a list
        lambda vector: str(tuple(vector)),
    ],
)
@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_vector_in_a_table_is_read_however_it_was_shown(
    here: Path, prepared: Prepared, form: Callable[[list[int]], str], separator: str
) -> None:
    ending = "csv" if separator == "," else "tsv"
    quote = '"' if separator == "," else ""
    lines = [f"{text}{separator}{quote}{form(vector)}{quote}\n" for text, vector in zip(TEXTS, VECTORS, strict=True)]
    for split in ("train", "validation"):
        put(here / "data" / f"{split}.{ending}", f"text{separator}label\n" + "".join(lines))
    assert labels_of(prepared("multilabel", labels=NAMES)) == COUNTS


def test_lists_that_python_wrote_into_a_table_are_names(here: Path, prepared: Prepared) -> None:
    cells = [["toxic"], [], ["toxic", "insult"], ["obscene"], [], ["insult"]]
    content = "text,label\n" + "".join(f'{text},"{cell}"\n' for text, cell in zip(TEXTS, cells, strict=True))
    for split in ("train", "validation"):
        put(here / "data" / f"{split}.csv", content)
    assert labels_of(prepared("multilabel", labels=NAMES)) == {"toxic": 2, "obscene": 1, "insult": 2}


@pytest.mark.parametrize("kind", [pa.list_(pa.int8(), 3), pa.large_list(pa.float32()), pa.list_(pa.uint8())])
def test_every_kind_of_list_in_parquet_is_a_vector(here: Path, prepared: Prepared, kind: pa.DataType) -> None:
    (here / "data").mkdir()
    for split in ("train", "validation"):
        table = pa.table({"text": TEXTS, "label": pa.array(VECTORS, kind)})
        parquet.write_table(table, here / "data" / f"{split}.parquet")
    assert labels_of(prepared("multilabel", labels=NAMES)) == COUNTS


@pytest.mark.parametrize("form", [json.dumps, lambda vector: ";".join(map(str, vector))])
def test_a_vector_as_a_text_of_json_is_read(here: Path, prepared: Prepared, form: Callable[[list[int]], str]) -> None:
    for split in ("train", "validation"):
        put_lines(here / "data" / f"{split}.jsonl", rows([form(vector) for vector in VECTORS]))
    assert labels_of(prepared("multilabel", labels=NAMES)) == COUNTS


def test_classes_that_are_called_by_digits_stay_classes(here: Path, prepared: Prepared) -> None:
    for split in ("train", "validation"):
        put_lines(here / "data" / f"{split}.jsonl", rows([["10"], ["11"], ["10", "11"], ["11"], [], ["10"]]))
    assert labels_of(prepared("multilabel")) == {"10": 3, "11": 3}


def test_two_classes_make_vectors_of_two(here: Path, prepared: Prepared) -> None:
    cells = [[1, 0], [0, 1], [1, 0], [0, 1], [1, 0], [1, 0]]
    for split in ("train", "validation"):
        put_lines(here / "data" / f"{split}.jsonl", rows(cells))
    assert labels_of(prepared("multilabel", labels=["a", "b"])) == {"a": 4, "b": 2}


def test_lists_of_class_numbers_stay_what_they_are(here: Path, prepared: Prepared) -> None:
    cells = [[0, 1], [1], [0], [1, 0], [], [2]]
    for split in ("train", "validation"):
        put_lines(here / "data" / f"{split}.jsonl", rows(cells))
    assert labels_of(prepared("multilabel", labels=NAMES)) == {"toxic": 3, "obscene": 3, "insult": 1}


REFUSED = {
    "no names": (VECTORS, {}, "the lists have 3 values of 0 and 1 each, a place for each class. Name the classes"),
    "fewer names": (
        VECTORS,
        {"labels": ["a", "b"]},
        "a place for each class, and there are 2 classes: a, b",
    ),
    "another length": (
        [*VECTORS[:5], [1, 1]],
        {"labels": NAMES},
        "row 1 has 0 twice. Name each class once; lists",
    ),
    "a number that is no flag": ([*VECTORS[:5], [1, 2, 2]], {"labels": NAMES}, "the list of row 6 has 2 twice"),
    "a name twice": ([["toxic"], ["toxic", "toxic"], [], [], [], []], {"labels": NAMES}, "row 2 has 'toxic' twice"),
    "flags by name": (
        [dict(zip(NAMES, vector, strict=True)) for vector in VECTORS],
        {"labels": NAMES},
        "[] for none. Or give each class a column: -s 'data.label=[toxic, obscene, insult]'.",
    ),
    "nothing between": (
        ["".join(map(str, vector)) for vector in VECTORS],
        {"labels": NAMES},
        "found '100', as if it were a vector of 0 and 1. Divide its places, 1 0 0, and name",
    ),
    "nothing between, no names": (["".join(map(str, vector)) for vector in VECTORS], {}, "Divide its places, 1 0 0"),
    "some of each": ([["toxic"], *VECTORS[1:]], {"labels": NAMES}, "has 0 twice"),
    "a null in a vector": ([[1, None, 0], *VECTORS[1:]], {"labels": NAMES}, "found None in the list of row 1"),
    "probabilities": ([[0.9, 0.1, 0.0], *VECTORS[1:]], {"labels": NAMES}, "found 0.9 in the list of row 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_neither_is_refused(here: Path, prepared: Prepared, case: str) -> None:
    cells, data, message = REFUSED[case]
    for split in ("train", "validation"):
        put_lines(here / "data" / f"{split}.jsonl", rows(cells))
    refused(prepared("multilabel", **data), 3, message)


def test_what_the_refusal_says_to_type_works(here: Path, prepared: Prepared) -> None:
    for split in ("train", "validation"):
        put_lines(here / "data" / f"{split}.jsonl", rows(VECTORS))
    said = prepared("multilabel")
    setting = said.stderr.split("-s '")[1].split("'")[0]
    assert list(labels_of(prepared("multilabel", "-s", setting)).values()) == list(COUNTS.values())


def test_one_label_a_row_says_what_a_list_is_for(here: Path, prepared: Prepared) -> None:
    for split in ("train", "validation"):
        put_lines(here / "data" / f"{split}.jsonl", rows(VECTORS))
    refused(prepared("classification"), 3, "found list [1, 0, 0] in row 1. For several labels a row, set task: ")


def test_a_test_split_of_minus_ones_has_no_labels(here: Path, prepared: Prepared) -> None:
    for split in ("train", "validation"):
        put_lines(here / "data" / f"{split}.jsonl", rows(VECTORS))
    put_lines(here / "data" / "test.jsonl", rows([[-1, -1, -1]] * 6))
    said = prepared("multilabel", labels=NAMES)
    assert said.code == 0
    assert json.loads(said.stdout)["splits"]["test"]["labels"] is None
