"""Reading the project's documents: their blocks, commands, links, headings and tables."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from finetune_cli.cli import app
from finetune_cli.config.yaml_source import parse_yaml

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("**/*.md"))
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *("scripts/bench/README.md", "finetune_cli/samples/README.md"),
    *PAGES,
]
PROJECT_FILE = re.compile(r"(?<![\w/.-])(?:configs|docs|finetune_cli|scripts|tests)/[\w./-]*\w/?")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
HELP = {"-h", "--help", "--version"}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced part of a document."""

    language: str
    text: str


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(text: str, language: str | None = None) -> list[Block]:
    """The fenced parts, or those of one language."""
    every = [Block(*found) for found in FENCED.findall(text)]
    return [block for block in every if language in (None, block.language)]


def prose(text: str) -> str:
    return FENCED.sub("", text)


def section(text: str, heading: str) -> str:
    """What stands below a heading such as `## Commands`, up to the next one of its level."""
    level = heading.split()[0]
    return text.partition(f"\n{heading}")[2].partition(f"\n{level} ")[0]


def anchors(text: str) -> set[str]:
    """What a link can name after the `#`: each heading as GitHub and MkDocs spell it."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table_rows(text: str) -> list[list[str]]:
    """The cells of every row of every table, headers and rulers included."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


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
    """Every line that calls finetune: in shell blocks, after the `$` of a transcript, in CI jobs, as inline code."""
    lines = []
    for block in blocks(text):
        if block.language == "sh":
            lines += block.text.splitlines()
        elif block.language == "console":
            lines += [line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ ")]
        elif block.language == "yaml":
            lines += re.findall(r"^ *- run: (.*)$", block.text, re.MULTILINE)
    lines += re.findall(r"`(finetune \w+ [^`]+)`", prose(text))
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


def merged(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `top` put in, section by section."""
    both = {key: merged(base[key], top[key]) for key in base.keys() & top.keys() if isinstance(top[key], dict)}
    return base | top | both


def completed(fragment: str, required: str) -> str:
    """A part of a config with what every config needs, as JSON, which is YAML 1.2 too."""
    return json.dumps(merged(parse_yaml(required, "required").data, parse_yaml(fragment, "fragment").data))
