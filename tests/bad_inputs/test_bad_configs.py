"""Config files and command lines that are refused, and their look-alikes that are not."""

import re
from pathlib import Path
from shlex import quote

import pytest

from tests.bad_inputs.in_process import finetune, refused

GOOD = "task: sst2\nmodel: {name_or_path: m}\n"  # the cases add from line 3 on
BOMB = "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

BAD_FILES = {
    "empty file": (b"", "c.yaml:1:1  the file is empty. Allowed: keys such as `task: mrpc`"),
    "only comments": (b"# task: mrpc\n", "c.yaml:1:1  the file is empty"),
    "a list at the top": (b"- task: mrpc\n", "c.yaml:1:1  the file holds a list"),
    "a text at the top": (b"task mrpc\n", "c.yaml:1:1  the file holds"),
    "two documents": (b"task: sst2\n---\ntask: mrpc\n", "c.yaml:2:1  "),
    "unclosed bracket": (b"task: [sst2\n", "c.yaml:2:1  not YAML: "),
    "tab indentation": (b"task: sst2\nmodel:\n\tname_or_path: m\n", "c.yaml:3:1  a tab stands here. Allowed: spaces"),
    "latin-1": (GOOD.encode() + "output_dir: caf\u00e9\n".encode("latin-1"), "c.yaml:3:16  byte 0xE9 at offset 51"),
    "utf-16": (GOOD.encode("utf-16"), "c.yaml:1:1  the file is UTF-16 (offset 0). Allowed: UTF-8"),
    "NUL byte": (GOOD.encode() + b"seed: \0\n", "c.yaml:3:7  a NUL byte at offset 42"),
    "two megabytes": (b"x" * 2_000_000, "c.yaml  larger than 1,000,000 bytes"),
    "deep nesting": (b"task: " + b"[" * 3000 + b"]" * 3000, "nested deeper than 32 levels"),
    "alias bomb": (f"a: &a [x]\n{BOMB}".encode(), "c.yaml:2:4  b: anchors (&) are not read here"),
    "merge key": (f"{GOOD}training: {{<<: {{seed: 1}}}}\n".encode(), "c.yaml:3:12  training: merge keys (<<) are not"),
    "merge of itself": (f"{GOOD}training: &t\n  <<: *t\n".encode(), "c.yaml:3:11  training: anchors (&) are not read"),
    "python tag": (
        b"task: !!python/object/apply:os.system [touch hacked]\n",
        "c.yaml:1:7  task: tags (!) are not read",
    ),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_config_is_refused_at_its_place(here: Path, content: bytes, message: str) -> None:
    Path("c.yaml").write_bytes(content)
    refused(finetune("train", "c.yaml"), 2, message)
    assert [path.name for path in here.iterdir()] == ["c.yaml"]


BAD_LINES = {
    "unknown key": ("trainig: {num_epochs: 1}", "c.yaml:3:1  trainig: unknown key. ", "Did you mean training?"),
    "misplaced key": (
        "learning_rate: 5e-5",
        "c.yaml:3:1  ",
        "does not belong at the top. Write training.learning_rate",
    ),
    "Hugging Face name": ("training: {num_train_epochs: 3}", "c.yaml:3:12  ", "is called training.num_epochs here"),
    "wrong type": ("training: {batch_size: many}", "c.yaml:3:24  ", "'many' is text. Allowed: a whole number from 1"),
    "a comma in a number": ("training: {learning_rate: '1,5'}", "c.yaml:3:27  ", "a decimal point, not a comma"),
    "a flag for a number": ("training: {num_epochs: true}", "c.yaml:3:24  ", "true is a flag"),
    "zero rows": ("training: {batch_size: 0}", "c.yaml:3:24  ", "0 is out of range. Allowed: a whole number from 1"),
    "negative rate": (
        "training: {learning_rate: -1}",
        "c.yaml:3:27  ",
        "-1 is out of range. Allowed: a number above 0",
    ),
    "nan": ("training: {weight_decay: .nan}", "c.yaml:3:26  ", ".nan is not a number here"),
    "inf": ("training: {learning_rate: .inf}", "c.yaml:3:27  ", ".inf is not a number here"),
    "octal": ("seed: 010", "c.yaml:3:7  ", "no leading zero. Write 10."),
    "duplicate key": ("seed: 1\nseed: 2", "c.yaml:4:1  seed: duplicate key (first on line 3)"),
    "duplicate nested key": ("data: {label: a, label: b}", "c.yaml:3:18  data.label: duplicate key (first on line 3)"),
    "unknown metric": ("evaluation: {metrics: [acuracy]}", "c.yaml:3:24  ", "Did you mean accuracy?"),
    "metric of another task": (
        "evaluation: {metrics: [pearson]}",
        "c.yaml:3:24  ",
        "pearson is a metric for regression",
    ),
    "best metric not computed": ("evaluation: {metric_for_best: auroc}", "c.yaml:3:31  ", "'auroc' is not among"),
    "unknown sample": (
        "data: {path: builtin:nope}",
        "c.yaml:3:14  ",
        "'builtin:nope' is not a sample. Allowed: builtin:",
    ),
    "empty output_dir": ("output_dir: ''", "c.yaml:3:13  output_dir: found an empty text"),
}


@pytest.mark.parametrize("case", BAD_LINES.values(), ids=BAD_LINES)
def test_a_wrong_line_is_refused_with_its_place_and_what_is_allowed(here: Path, case: tuple[str, ...]) -> None:
    line, *fragments = case
    Path("c.yaml").write_text(f"{GOOD}{line}\n", encoding="utf-8")
    refused(finetune("validate", "c.yaml"), 2, *fragments)
    refused(finetune("train", "c.yaml"), 2, *fragments)
    assert [path.name for path in here.iterdir()] == ["c.yaml"]


BAD_COMMAND_LINES = {
    "no such file": (["train", "d.yaml"], "d.yaml  no such file. Did you mean c.yaml?"),
    "no such file, and none like it": (
        ["train", "reviews-of-2025.yaml"],
        "no such file. Make a config for your data: finetune init DATA -o reviews-of-2025.yaml",
    ),
    "no such file, called like data": (["validate", "reviews.csv"], "Make a config for your data: finetune init DATA"),
    "a directory": (["validate", "."], ".  is a directory. Allowed: a YAML file. For data in it, make a config: fine"),
    "--set without value": (["train", "c.yaml", "-s", "seed"], "--set seed  not of the form key=value"),
    "--set of an unknown key": (
        ["train", "c.yaml", "-s", "trainig.lr=1"],
        "--set trainig.lr=1  ",
        "Did you mean training?",
    ),
    "--set of a wrong value": (["train", "c.yaml", "-s", "seed=one"], "--set seed=one  seed: 'one' is text"),
    "empty --output-dir": (["train", "c.yaml", "--output-dir", ""], "output_dir: found an empty text"),
    "empty --output-dir of evaluate": (["evaluate", "c.yaml", "--output-dir", ""], "output_dir: found an empty text"),
    "no config": (["train"], "Missing argument 'CONFIG'", "See: finetune train --help"),
    "two configs": (["train", "c.yaml", "d.yaml"], "d.yaml", "See: finetune train --help"),
    "unknown command": (["trian", "c.yaml"], "No such command 'trian'. Did you mean 'train'?"),
    "unknown option": (["train", "c.yaml", "--overwite"], "No such option: --overwite. Did you mean --overwrite"),
    "no processes": (["train", "c.yaml", "--num-processes", "0"], "'--num-processes': Input should be greater than or"),
    "processes in words": (["train", "c.yaml", "--num-processes", "two"], "'--num-processes': Input should be a valid"),
    "unknown format": (["predict", "run", "--text", "a", "--format", "xml"], "'--format': 'xml' is not one of 'jsonl'"),
    "unknown answer to bad rows": (
        ["predict", "run", "-", "--on-bad-row", "ask"],
        "'ask' is not one of 'error', 'skip'",
    ),
    "negative --show": (["prepare", "c.yaml", "--show", "-1"], "'--show': Input should be greater than or equal to 0"),
}


@pytest.mark.parametrize("case", BAD_COMMAND_LINES.values(), ids=BAD_COMMAND_LINES)
def test_a_wrong_command_line_says_what_to_type(here: Path, case: tuple[list[str], *tuple[str, ...]]) -> None:
    arguments, *fragments = case
    Path("c.yaml").write_text(GOOD, encoding="utf-8")
    refused(finetune(*arguments), 2, *fragments)
    assert [path.name for path in here.iterdir()] == ["c.yaml"]


@pytest.mark.parametrize("name", ["my reviews.csv", "a.tsv", "a.jsonl", "a.csv.gz", "a.parquet", "a.txt"])
@pytest.mark.parametrize("verb", ["train", "prepare", "validate"])
def test_data_in_the_place_of_a_config_are_told_to_init(here: Path, name: str, verb: str) -> None:
    Path(name).write_text("text,label\ngood,1\n", encoding="utf-8")
    refused(finetune(verb, name), 2, f"{name}  is data, not a config. Make a config of it: finetune init {quote(name)}")


def test_a_run_in_the_place_of_a_config_shows_its_own(here: Path) -> None:
    Path("runs").mkdir()
    Path("runs/config.yaml").write_text(GOOD, encoding="utf-8")
    refused(finetune("train", "runs"), 2, "is a directory. Allowed: a YAML file, such as runs/config.yaml")


def test_all_mistakes_of_a_file_are_shown_at_once_in_order(here: Path) -> None:
    Path("c.yaml").write_text(f"{GOOD}sed: 1\nseed: x\ntraining: {{lr: 1, batch_size: 0}}\n", encoding="utf-8")
    said = finetune("train", "c.yaml", "-s", "data.label=1")
    refused(said, 2, "c.yaml: 5 mistakes")
    assert re.findall(r"^(\S+:\d+:\d+|--set \S+)", said.stderr, re.MULTILINE) == [
        "c.yaml:3:1",
        "c.yaml:4:7",
        "c.yaml:5:12",
        "c.yaml:5:31",
        "--set data.label=1",
    ]


ACCEPTED = {
    "byte order mark": b"\xef\xbb\xbf" + GOOD.encode(),
    "CRLF": GOOD.replace("\n", "\r\n").encode(),
    "no newline at the end": GOOD.strip().encode(),
    "a start of document": f"---\n{GOOD}".encode(),
    "words that YAML 1.1 took for flags": f"{GOOD}data: {{labels: [no, yes]}}\noutput_dir: on\n".encode(),
    "numbers that YAML 1.1 took for text": f"{GOOD}training: {{learning_rate: 5e-5}}\n".encode(),
    "a quoted number as a name": f'{GOOD}data: {{label: "1"}}\n'.encode(),
    "text with & and *": f"{GOOD}output_dir: 'runs/&a*'\n".encode(),
    "text outside ASCII": f"{GOOD}output_dir: caf\u00e9\n".encode(),
}


@pytest.mark.parametrize("content", ACCEPTED.values(), ids=ACCEPTED)
def test_a_look_alike_is_accepted(content: bytes) -> None:
    Path("c.yaml").write_bytes(content)
    said = finetune("validate", "c.yaml")
    assert (said.code, said.stdout, said.stderr) == (0, "c.yaml is valid.\n", "")
