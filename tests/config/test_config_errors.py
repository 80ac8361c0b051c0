"""Bad configs: every mistake at once, each with its place, what is allowed, and what was probably meant."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, ExitCode, Problem

HEAD = "task: mrpc\nmodel: {name_or_path: m}\n"  # a right config in two lines; the cases add from line 3 on
TOKEN = "hf_" + "abcdefghijklmnopqrstuvwxyz01234567"
Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write_config(content: str | bytes) -> Path:
        path = Path("c.yaml")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_config


def mistakes(path: Path, *overrides: str) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert caught.value.exit_code == ExitCode.CONFIG
    return caught.value.problems


def test_five_mistakes_are_all_shown_with_line_and_column(write: Write) -> None:
    path = write(
        "task: mrpc\n"
        "model:\n"
        "  name_or_path: bert-base-uncased\n"
        "training:\n"
        "  lr: 5e-5\n"
        "  batch_size: 0\n"
        "  num_epochs: three\n"
        "evaluation:\n"
        "  metrics: [f1, pearson]\n"
        "sed: 42\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).splitlines() == [
        "c.yaml: 5 mistakes",
        "c.yaml:5:3  training.lr: is called training.learning_rate here",
        "c.yaml:6:15  training.batch_size: 0 is out of range. Allowed: a whole number from 1",
        "c.yaml:7:15  training.num_epochs: 'three' is text. Allowed: a number above 0",
        "c.yaml:9:17  evaluation.metrics.1: pearson is a metric for regression, and this task is classification. "
        "Allowed: accuracy, f1, f1_macro, f1_micro, f1_weighted, matthews, precision, precision_macro, recall, "
        "recall_macro, auroc, log_loss, brier, ece, loss",
        "c.yaml:10:1  sed: unknown key. Allowed: checkpointing, data, evaluation, hub, model, output_dir, seed, sweep, "
        "task, tracking, training. Did you mean seed?",
    ]


def cases(group: str) -> list[Any]:
    """The cases of errors.yaml: (config with its mark, key, parts of the message)."""
    groups = yaml.safe_load((Path(__file__).parent / "errors.yaml").read_text(encoding="utf-8"))
    return [
        pytest.param(case["config"], case["key"], says, id=f"{case['key']}: {says[0][:40]}")
        for case in groups[group]
        for says in [case["says"] if isinstance(case["says"], list) else [case["says"]]]
    ]


@pytest.mark.parametrize(("line", "key", "says"), cases("added_lines"))
def test_a_mistake_says_where_and_what_is_allowed(write: Write, line: str, key: str, says: list[str]) -> None:
    check_the_first_mistake(write, f"{HEAD}{line}\n", key, says)


@pytest.mark.parametrize(("config", "key", "says"), cases("whole_configs"))
def test_a_config_that_is_wrong_as_a_whole(write: Write, config: str, key: str, says: list[str]) -> None:
    check_the_first_mistake(write, config, key, says)


def check_the_first_mistake(write: Write, marked: str, key: str, says: list[str]) -> None:
    before, mark, after = marked.partition("»")
    line, column = (before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1) if mark else (1, 1)
    problem = mistakes(write(before + after if mark else marked))[0]
    assert (problem.source, problem.line, problem.column, problem.key) == ("c.yaml", line, column, key)
    assert [part for part in says if part not in problem.message] == []


def test_an_unknown_task_is_one_mistake_and_not_its_consequences_too(write: Write) -> None:
    (problem,) = mistakes(write("task: nope\nmodel: {name_or_path: m}\nevaluation: {metrics: [pearson]}\n"))
    assert problem.key == "task"


def test_rules_between_fields_are_checked_beside_wrong_types(write: Write) -> None:
    path = write(f"{HEAD}training: {{micro_batch_size: 16, learning_rate: x}}\n")
    assert [problem.key for problem in mistakes(path)] == ["training.micro_batch_size", "training.learning_rate"]


def test_yaml_mistakes_and_schema_mistakes_are_shown_together(write: Write) -> None:
    path = write(f"{HEAD}seed: 1\nseed: 2\noutput_dir: *x\ntraining: {{batch_size: 0}}\n")
    assert [(problem.line, problem.key) for problem in mistakes(path)] == [
        (4, "seed"),
        (5, "output_dir"),
        (6, "training.batch_size"),
    ]


@pytest.mark.parametrize(
    ("content", "line", "column", "message"),
    [
        (b"", 1, 1, "the file is empty"),
        (b"task: mrpc\n\tseed: 1\n", 2, 1, "a tab stands here. Allowed: spaces"),
        ("task: caf\u00e9\n".encode("latin-1"), 1, 10, "byte 0xE9 at offset 9 is not UTF-8"),
        ("task: mrpc\n".encode("utf-16"), 1, 1, "the file is UTF-16 (offset 0)"),
        (b"task: mrpc\nseed: \x00\n", 2, 7, "a NUL byte at offset 17"),
        (b"- task\n", 1, 1, "the file holds a list"),
        (b"a: 1\n---\nb: 1\n", 2, 1, "One config a file"),
        (b"x" * 1_000_001, None, None, "larger than 1,000,000 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_mistake(
    write: Write, content: bytes, line: int | None, column: int | None, message: str
) -> None:
    (problem,) = mistakes(write(content))
    assert (problem.line, problem.column) == (line, column)
    assert message in problem.message


def test_a_missing_file_offers_the_one_that_was_meant(write: Write) -> None:
    write(HEAD).rename("mrpc.yaml")
    (problem,) = mistakes(Path("mprc.yaml"))
    assert str(problem) == "mprc.yaml  no such file. Did you mean mrpc.yaml?"


def test_a_directory_a_pipe_and_a_bad_parent_are_no_configs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    assert "is a directory" in mistakes(tmp_path)[0].message
    assert "is not a regular file" in mistakes(tmp_path / "pipe")[0].message
    assert "cannot be read" in mistakes(tmp_path / "file" / "c.yaml")[0].message


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_an_unreadable_file_says_why(write: Write) -> None:
    path = write(HEAD)
    path.chmod(0)
    assert "cannot be read (Permission denied)" in mistakes(path)[0].message


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("training.lr=1", "--set training.lr=1  training.lr: is called training.learning_rate here"),
        ("training.batch_size=0", "0 is out of range. Allowed: a whole number from 1"),
        (
            "seed",
            "--set seed  not of the form key=value. Allowed: a dotted key and a value, such as training.batch_size=16",
        ),
        ("=3", "not of the form key=value"),
        ("a..b=3", "not of the form key=value"),
        ("data.text=a: b", "data.text: a list is written [a, b] here. Quote a text that has ': ' in it"),
        ("data.text=[a", "data.text: not YAML: expected ',' or ']'"),
        ("data.path=*.csv", "data.path: not YAML: expected alphabetic or numeric character"),
        ("model.name_or_path=", "model.name_or_path: is missing"),
        ("seed=.nan", "seed: .nan is not a number here"),
    ],
)
def test_a_wrong_set_is_named_as_it_was_typed(write: Write, override: str, line: str) -> None:
    (problem,) = mistakes(write(HEAD), override)
    assert line in str(problem)
    assert str(problem).startswith(f"--set {override}")


def test_an_item_of_a_list_cannot_be_set(write: Write) -> None:
    (problem,) = mistakes(write(f"{HEAD}data: {{text: [a, b]}}\n"), "data.text.0=c")
    assert problem.message == "data.text is a list. Give the whole list, such as [a, b]"


def test_mistakes_of_the_file_come_before_those_of_set_in_their_order(write: Write) -> None:
    path = write(f"{HEAD}b: 1\na: 1\n")
    sources = [str(problem).split("  ")[0] for problem in mistakes(path, "z=1", "seed=x", "y=1")]
    assert sources == ["c.yaml:3:1", "c.yaml:4:1", "--set z=1", "--set seed=x", "--set y=1"]


def test_set_mends_a_mistake_of_the_file(write: Write) -> None:
    assert load_config(write(f"{HEAD}seed: x\n"), ["seed=3"]).seed == 3


@pytest.mark.parametrize(
    "line",
    [
        f"output_dir: {TOKEN}",
        f"hub_token: {TOKEN}",
        f"{TOKEN}: 1",
        f"data: {{labels: [a, {TOKEN}]}}",
        f"training: {{trainer_args: {{optim_args: 'token={TOKEN}'}}}}",
        "data: {path: 'https://me:pass" + "word@host/x.csv'}",
        f"seed: [{TOKEN}",
        f"training: {{class_weights: {{{TOKEN}: 1}}}}",
    ],
)
def test_a_secret_is_refused_and_never_repeated(write: Write, line: str) -> None:
    path = write(f"{HEAD}{line}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert TOKEN not in str(caught.value)
    assert "me:password" not in str(caught.value)


def test_a_secret_on_the_command_line_is_not_repeated(write: Write) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(HEAD), [f"model.revision={TOKEN}"])
    assert (
        str(caught.value)
        .splitlines()[1]
        .startswith("--set model.revision=<hidden>  model.revision: this looks like a token")
    )
    assert TOKEN not in str(caught.value)


def test_long_values_are_shortened(write: Write) -> None:
    (problem,) = mistakes(write(f"{HEAD}seed: {'x' * 500}\n"))
    assert len(problem.message) < 150
