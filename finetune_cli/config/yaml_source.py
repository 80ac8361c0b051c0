"""YAML 1.2 core for configs: plain values, and the line and column of every key and value.

Why not `yaml.safe_load`: PyYAML reads YAML 1.1, where `5e-5` is text, `no` is False, `012` is 10 and `1:30` is 90,
lets the last of two equal keys win, and expands aliases without bound. Here `5e-5` is a number, the others are text,
and duplicate keys, keys that are not text, anchors, aliases, merge keys and tags are mistakes with a position.
After most mistakes the reader goes on, so that all of them can be shown together.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from finetune_cli.config.environment import OPENING, fill
from finetune_cli.config.text import SECRET, SECRET_MESSAGE, hide_secrets, shorten, single_problem
from finetune_cli.errors import ConfigError, Problem

MAX_DEPTH = 32
MAX_DIGITS = 400  # int() refuses more than 4,300, and nobody means so many
KeyPath = tuple[str | int, ...]
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})

_REFUSED = "refused: "  # begins the tag of a node without value; the reason follows
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a source; line and column count from 1 and are None in a `--set`."""

    source: str
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True)
class Spot:
    """The places of a key and its value. text: a scalar as it was written; None for a list or a mapping."""

    key: Place
    value: Place
    text: str | None


@dataclass(frozen=True, slots=True)
class FromEnvironment:
    """A value that variables were filled into.

    text: as a text. other: the same read as YAML reads it without quotes (a number, a flag), or as a text where that
    was done already; for fields that do not take the value as it is. reference: what a message shows. saved: what a
    saved config keeps in its place, when it holds a secret.
    """

    text: str
    other: Any
    reference: str
    saved: str | None


@dataclass(slots=True)
class Document:
    """The values of a config file and their places.

    data: the plain values. spots: key path -> where it stands.
    unusable: key paths whose value was left out of `data` because a problem names it already.
    filled: what came from the environment. sources: the files that were read, the first one's base after it.
    is_whole: whether all of them could be read; otherwise nothing can be said about keys that are not there.
    """

    data: dict[str, Any] = field(default_factory=dict)
    spots: dict[KeyPath, Spot] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unusable: set[KeyPath] = field(default_factory=set)
    filled: dict[KeyPath, FromEnvironment] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    is_whole: bool = True


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
            return ScalarNode(_REFUSED + reason, "", event.start_mark, event.end_mark)  # type: ignore[arg-type]
        if self.depth == MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {MAX_DEPTH} levels", problem_mark=event.start_mark)
        refused = "anchors (&)" if event.anchor else "tags (!)" if event.tag else None
        event.anchor = event.tag = None
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if refused and node is not None:
            node.tag = f"{_REFUSED}{refused} are not read here. Take it out, or quote the text"
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
    _CoreLoader.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})\Z"), list(_first))


def _core_value(text: str) -> Any:
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


def parse_yaml(text: str, source: str, environ: Mapping[str, str] = NO_VARIABLES) -> Document:
    """The keys of a config file's text, variables filled in from `environ`.

    ConfigError, with one problem, when it is not a YAML mapping at all.
    """
    root = _compose(text, source)
    if root is None:
        raise single_problem(source, 1, 1, "the file is empty. Allowed: keys such as `task: mrpc`")
    if not isinstance(root, MappingNode):
        found = "a list" if isinstance(root, SequenceNode) else "a single text"
        mark = root.start_mark
        message = f"the file holds {found}. Allowed: keys such as `task: mrpc`"
        raise single_problem(source, mark.line + 1, mark.column + 1, message)
    reader = _NodeReader(source, environ)
    reader.document.data = reader.value(root, ()) or {}
    return reader.document


def parse_value(text: str, source: str, path: KeyPath, environ: Mapping[str, str] = NO_VARIABLES) -> Document:
    """One value in flow form, as `--set` gives it: it is under its last key in `data`, its spots under `path`."""
    reader = _NodeReader(source, environ, with_lines=False)
    document = reader.document
    document.spots[path] = Spot(Place(source), Place(source), text.strip())
    try:
        root = _compose(text, source)
        if isinstance(root, SequenceNode | MappingNode) and not root.flow_style:
            raise single_problem(source, None, None, "a list is written [a, b] here. Quote a text that has ': ' in it")
    except ConfigError as error:
        key = ".".join(map(str, path))
        document.problems += [Problem(source, None, None, key, problem.message) for problem in error.problems]
        document.unusable.add(path)
        return document
    value = None if root is None else reader.value(root, path)
    if path not in document.unusable:
        document.data[str(path[-1])] = value
    return document


class _NodeReader:
    """Turns YAML nodes into plain values, and keeps their places and problems."""

    def __init__(self, source: str, environ: Mapping[str, str], *, with_lines: bool = True):
        self.source = source
        self.environ = environ
        self.with_lines = with_lines
        self.document = Document()

    def place(self, mark: yaml.Mark) -> Place:
        return Place(self.source, mark.line + 1, mark.column + 1) if self.with_lines else Place(self.source)

    def problem(self, mark: yaml.Mark, path: KeyPath, message: str) -> None:
        place = self.place(mark)
        key = hide_secrets(".".join(map(str, path)))
        self.document.problems.append(Problem(place.source, place.line, place.column, key, message))

    def value(self, node: Node, path: KeyPath) -> Any:
        """The plain value of a node. When it has none, mark `path` as unusable and return None."""
        if node.tag.startswith(_REFUSED):
            self.problem(node.start_mark, path, node.tag.removeprefix(_REFUSED))
            self.document.unusable.add(path)
            return None
        if isinstance(node, ScalarNode):
            return self.scalar(node, path)
        if isinstance(node, SequenceNode):
            return self.sequence(node, path)
        assert isinstance(node, MappingNode)
        return self.mapping(node, path)

    def scalar(self, node: ScalarNode, path: KeyPath) -> Any:
        text = node.value
        if SECRET.search(text):
            self.problem(node.start_mark, path, SECRET_MESSAGE)
            self.document.unusable.add(path)
            return None
        kind = node.tag.removeprefix(_TAG)
        if kind == "str" and OPENING in text:
            return self.filled(node, path)
        if kind == "bool":
            return text.lower() == "true"
        if kind == "null":
            return None
        if kind in ("int", "float"):
            return self.number(node, path, kind)
        return text

    def filled(self, node: ScalarNode, path: KeyPath) -> Any:
        """A text with its variables filled in; a lone one without quotes is read as if its value stood there."""
        try:
            found = fill(node.value, self.environ)
        except ValueError as err:
            self.problem(node.start_mark, path, str(err))
            self.document.unusable.add(path)
            return None
        if found.saved is None and SECRET.search(found.value):
            self.problem(node.start_mark, path, SECRET_MESSAGE)
            self.document.unusable.add(path)
            return None
        value: Any = found.value
        other = _core_value(found.value) if found.is_whole else found.value
        if found.is_whole and node.style is None:
            value, other = other, value
        self.document.filled[path] = FromEnvironment(found.value, other, node.value, found.saved)
        return value

    def number(self, node: ScalarNode, path: KeyPath, kind: str) -> int | float | None:
        text = node.value
        special = text.lstrip("+-").lower() in (".inf", ".nan")
        number: int | float = math.nan
        if len(text) <= MAX_DIGITS and not special:
            number = int(text) if kind == "int" else float(text)
        if math.isfinite(number):
            return number
        what = f"{text} is not a number here" if special else f"{shorten(text)} is too large for a number"
        self.problem(node.start_mark, path, f"{what}. Allowed: a finite number; quote it if it is a text")
        self.document.unusable.add(path)
        return None

    def sequence(self, node: SequenceNode, path: KeyPath) -> list[Any]:
        values = []
        for index, child in enumerate(node.value):
            item = (*path, index)
            text = child.value if isinstance(child, ScalarNode) else None
            self.document.spots[item] = Spot(self.place(child.start_mark), self.place(child.start_mark), text)
            values.append(self.value(child, item))
            if item in self.document.unusable:
                self.document.unusable.add(path)
        return values

    def mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.key(key_node, path, values)
            if key is None:
                continue
            item = (*path, key)
            text = value_node.value if isinstance(value_node, ScalarNode) else None
            self.document.spots[item] = Spot(self.place(key_node.start_mark), self.place(value_node.start_mark), text)
            value = self.value(value_node, item)
            if item not in self.document.unusable:
                values[key] = value
        if node.value and not values and path:
            self.document.unusable.add(path)
        return values

    def key(self, node: Node, path: KeyPath, earlier: dict[str, Any]) -> str | None:
        """The key's text; None, and a problem, for a key that cannot be used."""
        if node.tag.startswith(_REFUSED):
            self.problem(node.start_mark, path, node.tag.removeprefix(_REFUSED))
            return None
        text = node.value if isinstance(node, ScalarNode) else ""
        if node.tag != _TAG + "str":
            found = f"the key {shorten(text)}" if text else "a key"
            message = f"{found} is not text. Allowed: text keys (quote it); class names are given as a list, [no, yes]"
            self.problem(node.start_mark, path, message)
        elif SECRET.search(text):
            self.problem(node.start_mark, path, SECRET_MESSAGE)
        elif text == "<<":
            self.problem(node.start_mark, path, "merge keys (<<) are not read here; write the values out")
        elif (*path, text) in self.document.spots:
            line = self.document.spots[(*path, text)].key.line
            where = f" (first on line {line})" if line else ""
            self.problem(node.start_mark, (*path, text), f"duplicate key{where}. Keep one of them")
        else:
            return text
        return None


def _compose(text: str, source: str) -> Node | None:
    """The root node; None for a file with only comments. ConfigError, with one problem, for broken syntax."""
    try:
        return _CoreLoader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise single_problem(source, line, column, _explain(error, text)) from error
    except yaml.reader.ReaderError as error:
        what = f"the character {chr(error.character)!r}" if isinstance(error.character, int) else "a character"
        raise single_problem(source, 1, 1, f"{what} is in it, which YAML does not take. Take it out") from error


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
