"""YAML 1.2 core: the nodes of a text, and what a plain scalar is.

Why not `yaml.safe_load`: PyYAML reads YAML 1.1, where `5e-5` is text, `no` is False, `012` is 10 and `1:30` is 90,
lets the last of two equal keys win, and expands aliases without bound. Here `5e-5` is a number and the others are text.
Anchors, aliases and tags become nodes whose tag says why they are refused, so that the reader can go on.
"""

import math
import re
from typing import Any

import yaml
from yaml.nodes import Node, ScalarNode

from finetune_cli.config.text import shorten, single_problem

MAX_DEPTH = 32
MAX_DIGITS = 400  # int() refuses more than 4,300, and nobody means so many
REFUSED = "refused: "  # begins the tag of a node without value; the reason follows
TAG = "tag:yaml.org,2002:"


class _CoreLoader(yaml.SafeLoader):
    """Composes nodes by the YAML 1.2 core schema. A subclass: the global SafeLoader stays as it is."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - PyYAML's own registry, filled below

    def __init__(self, text: str):
        super().__init__(text)
        self.depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            self.get_event()
            reason = "aliases (*) are not read here. Repeat the value, or quote the text"
            # the stubs allow the C parser's marks, which this pure-Python loader does not make
            return ScalarNode(REFUSED + reason, "", event.start_mark, event.end_mark)  # type: ignore[arg-type]
        if self.depth == MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=event.start_mark)
        refused = "anchors (&)" if event.anchor else "tags (!)" if event.tag else None
        event.anchor = event.tag = None
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if refused and node is not None:
            node.tag = f"{REFUSED}{refused} are not read here. Take it out, or quote the text"
        return node


_CORE_SCHEMA = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
)
for _name, _pattern, _first in _CORE_SCHEMA:
    _CoreLoader.add_implicit_resolver(TAG + _name, re.compile(rf"^(?:{_pattern})\Z"), list(_first))


def core_value(text: str) -> Any:
    """What a text is without quotes: a number or a flag where it is written like one; never null, never nan or inf."""
    kind = next((name for name, pattern, _ in _CORE_SCHEMA if text and re.fullmatch(pattern, text)), "str")
    if kind == "bool":
        return text.lower() == "true"
    if kind in ("int", "float") and len(text) <= MAX_DIGITS:
        number = int(text) if kind == "int" else float(text.replace(".inf", "inf").replace(".nan", "nan"))
        return number if math.isfinite(number) else text
    return text


def is_plain_text(text: str) -> bool:
    """Whether `text`, written without quotes, is read back as text and not as a number, a flag or null."""
    return not any(re.fullmatch(pattern, text) for _, pattern, _ in _CORE_SCHEMA)


def compose(text: str, source: str) -> Node | None:
    """The root node; None for a file with only comments. ConfigError, with one problem, for broken syntax."""
    try:
        return _CoreLoader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise single_problem(source, _explain(error, text), line, column) from error
    except yaml.reader.ReaderError as error:
        what = f"the character {chr(error.character)!r}" if isinstance(error.character, int) else "a character"
        raise single_problem(source, f"{what} is in it, which YAML does not take. Take it out", 1, 1) from error


_HINTS = (
    ("cannot start any token", "Quote a text that begins with this character"),
    ("mapping values are not allowed", "Quote a text that has ': ' in it, and check the indentation"),
    ("could not find expected ':'", "Each line is `key: value`; is a colon or the space after it missing"),
    ("expected <block end>", "Check the indentation: keys of one section begin in one column"),
    ("expected alphabetic or numeric", "Quote a text that begins with * or &"),
    ("expected a single document", "One config a file: take out the line `---` between the two"),
    ("unknown escape", "Inside double quotes a backslash is special: use single quotes"),
    ("nested deeper", "A config needs three"),
    ("expected ',' or", "A bracket or a comma is missing"),
    ("while scanning a quoted", "A closing quote is missing"),
    ("while scanning a directive", "Quote a text that begins with %"),
)


def _explain(error: yaml.MarkedYAMLError, text: str) -> str:
    """The parser's message in one line, and what to do about it."""
    parser_message = f"{error.context or ''} {error.problem or ''}"
    mark = error.problem_mark
    line = text.split("\n")[mark.line] if mark and mark.line <= text.count("\n") else ""
    if mark and "\t" in (line[: mark.column + 1]):
        return "a tab stands here. Allowed: spaces; indent each level by two"
    beginning = ""
    if error.context_mark and mark and error.context_mark.line != mark.line:
        beginning = f" (what began on line {error.context_mark.line + 1})"
    hint = next((f". {hint}" for sign, hint in _HINTS if sign in parser_message), "")
    return f"not YAML: {shorten(error.problem or parser_message, 100)}{beginning}{hint}"
