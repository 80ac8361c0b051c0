"""Labels that are missing, numbered otherwise, declared in a schema, or look alike.

SNLI (rows labelled -1 in train), ClassLabel in a local Parquet file, ratings from 1 to 5, composed and decomposed
letters, zero-width characters.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from finetune_cli.config.load import load_config
from finetune_cli.runs.rows import prepare_rows
from tests.bad_inputs.in_process import Said, refused
from tests.field.conftest import TEXTS, labels_of, put, put_lines, sentiment

Prepared = Callable[..., Said]


def both(here: Path, labels: list[Any], **more: list[Any]) -> None:
    for split, cells in {"train": labels, "validation": labels, **more}.items():
        put_lines(here / "data" / f"{split}.jsonl", sentiment(cells))


def findings_of(said: Said, check: str) -> list[dict[str, Any]]:
    assert said.code == 0, said.stderr
    return [finding for finding in json.loads(said.stdout)["findings"] if finding["check"] == check]


# ---- rows without a label

UNLABELLED = {
    "minus one": [0, 1, -1, 0, 1, -1],
    "null": [0, 1, None, 0, 1, None],
    "empty": ["a", "b", "", "a", "b", ""],
    "both": [0, 1, -1, 0, 1, None],
    "text of minus one": ["0", "1", "-1", "0", "1", "-1.0"],
}


@pytest.mark.parametrize("case", UNLABELLED)
def test_rows_without_a_label_are_refused_or_left_out_and_counted(here: Path, prepared: Prepared, case: str) -> None:
    both(here, UNLABELLED[case])
    refused(prepared(), 3, "label", "To leave them out: -s data.unlabelled=drop")
    said = prepared(unlabelled="drop")
    assert list(labels_of(said).values()) == [2, 2]
    assert json.loads(said.stdout)["splits"]["train"]["unlabelled"] == 2


def test_left_out_rows_are_said_in_the_table_and_in_the_log(
    here: Path, config: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    from tests.bad_inputs.in_process import finetune

    both(here, UNLABELLED["minus one"])
    file = config(unlabelled="drop")
    assert "left out of train: 2 rows without a label" in finetune("prepare", file).stdout
    prepare_rows(load_config(file))  # as train does, from the cache
    assert "data/train.jsonl: 2 of 6 rows have no label" in caplog.text


def test_a_part_of_train_is_drawn_from_labelled_rows(here: Path, prepared: Prepared) -> None:
    put_lines(here / "data" / "train.jsonl", [{"text": f"t {n}", "label": [0, 1, -1, None][n % 4]} for n in range(80)])
    said = prepared(unlabelled="drop", splits={"validation": 0.25})
    assert (labels_of(said), labels_of(said, "validation")) == ({"0": 15, "1": 15}, {"0": 5, "1": 5})
    splits = json.loads(said.stdout)["splits"]
    assert (splits["train"]["unlabelled"], splits["validation"]["unlabelled"]) == (40, 0)


def test_a_test_split_without_any_label_stays_and_one_with_some_is_thinned(here: Path, prepared: Prepared) -> None:
    both(here, [0, 1] * 3, test=[-1] * 6, test_b=[0, 1, -1, -1, -1, 0])
    said = prepared(unlabelled="drop")
    splits = json.loads(said.stdout)["splits"]
    assert (splits["test"]["rows"], splits["test"]["labels"]) == (6, None)
    assert (splits["test_b"]["rows"], splits["test_b"]["labels"]) == (3, {"0": 2, "1": 1})


def test_minus_one_is_a_class_where_it_is_named(here: Path, prepared: Prepared) -> None:
    both(here, [-1, 0, 1, -1, 0, 1])
    assert labels_of(prepared(unlabelled="drop", labels=["-1", "0", "1"])) == {"-1": 2, "0": 2, "1": 2}


def test_numbers_and_sets_of_labels_are_left_out_alike(here: Path, prepared: Prepared) -> None:
    both(here, [0.5, 1.5, None, 2.5, -1.0, None])
    said = prepared("regression", unlabelled="drop")
    assert json.loads(said.stdout)["splits"]["train"]["rows"] == 4
    both(here, [["a"], ["b"], None, [], ["a", "b"], None])
    assert labels_of(prepared("multilabel", unlabelled="drop")) == {"a": 2, "b": 2}


def test_nothing_left_is_an_error(here: Path, prepared: Prepared) -> None:
    both(here, [-1] * 6)
    refused(prepared(unlabelled="drop"), 3, "none of the 6 rows has a label")


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
def test_both_loops_train_on_the_rows_and_columns_that_the_settings_leave(
    here: Path, config: Callable[..., Path], loop: str
) -> None:
    from tests.bad_inputs.in_process import finetune

    lines = "".join(f"{label}\t{text}\n" for text, label in zip(TEXTS, ["0", "1", "-1", "0", "1", ""], strict=True))
    for split in ("train", "validation"):
        put(here / "data" / f"{split}.tsv", lines)
    file = config(columns=["label", "text"], unlabelled="drop")
    said = finetune("train", file, "-s", f"training.loop={loop}", "-s", "training.batch_size=2")
    assert said.code == 0, said.stderr
    history = [json.loads(line) for line in (here / "run" / "history.jsonl").read_text().splitlines()]
    assert [row["rows"] for row in history if row["type"] == "train"] == [2, 2]
    rows = (here / "run" / "eval" / "validation" / "predictions.jsonl").read_text().splitlines()
    assert [json.loads(row)["label"] for row in rows] == ["0", "1", "0", "1"]


# ---- numbers


def test_classes_counted_from_one_are_named_and_the_setting_works(here: Path, prepared: Prepared) -> None:
    both(here, [1, 2, 3, 4, 5, 1])
    said = prepared(labels=["awful", "bad", "so", "good", "great"])
    refused(said, 3, "the labels go from 1 to 5, and class numbers go from 0 to 4")
    setting = said.stderr.split("-s '")[1].split("'")[0]
    assert labels_of(prepared("classification", "-s", setting)) == {"1": 2, "2": 1, "3": 1, "4": 1, "5": 1}


@pytest.mark.parametrize("cells", [["1.0", "1.5", "2.0", "1.0", "1.5", "2.0"], ["1", "1.5", "2", "1", "1.5", "2"]])
def test_numbers_that_are_no_classes_are_for_regression(here: Path, prepared: Prepared, cells: list[str]) -> None:
    for split in ("train", "validation"):
        lines = "".join(f"{text},{cell}\n" for text, cell in zip(TEXTS, cells, strict=True))
        put(here / "data" / f"{split}.csv", "text,label\n" + lines)
    refused(
        prepared(), 3, "label '1.5' in rows 2, 5 is not a whole number. For values to predict, set task: regression"
    )


# ---- class names in the schema of a Parquet file


def write_parquet(path: Path, names: list[str], numbers: list[int]) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    path.parent.mkdir(exist_ok=True)
    datasets.Dataset.from_list(sentiment(numbers), features=features).to_parquet(path)


def test_class_names_of_a_parquet_schema_are_the_names(here: Path, prepared: Prepared) -> None:
    for split in ("train", "validation"):
        write_parquet(here / "data" / f"{split}.parquet", ["neg", "pos"], [0, 1, 0, 1, 1, 1])
    assert labels_of(prepared()) == {"neg": 2, "pos": 4}
    assert labels_of(prepared(labels=["bad", "good"])) == {"bad": 2, "good": 4}  # other names, in the same order


def test_another_order_of_the_names_changes_no_label(here: Path, prepared: Prepared) -> None:
    write_parquet(here / "data" / "train.parquet", ["neg", "pos"], [0, 1, 0, 1, 1, 1])
    write_parquet(here / "data" / "validation.parquet", ["pos", "neg"], [1, 0, 1, 0, 0, 0])
    said = prepared()
    assert labels_of(said) == labels_of(said, "validation") == {"neg": 2, "pos": 4}
    assert labels_of(prepared(labels=["pos", "neg"])) == {"pos": 4, "neg": 2}


def test_class_names_of_lists_in_a_parquet_schema(here: Path, prepared: Prepared) -> None:
    feature = datasets.List(datasets.ClassLabel(names=["a", "b", "c"]))
    features = datasets.Features({"text": datasets.Value("string"), "label": feature})
    (here / "data").mkdir()
    for split in ("train", "validation"):
        rows = sentiment([[0], [1, 2], [], [2], [0, 1], [0, 2]])
        datasets.Dataset.from_list(rows, features=features).to_parquet(here / "data" / f"{split}.parquet")
    assert labels_of(prepared("multilabel")) == {"a": 3, "b": 2, "c": 3}


# ---- what looks alike


LOOK_ALIKE = {
    "composed and decomposed": ("caf\u00e9", "cafe\u0301"),
    "zero width": ("pos", "p\u200bos"),
    "no-break space": ("very good", "very\u00a0good"),
    "full width": ("pos", "\uff50\uff4f\uff53"),
    "another script": ("pos", "p\u043es"),
    "a soft hyphen": ("pos", "po\u00ads"),
}


@pytest.mark.parametrize("case", LOOK_ALIKE)
def test_labels_that_look_alike_are_found_and_told_apart(here: Path, prepared: Prepared, case: str) -> None:
    one, other = LOOK_ALIKE[case]
    both(here, [one, "neg", other, one, "neg", one])
    (found,) = findings_of(prepared(), "label_spelling")
    assert (found["count"], found["rows"]) == (1, [3])
    assert found["problem"].isascii() or case == "no-break space"
    assert ascii(one)[1:-1] in found["problem"]
    assert ascii(other)[1:-1] in found["problem"]


@pytest.mark.parametrize("blank", ["  ", "\u200b", "\u00a0\ufeff"])
def test_a_label_of_which_nothing_is_seen_is_found(here: Path, prepared: Prepared, blank: str) -> None:
    both(here, ["pos", "neg", blank, "pos", "neg", "pos"])
    (found,) = findings_of(prepared(), "label_spelling")
    assert (found["count"], found["rows"]) == (1, [3])
    assert "blanks or invisible characters alone" in found["problem"]


@pytest.mark.parametrize("text", ["\u200b\u200d", "\ufeff ", "\u2060\u00ad", "\u3164", "\u00a0", " \t"])
def test_a_text_of_which_nothing_is_seen_is_empty(here: Path, prepared: Prepared, text: str) -> None:
    rows = [*sentiment(), {"text": text, "label": "good"}]
    for split in ("train", "validation"):
        put_lines(here / "data" / f"{split}.jsonl", rows)
    found, _ = findings_of(prepared(), "empty_text")
    assert (found["count"], found["rows"]) == (1, [7])


def test_a_joined_emoji_is_text(here: Path, prepared: Prepared) -> None:
    for split in ("train", "validation"):
        put_lines(
            here / "data" / f"{split}.jsonl", [*sentiment(), {"text": "\U0001f468\u200d\U0001f469", "label": "good"}]
        )
    assert not findings_of(prepared(), "empty_text")


# ---- repeats


def test_the_third_of_a_b_a_is_a_duplicate_and_a_contradiction(here: Path, prepared: Prepared) -> None:
    rows = [{"text": "same text", "label": label} for label in ("good", "bad", "good")]
    put_lines(here / "data" / "train.jsonl", rows)
    put_lines(here / "data" / "validation.jsonl", sentiment())
    said = prepared()
    (duplicates,) = findings_of(said, "duplicates")
    (contradictions,) = findings_of(said, "contradictions")
    assert (duplicates["rows"], contradictions["rows"]) == ([3], [2, 3])
    assert contradictions["example"] == "row 1 with 'good' and row 2 with 'bad': 'same text'"


@pytest.mark.parametrize(("column", "data"), [("idx", {}), ("key", {"id": "key"})])
def test_ids_that_repeat_are_found_by_prepare(
    here: Path, prepared: Prepared, column: str, data: dict[str, str]
) -> None:
    rows = [{**row, column: key} for row, key in zip(sentiment(), [7, 0, 7, "a", 0, "a"], strict=True)]
    for split in ("train", "validation"):
        put_lines(here / "data" / f"{split}.jsonl", rows)
    found, _ = findings_of(prepared(**data), "duplicates")
    assert (found["count"], found["rows"]) == (3, [3, 5, 6])
    assert "the id of an earlier row" in found["problem"]


def test_rows_without_ids_have_none_that_repeat(here: Path, prepared: Prepared) -> None:
    both(here, ["good", "bad"] * 3)
    assert not findings_of(prepared(), "duplicates")
