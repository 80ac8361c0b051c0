"""Rows that are refused, each at its place, and rows that only look wrong."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from tests.bad_inputs.in_process import Said, finetune, refused

HEADER = "text,label\n"
ROWS = "good film,pos\nbad film,neg\n"
GOOD = {"csv": HEADER + ROWS, "jsonl": '{"text": "good", "label": "pos"}\n{"text": "bad", "label": "neg"}\n'}

Run = Callable[..., Said]


@pytest.fixture
def on_rows(tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """on_rows(train, validation=good rows, ...) -> Said: a command on d/train.csv and d/validation.csv."""
    monkeypatch.chdir(tmp_path)

    def run(
        train: str | bytes | None,
        validation: str | bytes | None = None,
        *,
        ending: str = "csv",
        task: str = "classification",
        command: str = "prepare",
        options: Sequence[str] = (),
    ) -> Said:
        Path("d").mkdir()
        for split, content in (("train", train), ("validation", validation or GOOD.get(ending))):
            if content is not None:
                Path(f"d/{split}.{ending}").write_bytes(content if isinstance(content, bytes) else content.encode())
        settings = {
            "task": task,
            "model": {"name_or_path": str(tiny_bert)},
            "data": {"path": "d", "text": "text"},
            "training": {"num_epochs": 1},
            "evaluation": {"bootstrap": {"samples": 50}},
            "output_dir": "run",
        }
        Path("c.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        return finetune(command, "c.yaml", *options)

    return run


CSV_FILES = {
    "empty file": (b"", "d/train.csv is empty. Expected a line of column names"),
    "no rows": (HEADER, "d/train.csv has column names (text, label) but no rows"),
    "one row": (f"{HEADER}good,pos\n", "one class only ('pos') in all rows. A classifier needs at least two"),
    "one class": (f"{HEADER}a,pos\nb,pos\n", "d/train.csv, column 'label': one class only ('pos')"),
    "one field too many": (f"{HEADER}{ROWS}a,b,pos\n", "d/train.csv, line 4: expected 2 fields (text, label), found 3"),
    "one field too few": (f"{HEADER}{ROWS}good\n", "d/train.csv, line 4: expected 2 fields (text, label), found 1"),
    "a row number before every row": (f"{HEADER}0,good,pos\n1,bad,neg\n", "a column of row numbers needs a name"),
    "no text column": (f"txt,label\n{ROWS}", "expected the column 'text'; found 'txt', 'label'. Did you mean 'txt'?"),
    "no label column": (f"text,lab\n{ROWS}", "found 'text', 'lab'. Did you mean 'lab'? Name yours: -s data.label=..."),
    "column twice": (f"text,text\n{ROWS}", "d/train.csv, line 1: the column name 'text' occurs twice. Rename one."),
    "blank in a column name": (f"text, label\n{ROWS}", "the column name ' label' has blanks around it"),
    "semicolons": ("text;label\ngood;pos\n", "separated by semicolons, not commas. Save it with commas."),
    "tabs": ("text\tlabel\ngood\tpos\n", "separated by tabs, not commas. Name it .tsv."),
    "open quotation mark": (f'{HEADER}"good,pos\nbad,neg\n', "line 2: a quotation mark opens here and is never closed"),
    "latin-1": (HEADER.encode() + b"caf\xe9,pos\n", "line 2: expected UTF-8 text, found byte 0xe9 at offset 14"),
    "utf-16": ((HEADER + ROWS).encode("utf-16"), "d/train.csv is UTF-16 text. Save it as UTF-8."),
    "NUL character": (f"{HEADER}a\0b,pos\n", "line 2: a NUL character"),
    "empty text everywhere": (
        f"{HEADER},pos\n,neg\n",
        "the text is empty in all 2 rows. Is data.text the right column?",
    ),
    "no label in a row": (f"{HEADER}{ROWS}odd,\n", "found no label in row 3. Label or remove them."),
    "label -1 in a row": (f"{HEADER}good,0\nbad,-1\n", "label -1 in row 2; negative numbers mark rows without a label"),
    "half a class": (f"{HEADER}good,0.5\nbad,1\n", "'0.5'"),
    "numbers and names": (f"{HEADER}good,0\nbad,one\n", "labels of different kinds: '0' (row 1) and 'one' (row 2)"),
}


@pytest.mark.parametrize(("content", "message"), CSV_FILES.values(), ids=CSV_FILES)
def test_a_wrong_csv_file_is_refused_at_its_place(on_rows: Run, content: str | bytes, message: str) -> None:
    refused(on_rows(content), 3, message)


JSON_FILES = {
    "empty file": ("", "d/train.jsonl has no rows. Expected at least one."),
    "null text": (
        '{"text": null, "label": "pos"}\n',
        "row 1: expected text in column 'text', found null. Write a text",
    ),
    "number for a text": ('{"text": 3, "label": "pos"}\n', "row 1: expected text in column 'text', found int '3'"),
    "list for a label": (GOOD["jsonl"] + '{"text": "a", "label": ["pos"]}\n', "expected a class name or number"),
    "cut line": (GOOD["jsonl"] + '{"text": "a",', "d/train.jsonl, line 3: expected one JSON object per line"),
    "a list for a row": ('["a", "pos"]\n', "found a list. Write each of its objects on a line"),
    "columns for rows": ('{"text": ["a"], "label": ["pos"]}\n', "found one object of lists (a column each)"),
    "missing key": (GOOD["jsonl"] + '{"text": "a"}\n', "row 3: expected the column 'label', found only 'text'"),
    "duplicate key": (GOOD["jsonl"] + '{"text": "a", "text": "b"}\n', "line 3: the key 'text' occurs twice"),
    "NaN": (GOOD["jsonl"] + '{"text": "a", "label": NaN}\n', "line 3: NaN is not JSON"),
}


@pytest.mark.parametrize(("content", "message"), JSON_FILES.values(), ids=JSON_FILES)
def test_a_wrong_json_lines_file_is_refused_at_its_place(on_rows: Run, content: str, message: str) -> None:
    refused(on_rows(content, ending="jsonl"), 3, message)


LONG = f"{HEADER}the film is as long as that,pos\nbad,neg\n"
SETTINGS = {
    "label unknown to train": (
        None,
        f"{HEADER}good,nge\n",
        [],
        3,
        "unknown label 'nge' in row 1",
        "Did you mean 'neg'?",
    ),
    "label out of range": (f"{HEADER}a,0\nb,1\n", f"{HEADER}c,2\n", [], 3, "'2' in row 1. The classes are: 0, 1."),
    "label -100": (f"{HEADER}a,0\nb,-100\n", None, ["data.labels=['0', '1']"], 3, "unknown label '-100' in row 2."),
    "other class names": (
        None,
        None,
        ["data.labels=[no, yes]"],
        3,
        "unknown label 'pos' in row 1. The classes are: no",
    ),
    "missing id column": (None, None, ["data.id=nope"], 3, "expected the column 'nope'", "Name yours: -s data.id=..."),
    "missing split file": (
        None,
        None,
        ["data.splits.validation=no.csv"],
        3,
        "data.splits.validation: d/no.csv is not a",
    ),
    "missing data": (
        None,
        None,
        ["data.path=/no/where"],
        3,
        "data.path: /no/where does not exist. There is no directory",
    ),
    "config as data": (
        None,
        None,
        ["data.path=c.yaml"],
        3,
        "c.yaml: cannot tell its format. Expected a name that ends",
    ),
    "limit above the model's": (
        None,
        None,
        ["data.max_length=65"],
        2,
        "65, but this model takes at most 64 tokens. Set",
    ),
    "text longer than allowed": (LONG, None, ["data.truncation=error", "data.max_length=5"], 3, "d/train.csv, row 1"),
}


@pytest.mark.parametrize("case", SETTINGS.values(), ids=SETTINGS)
def test_rows_that_do_not_fit_the_settings_are_refused(on_rows: Run, case: tuple) -> None:
    train, validation, overrides, code, *messages = case
    options = [option for value in overrides for option in ("--set", value)]
    refused(on_rows(train or HEADER + ROWS, validation, options=options), code, *messages)


def test_data_of_the_hub_while_offline_are_said_at_once(on_rows: Run) -> None:
    start = time.monotonic()
    said = on_rows(HEADER + ROWS, command="train", options=["-s", "data.path=nobody/nothing", "--offline"])
    refused(
        said, 5, "'nobody/nothing' is not a file or directory here", "offline mode is on", "`finetune prepare` once"
    )
    assert time.monotonic() - start < 5


def test_no_train_file_and_no_validation_file_say_what_to_type(on_rows: Run, tmp_path: Path) -> None:
    refused(on_rows(None), 3, "d has no train split, only: validation. Name it: data.splits.train.")
    Path("d/validation.csv").rename("d/train.csv")
    refused(finetune("prepare", "c.yaml"), 3, "-s data.splits.validation=0.1")
    assert not Path("run").exists()


@pytest.mark.parametrize("value", ["good", "nan", "1e999", "1_0"])
def test_a_value_to_predict_that_is_no_number_is_refused(on_rows: Run, value: str) -> None:
    said = on_rows(f"{HEADER}a,1.5\nb,{value}\n", f"{HEADER}a,1\n", task="regression")
    refused(said, 3, f"d/train.csv, column 'label': expected a finite number, found '{value}' in row 2.")


def test_a_file_that_is_no_parquet_is_refused(on_rows: Run) -> None:
    refused(on_rows(b"PAR1", b"PAR1", ending="parquet"), 3, "d/train.parquet is not a Parquet file or is damaged")


def test_f1_for_three_classes_that_only_the_data_show_is_refused_before_training(on_rows: Run) -> None:
    rows = f"{HEADER}good,a\nbad,b\nodd,c\n"
    said = on_rows(rows, rows, command="train", options=["-s", "evaluation.metrics=[accuracy, f1]"])
    refused(said, 2, "evaluation.metrics: f1 is for two classes, and this task has 3; use f1_macro")
    assert not Path("run/checkpoints").exists()


def test_class_weights_for_a_class_that_only_the_data_could_know(on_rows: Run) -> None:
    said = on_rows(HEADER + ROWS, command="train", options=["-s", "training.class_weights={no: 2}"])
    assert said.code in (2, 3)
    refused(said, said.code, "training.class_weights", "no", "neg", "pos")
    assert not Path("run/checkpoints").exists()


def tokens(said: Said) -> list[str]:
    """The tokens that `prepare --show --json` gives, row by row."""
    assert said.code == 0, said.stderr
    return [" ".join(example["tokens"]) for example in json.loads(said.stdout)["examples"]]


def test_words_that_other_readers_take_for_missing_are_tokenised_as_text(on_rows: Run) -> None:
    said = on_rows(f"{HEADER}NA,pos\nNone,neg\nnull,pos\nnan,neg\n123,pos\n", options=["--show", "5", "--json"])
    assert [row.replace(" ##", "") for row in tokens(said)] == [
        f"[CLS] {word} [SEP]" for word in ("na", "none", "null", "nan", "123")
    ]


ACCEPTED = {
    "byte order mark": (b"\xef\xbb\xbf" + (HEADER + ROWS).encode(), []),
    "CRLF and blank lines": ((HEADER + "\n" + ROWS).replace("\n", "\r\n").encode(), []),
    "further columns": (b"idx,text,label,note\n7,good film,pos,x\n8,bad film,neg,\n", []),
    "commas and newlines in quotes": (b'text,label\n"good, ""very""\nfilm",pos\nbad,neg\n', []),
    "one empty text": (f"{HEADER}{ROWS},neg\n".encode(), []),
    "labels with leading zeros": (f"{HEADER}a,001\nb,010\n".encode(), [f"{HEADER}c,001\n"]),
    "labels as floats": (f"{HEADER}a,0.0\nb,1.0\n".encode(), [f"{HEADER}c,1\n"]),
    "a class that validation lacks": (f"{HEADER}{ROWS}".encode(), [f"{HEADER}c,pos\n"]),
    "text outside ASCII": (f"{HEADER}caf\u00e9 \U0001f600,pos\nbad,neg\n".encode(), []),
    "one text twice with two labels": (f"{HEADER}film,pos\nfilm,neg\n".encode(), []),
}


@pytest.mark.parametrize(("train", "validation"), ACCEPTED.values(), ids=ACCEPTED)
def test_a_look_alike_is_accepted(on_rows: Run, train: bytes, validation: list[str]) -> None:
    said = on_rows(train, *validation)
    assert said.code == 0, said.stderr


def test_fewer_rows_than_a_batch_are_one_update(on_rows: Run) -> None:
    said = on_rows(HEADER + ROWS, command="train", options=["--json"])
    assert said.code == 0, said.stderr
    assert json.loads(said.stdout)["steps"] == 1
