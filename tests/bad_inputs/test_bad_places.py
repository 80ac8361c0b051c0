"""Places, options and rows that train, evaluate and predict refuse, leaving every file as it was."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_cli.runs.run_dir import RunDir
from tests.bad_inputs.in_process import Said, files, finetune, refused

ROWS = b'{"sentence": "good film"}\n{"sentence": null}\nnot json\n{"sentence": "bad film"}\n'


@pytest.fixture
def work(tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with config.yaml, data/ and run/ of its own, all copies of the finished run's."""
    for name in ("data", "run"):
        shutil.copytree(finished / name, tmp_path / name)
    shutil.copy(finished / "config.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(*options: str) -> Said:
    return finetune("train", "config.yaml", "--output-dir", "run", *options)


TRAIN = {
    "another seed": (
        ["-s", "seed=7"],
        2,
        "run holds a run with another config",
        "seed: 42 there, 7 now",
        "--overwrite",
    ),
    "another section": (["-s", "training.num_epochs=2"], 2, "training.num_epochs: 1.0 there, 2.0 now"),
    "output in a file": (["--output-dir", "config.yaml"], 2, "output_dir: config.yaml is not a directory."),
    "output below a file": (["--output-dir", "config.yaml/x"], 2, "Not a directory. Choose another directory with"),
    "output in /proc": (["--output-dir", "/proc/x"], 2, "output_dir: cannot write in /proc/x: No such file"),
    "no such checkpoint": (["--resume", "nope"], 5, "The checkpoint nope cannot be used: there is no such directory."),
    "a model as checkpoint": (["--resume", "run/model"], 5, "run/model cannot be used: no manifest.json. Expected"),
}


@pytest.mark.parametrize("case", TRAIN.values(), ids=TRAIN)
def test_train_refuses_and_leaves_the_run_as_it_was(work: Path, case: tuple) -> None:
    options, code, *messages = case
    before = files(work / "run")
    refused(train(*options), code, *messages)
    after = files(work / "run")
    lock = RunDir("run").lock.name
    assert {name: after[name] for name in after if name != lock} == {n: before[n] for n in before if n != lock}


def test_train_refuses_a_finished_run_when_rows_have_changed(work: Path, finished: Path) -> None:
    for config in (work / "config.yaml", work / "run" / "config.yaml"):  # the run as it were trained on work/data
        config.write_text(config.read_text(encoding="utf-8").replace(str(finished), str(work)), encoding="utf-8")
    unchanged = train()
    assert unchanged.code == 0, unchanged.stderr
    rows = work / "data" / "train.jsonl"
    rows.write_text(rows.read_text(encoding="utf-8").replace("good", "great"), encoding="utf-8")
    before = files(work / "run" / "model"), (work / "run" / "run.json").read_bytes()
    refused(train(), 2, "run holds a run with another config or other data", "the rows, the tokenizer or the way")
    assert (files(work / "run" / "model"), (work / "run" / "run.json").read_bytes()) == before


def test_overwrite_does_not_delete_the_checkpoint_to_resume_from(work: Path) -> None:
    checkpoint = next((work / "run" / "checkpoints").iterdir())
    refused(train("--overwrite", "--resume", str(checkpoint)), 2, "--overwrite would delete", "Drop one.")
    assert checkpoint.is_dir()
    assert (work / "run" / "model").is_dir()


def test_a_resume_that_fails_leaves_no_config_behind(work: Path) -> None:
    refused(finetune("train", "config.yaml", "--output-dir", "new", "--resume", "nope"), 5, "--resume auto takes the")
    assert not (work / "new" / "config.yaml").exists()


def test_a_finished_run_is_not_trained_again_and_says_so(work: Path) -> None:
    before = files(work / "run" / "model")
    said = train()
    assert said.code == 0, said.stderr
    assert "Finished before, after 3 updates; nothing was trained." in said.stdout
    assert files(work / "run" / "model") == before


EVALUATE = {
    "before train": (["config.yaml", "--output-dir", "never"], 5, "never has no finished model yet. Train it first"),
    "an empty directory": (["empty"], 5, "empty is neither a run (no config.yaml) nor a model (no config.json)"),
    "a missing directory": (["no/such/place"], 5, "CONFIG|RUN|MODEL: there is no directory 'no/such/place'"),
    "a model without data": (["run/model"], 2, "is a model without a config", "--data FILE"),
    "--set for a model": (["run/model", "-s", "seed=1"], 2, "--set changes a config", "name a run"),
    "--output-dir for a run": (["run", "--output-dir", "x"], 2, "--output-dir goes with a config"),
    "unknown --set": (["run", "-s", "sed=1"], 2, "--set sed=1  sed: unknown key", "Did you mean seed?"),
    "unknown split": (["run", "--split", "nope"], 3, "There is no split 'nope', only: train, validation"),
    "split without labels": (["run", "--split", "test"], 3, "'test' has no labels", "finetune predict"),
    "gate without a bound": (["run", "--gate", "f1"], 2, "--gate 'f1': expected METRIC>=NUMBER, such as 'f1>=0.88'"),
    "gate with a wrong sign": (["run", "--gate", "f1=>1"], 2, "--gate 'f1=>1': expected METRIC>=NUMBER"),
    "gate on a word": (["run", "--gate", "f1>=high"], 2, "--gate 'f1>=high': expected METRIC>=NUMBER"),
    "gate on two points": (["run", "--gate", "f1>=1.2.3"], 2, "'1.2.3' is not a number"),
    "gate on what is not computed": (
        ["run", "--gate", "auroc>=0.5"],
        2,
        "'auroc' was not computed, only: accuracy, f1",
    ),
    "gate on an unknown end": (["run", "--gate", "f1.mid>=0.5"], 2, "an interval's ends are .low and .high."),
    "missing file": (["run", "--data", "none.csv"], 3, "none.csv does not exist. Expected a data file."),
    "directory for a file": (["run", "--data", "data"], 3, "data is a directory"),
    "file of another column": (
        ["run", "--data", "text.csv"],
        3,
        "expected the column 'sentence'; found 'text', 'label'",
    ),
    "file without labels": (["run", "--data", "plain.csv"], 3, "expected the column 'label'; found 'sentence'"),
    "file with a new label": (["run", "--data", "new.csv"], 3, "unknown label '7' in row 1. The classes are: negative"),
}


@pytest.fixture
def rows(work: Path) -> Path:
    """Files of rows in the working directory; none of them fits in full, except good.csv."""
    contents = {
        "text.csv": "text,label\na,0\n",
        "plain.csv": "sentence\na\n",
        "new.csv": "sentence,label\na,7\n",
        "good.csv": "sentence,label\ngood film,1\nbad film,negative\n",
        "data/test.jsonl": '{"sentence": "a", "label": -1}\n',
        "odd.csv": "foo,bar\na,b\n",
        "ragged.csv": "sentence\ngood\na,b\nbad\n",
        "header.csv": "sentence\n",
        "empty.csv": "",
        "notes.txt": "good film\n",
    }
    for name, content in contents.items():
        (work / name).write_text(content, encoding="utf-8")
    (work / "empty").mkdir()
    return work


@pytest.mark.parametrize("case", EVALUATE.values(), ids=EVALUATE)
def test_evaluate_refuses_and_leaves_the_model_as_it_was(rows: Path, case: tuple) -> None:
    (target, *arguments), code, *messages = case
    before = files(rows / "run" / "model")
    local = ["-s", f"data.path={rows / 'data'}"] if target == "run" and "--split" in arguments else []
    refused(finetune("evaluate", target, *arguments, *local), code, *messages)
    assert files(rows / "run" / "model") == before


def test_a_failed_gate_returns_4_after_the_whole_report(rows: Path) -> None:
    said = finetune("evaluate", "run", "--gate", "accuracy>=0", "--gate", "loss<=0", "--json")
    assert (said.code, json.loads(said.stdout)["n"]) == (4, 12)
    assert "Gate failed on validation (12 rows):\n  loss<=0: found " in said.stderr
    assert "accuracy>=0:" not in said.stderr
    assert "Traceback" not in said.stderr


def test_a_labelled_file_with_names_and_numbers_is_scored(rows: Path) -> None:
    said = finetune("evaluate", "run", "--data", "good.csv", "--gate", "loss>=0", "--json")
    assert (said.code, json.loads(said.stdout)["n"]) == (0, 2), said.stderr


PREDICT = {
    "nothing to label": ([], 2, "expected one of a file, - for standard input, and --text; found nothing"),
    "two things to label": (["good.csv", "--text", "a"], 2, "found good.csv and --text"),
    "too few second texts": (["--text", "a", "--text", "b", "--text-pair", "c"], 2, "one for each --text (2), found 1"),
    "a pair for one text": (
        ["--text", "a", "--text-pair", "b"],
        3,
        "this model takes one text",
        "Leave out --text-pair.",
    ),
    "missing file": (["none.csv"], 3, "none.csv does not exist"),
    "directory for a file": (["data"], 3, "data is a directory, not a file"),
    "unknown ending": (["config.yaml"], 3, "config.yaml: cannot tell its format. Expected a name that ends in .jsonl"),
    "unknown ending of the output": (["good.csv", "-o", "o.xlsx"], 2, ".xlsx is no form of predictions", ".parquet"),
    "empty file": (["empty.csv"], 3, "empty.csv is empty. Expected a line of column names"),
    "no rows": (["header.csv"], 3, "header.csv has column names (sentence) but no rows"),
    "another column": (["text.csv"], 3, "text.csv: expected the column 'sentence'; found 'text', 'label'"),
    "ragged row": (["ragged.csv", "-o", "out.csv"], 3, "ragged.csv, line 3: expected 1 fields", "--on-bad-row skip"),
    "empty standard input": (["-"], 3, "standard input has no rows. Expected JSON Lines or one text per line."),
    "parquet on stdout": (["--text", "a", "--format", "parquet"], 2, "--format parquet needs a file: name one with -o"),
    "output in a missing directory": (
        ["good.csv", "-o", "no/out.csv"],
        2,
        "-o no/out.csv: ",
        "There is no directory no.",
    ),
    "output in a directory": (["good.csv", "-o", "data"], 2, "-o data: cannot write it: Is a directory."),
    "output below a file": (["good.csv", "-o", "good.csv/out.csv"], 2, "-o good.csv/out.csv: ", "Not a directory"),
    "the input as output": (["good.csv", "-o", "good.csv"], 2, "is the file that is labelled"),
}


@pytest.mark.parametrize("case", PREDICT.values(), ids=PREDICT)
def test_predict_refuses_and_writes_nothing(rows: Path, case: tuple) -> None:
    arguments, code, *messages = case
    before = sorted(rows.rglob("*"))
    refused(finetune("predict", "run", *arguments), code, *messages)
    assert [path for path in sorted(rows.rglob("*")) if path not in before and "finetune-cache" not in str(path)] == []


def test_a_model_alone_needs_a_usual_column(rows: Path) -> None:
    said = finetune("predict", "run/model", "odd.csv")
    refused(said, 2, "comes without a config", "sentence1 + sentence2", "found foo, bar", "name the run")


def test_a_bad_row_stops_an_existing_output_from_being_replaced(rows: Path) -> None:
    Path("out.jsonl").write_text("kept\n", encoding="utf-8")
    refused(finetune("predict", "run", "-", "-o", "out.jsonl", stdin=ROWS), 3, "standard input, row 2", "found null")
    assert Path("out.jsonl").read_text(encoding="utf-8") == "kept\n"
    assert list(rows.glob(".out*")) == []


def answers(stdout: str) -> list[tuple[int, bool]]:
    """(id, whether there is a prediction) of each line."""
    return [(row["id"], row["prediction"] is not None) for row in map(json.loads, stdout.splitlines())]


@pytest.mark.parametrize(
    ("choice", "code", "found"),
    [
        ("error", 3, [(0, True)]),
        ("skip", 0, [(0, True), (3, True)]),
        ("null", 0, [(0, True), (1, False), (2, False), (3, True)]),
    ],
)
def test_on_bad_row_decides_about_rows_that_cannot_be_used(
    work: Path, choice: str, code: int, found: list[tuple[int, bool]]
) -> None:
    said = finetune("predict", "run", "-", "--on-bad-row", choice, stdin=ROWS)
    assert (said.code, answers(said.stdout)) == (code, found), said.stderr
    assert "standard input, row 2: expected text in column 'sentence', found null" in said.stderr
    assert ("line 3: expected one JSON object per line" in said.stderr) == (choice != "error")


def test_the_real_process_answers_and_refuses_on_standard_input(
    work: Path, run_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run_cli(["predict", "run", "-"], stdin=ROWS.decode())
    assert (done.returncode, answers(done.stdout)) == (3, [(0, True)])
    assert done.stderr.startswith("error: standard input, row 2: ")


@pytest.mark.parametrize(
    "stdin",
    [
        b"NA\nNone\nnull\n",
        b"\n\ngood film\n",
        b'{"sentence": ""}\n{"sentence": "NA"}\n{"sentence": "null", "more": [1]}\n',
        b"\xef\xbb\xbfgood\r\nbad\r\ncaf\xc3\xa9\r\n",
        b"good\nbad\nno newline at the end",
        b"x\n" + b"long " * 5000 + b"\ny\n",
    ],
    ids=["words for missing", "empty lines", "JSON with empty text", "byte order mark and CRLF", "no newline", "long"],
)
def test_odd_rows_on_standard_input_are_answered_one_by_one(work: Path, stdin: bytes) -> None:
    said = finetune("predict", "run", "-", stdin=stdin)
    assert (said.code, answers(said.stdout)) == (0, [(0, True), (1, True), (2, True)]), said.stderr


def test_a_run_directory_named_by_a_number_is_a_text(work: Path) -> None:
    (work / "run").rename(work / "2024")
    said = finetune("evaluate", "config.yaml", "--output-dir", "2024", "--json")
    assert said.code == 0, said.stderr
