"""The documents say what is so: commands parse, files exist, the config example is complete and shows the defaults."""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel
from typer.exceptions import TyperException

import finetune_cli
from finetune_cli.cli import app
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.load import load_config
from finetune_cli.errors import ExitCode

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
PROJECT_FILE = re.compile(r"(?<![\w/.])(?:configs|finetune_cli|scripts|tests)/[\w./-]*\w/?")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
HELP = {"-h", "--help", "--version"}

# All that the example has to say besides its defaults.
REQUIRED = "task: classification\nmodel: {name_or_path: distilbert-base-uncased}\ndata: {path: data, text: text}\n"


@dataclass(frozen=True)
class Block:
    """A fenced part of a document."""

    language: str
    text: str


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]


def simple_commands(line: str) -> Iterator[list[str]]:
    """The programs that a shell line starts, each as its words; comments and redirections are left out."""
    reader = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    reader.whitespace_split = True
    words: list[str] = []
    for token in reader:
        if set(token) <= set("|&;"):
            yield words
            words = []
        elif set(token) <= set("<>"):
            next(reader, None)
        else:
            words.append(token)
    yield words


def arguments_of(words: list[str]) -> list[str] | None:
    """What comes after `finetune` or `-m finetune_cli`; None for another program."""
    if words and Path(words[0]).name == "finetune":
        return words[1:]
    if "finetune_cli" in words and words[words.index("finetune_cli") - 1] == "-m":
        return words[words.index("finetune_cli") + 1 :]
    return None


def command_lines(text: str) -> list[str]:
    """Every line that calls finetune: in shell blocks, after the `$` of a transcript, and as inline code."""
    lines = []
    for block in blocks(text):
        if block.language == "sh":
            lines += block.text.splitlines()
        elif block.language == "console":
            lines += [line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ ")]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += re.findall(r"`(finetune \w+ [^`]+)`", prose)
    return [line for line in lines if any(arguments_of(words) for words in simple_commands(line))]


def check_command(line: str) -> None:
    """Raises TyperException for an unknown command, option or value; nothing is run."""
    group: Any = typer.main.get_command(app.app)
    for words in simple_commands(line):
        arguments = arguments_of(words)
        if not arguments or HELP & set(arguments):
            continue
        context = group.make_context("finetune", [])
        name, command, rest = group.resolve_command(context, arguments)
        command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("line", [line for document in DOCUMENTS for line in command_lines(read(document))])
def test_commands_in_the_documents_are_accepted(line: str) -> None:
    check_command(line)


@pytest.mark.parametrize(
    "line",
    [
        "finetune trian configs/mrpc.yaml",
        "cat rows | finetune predict runs/a - --probabilites",
        "torchrun --nproc_per_node 2 -m finetune_cli train c.yaml --processes 2",
        "finetune train c.yaml --num-processes two",
        "finetune evaluate",
    ],
)
def test_a_wrong_command_is_noticed(line: str) -> None:
    assert command_lines(f"```sh\n{line}\n```\n") == [line]
    with pytest.raises(TyperException):
        check_command(line)


def test_the_reader_of_commands_sees_each_way_of_writing_them() -> None:
    text = (
        "```sh\nfinetune prepare a.yaml   # says what it found\nls\ntorchrun -m finetune_cli train a.yaml\n```\n"
        "```console\n$ finetune validate a.yaml\nfinetune is not called here\n```\nType `finetune predict RUN -`.\n"
    )
    assert [next(simple_commands(line))[-2:] for line in command_lines(text)] == [
        ["prepare", "a.yaml"],
        ["train", "a.yaml"],
        ["validate", "a.yaml"],
        ["RUN", "-"],
    ]
    assert list(simple_commands("cat x | finetune evaluate r --gate 'f1>=0.8' > out")) == [
        ["cat", "x"],
        ["finetune", "evaluate", "r", "--gate", "f1>=0.8"],
    ]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_named_in_the_documents_exist(document: str) -> None:
    text = read(document)
    named = {*LINK.findall(text), *PROJECT_FILE.findall(text)}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_readme_shows_every_shipped_config() -> None:
    shipped = {path.name for path in (ROOT / "configs").glob("*.yaml")}
    assert len(shipped) >= 7
    assert shipped - set(re.findall(r"configs/([\w.]+\.yaml)", read("README.md"))) == set()


def config_example() -> str:
    examples = [block.text for block in blocks(read("README.md")) if block.text.startswith("task:")]
    assert len(examples) == 1
    return examples[0]


def test_the_config_example_loads_and_shows_the_defaults(tmp_path: Path) -> None:
    shown, least = tmp_path / "shown.yaml", tmp_path / "least.yaml"
    shown.write_text(config_example(), encoding="utf-8")
    least.write_text(REQUIRED, encoding="utf-8")
    assert load_config(shown) == load_config(least)


def field_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted names of all fields; of a section that is there in any case, those of its fields."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from field_names(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def keys(value: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, item in value.items():
        if isinstance(item, dict) and item:
            yield from keys(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_config_example_has_every_field_in_the_order_of_the_schema() -> None:
    assert list(keys(yaml.safe_load(config_example()))) == list(field_names(RunConfig))


def test_the_table_of_exit_codes_is_complete() -> None:
    section = read("README.md").partition("## Exit codes")[2].partition("\n## ")[0]
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)] == list(ExitCode)


def test_the_commands_of_the_program_are_all_in_the_readme() -> None:
    group: Any = typer.main.get_command(app.app)
    table = read("README.md").partition("## Commands")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `finetune (\w+)", table, re.MULTILINE) == list(group.commands)
    named = {name for document in DOCUMENTS for name in re.findall(r"`finetune (\w+)", read(document))}
    assert named - set(group.commands) - {"COMMAND"} == set()


def test_python_examples_import_what_there_is() -> None:
    examples = [block.text for block in blocks(read("README.md")) if block.language == "python"]
    assert examples
    imports = [node for text in examples for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imports if node.module == "finetune_cli" for alias in node.names}
    assert names
    assert names <= set(finetune_cli.__all__)


def test_the_changelog_has_the_current_version() -> None:
    assert f"## [{finetune_cli.__version__}]" in read("CHANGELOG.md")
