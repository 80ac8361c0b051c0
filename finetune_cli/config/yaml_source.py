"""A config's text as plain values, and the line and column of every key and value.

Duplicate keys, keys that are not text, anchors, aliases, merge keys and tags are mistakes with a position. After most
mistakes the reader goes on, so that all of them can be shown together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from finetune_cli.config.environment import OPENING, fill
from finetune_cli.config.text import SECRET, SECRET_MESSAGE, hide_secrets, shorten, single_problem
from finetune_cli.config.yaml_core import REFUSED, TAG, compose, core_value
from finetune_cli.errors import ConfigError, Problem

KeyPath = tuple[str | int, ...]
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a source; line and column count from 1 and are None in a `--set`."""

    source: str
    line: int | None = None
    column: int | None = None

    def problem(self, key: str, message: str) -> Problem:
        return Problem(self.source, self.line, self.column, key, message)


@dataclass(frozen=True, slots=True)
class Spot:
    """The places of a key and its value. text: a scalar as it was written; None for a list or a mapping."""

    key: Place
    value: Place
    text: str | None


@dataclass(frozen=True, slots=True)
class FromEnvironment:
    """A value that variables were filled into.

    text: as a text. alternative: the same read as YAML reads it without quotes (a number, a flag), or as a text where
    that was done already; for fields that do not take the value as it is. reference: what a message shows. saved: what
    a saved config keeps in its place, when it holds a secret.
    """

    text: str
    alternative: Any
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

    def take(self, other: Self) -> None:
        """Add what another document says of its keys, problems included."""
        self.spots |= other.spots
        self.unusable |= other.unusable
        self.filled |= other.filled
        self.problems += other.problems

    def forget(self, path: KeyPath) -> None:
        """Drop what is known of a key and of everything below it; its value stays in `data`."""
        for facts in (self.spots, self.filled):
            for below in [key for key in facts if key[: len(path)] == path]:
                del facts[below]
        self.unusable = {key for key in self.unusable if key[: len(path)] != path}


def parse_yaml(text: str, source: str, environ: Mapping[str, str] = NO_VARIABLES) -> Document:
    """The keys of a config file's text, variables filled in from `environ`.

    ConfigError, with one problem, when it is not a YAML mapping at all.
    """
    root = compose(text, source)
    if root is None:
        raise single_problem(source, "the file is empty. Allowed: keys such as `task: mrpc`", 1, 1)
    if not isinstance(root, MappingNode):
        found = "a list" if isinstance(root, SequenceNode) else "a single text"
        mark = root.start_mark
        message = f"the file holds {found}. Allowed: keys such as `task: mrpc`"
        raise single_problem(source, message, mark.line + 1, mark.column + 1)
    reader = _NodeReader(source, environ)
    reader.document.data = reader.value(root, ()) or {}
    return reader.document


def parse_value(text: str, source: str, path: KeyPath, environ: Mapping[str, str] = NO_VARIABLES) -> Document:
    """One value in flow form, as `--set` gives it: it is under its last key in `data`, its spots under `path`."""
    reader = _NodeReader(source, environ, with_lines=False)
    document = reader.document
    document.spots[path] = Spot(Place(source), Place(source), text.strip())
    try:
        root = compose(text, source)
        if isinstance(root, SequenceNode | MappingNode) and not root.flow_style:
            raise single_problem(source, "a list is written [a, b] here. Quote a text that has ': ' in it")
    except ConfigError as error:
        key = ".".join(map(str, path))
        document.problems += [Place(source).problem(key, problem.message) for problem in error.problems]
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

    def note(self, path: KeyPath, key: Node, value: Node) -> None:
        """Keep where a key and its value stand."""
        text = value.value if isinstance(value, ScalarNode) else None
        self.document.spots[path] = Spot(self.place(key.start_mark), self.place(value.start_mark), text)

    def problem(self, node: Node, path: KeyPath, message: str) -> None:
        key = hide_secrets(".".join(map(str, path)))
        self.document.problems.append(self.place(node.start_mark).problem(key, message))

    def refuse(self, node: Node, path: KeyPath, message: str) -> Any:
        """None in place of a value that cannot be used, and a problem that says why."""
        self.problem(node, path, message)
        self.document.unusable.add(path)
        return None

    def value(self, node: Node, path: KeyPath) -> Any:
        """The plain value of a node. When it has none, mark `path` as unusable and return None."""
        if node.tag.startswith(REFUSED):
            return self.refuse(node, path, node.tag.removeprefix(REFUSED))
        if isinstance(node, ScalarNode):
            return self.scalar(node, path)
        if isinstance(node, SequenceNode):
            return self.sequence(node, path)
        assert isinstance(node, MappingNode)
        return self.mapping(node, path)

    def scalar(self, node: ScalarNode, path: KeyPath) -> Any:
        text, kind = node.value, node.tag.removeprefix(TAG)
        if SECRET.search(text):
            return self.refuse(node, path, SECRET_MESSAGE)
        if kind == "null":
            return None
        if kind == "str":
            return self.filled(node, path) if OPENING in text else text
        value = core_value(text)
        if not isinstance(value, str):
            return value
        special = text.lstrip("+-").lower() in (".inf", ".nan")
        what = f"{text} is not a number here" if special else f"{shorten(text)} is too large for a number"
        return self.refuse(node, path, f"{what}. Allowed: a finite number; quote it if it is a text")

    def filled(self, node: ScalarNode, path: KeyPath) -> Any:
        """A text with its variables filled in; a lone one without quotes is read as if its value stood there."""
        try:
            filled = fill(node.value, self.environ)
        except ValueError as err:
            return self.refuse(node, path, str(err))
        if filled.saved is None and SECRET.search(filled.value):
            return self.refuse(node, path, SECRET_MESSAGE)
        value: Any = filled.value
        alternative = core_value(filled.value) if filled.is_whole else filled.value
        if filled.is_whole and node.style is None:
            value, alternative = alternative, value
        self.document.filled[path] = FromEnvironment(filled.value, alternative, node.value, filled.saved)
        return value

    def sequence(self, node: SequenceNode, path: KeyPath) -> list[Any]:
        values = []
        for index, child in enumerate(node.value):
            item = (*path, index)
            self.note(item, child, child)
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
            self.note(item, key_node, value_node)
            value = self.value(value_node, item)
            if item not in self.document.unusable:
                values[key] = value
        if node.value and not values and path:
            self.document.unusable.add(path)
        return values

    def key(self, node: Node, path: KeyPath, earlier: dict[str, Any]) -> str | None:
        """The key's text; None, and a problem, for a key that cannot be used."""
        if node.tag.startswith(REFUSED):
            self.problem(node, path, node.tag.removeprefix(REFUSED))
            return None
        text = node.value if isinstance(node, ScalarNode) else ""
        if node.tag != TAG + "str":
            found = f"the key {shorten(text)}" if text else "a key"
            message = f"{found} is not text. Allowed: text keys (quote it); class names are given as a list, [no, yes]"
            self.problem(node, path, message)
        elif SECRET.search(text):
            self.problem(node, path, SECRET_MESSAGE)
        elif text == "<<":
            self.problem(node, path, "merge keys (<<) are not read here; write the values out")
        elif (*path, text) in self.document.spots:
            line = self.document.spots[(*path, text)].key.line
            where = f" (first on line {line})" if line else ""
            self.problem(node, (*path, text), f"duplicate key{where}. Keep one of them")
        else:
            return text
        return None
