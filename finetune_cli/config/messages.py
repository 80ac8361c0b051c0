"""The message for a wrong key or value: what was found, what is allowed, and what was probably meant."""

import re
from collections.abc import Callable, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from finetune_cli.config.fields import HubConfig, RunConfig
from finetune_cli.config.foreign_names import BY_SECTION, COMMON_NAMES
from finetune_cli.config.text import shorten
from finetune_cli.config.trainer_args import MANAGED, OURS, PASSED
from finetune_cli.config.types import Allowed, Section, fields_below, section_of
from finetune_cli.config.yaml_source import KeyPath
from finetune_cli.errors import did_you_mean


def unknown_key(section: KeyPath, key: str) -> str:
    """The message for a key that `section` does not have."""
    name = ".".join(map(str, section))
    info = field_at(section)
    fields = sorted(((info and section_of(info)) or RunConfig).model_fields)
    paths = [path for path, _ in fields_below(RunConfig)]
    our_key = BY_SECTION.get((name, key)) or OURS.get(key) or COMMON_NAMES.get(key)
    places = [".".join(path) for path in sorted(paths, key=len) if path[-1] == key]
    if (name, key) not in BY_SECTION and places:
        return f"does not belong {f'to {name}' if name else 'at the top'}. Write {' or '.join(places)}"
    if our_key:
        return f"is called {our_key} here" if " " not in our_key else f"is not a key here: {our_key}"
    if key in PASSED:
        return f"belongs under training.trainer_args. Write training.trainer_args.{key}"
    if key in MANAGED:
        return f"cannot be set: {MANAGED[key]}. Take it out"
    close = did_you_mean(key, fields, before=". ") or did_you_mean(key, {path[-1] for path in paths}, before=". ")
    return f"unknown key. Allowed{f' in {name}' if name else ''}: {', '.join(fields)}{close}"


def field_at(path: KeyPath) -> FieldInfo | None:
    """The field at a key path. For an item of a list, the field of the list; None for the empty path."""
    section: type[Section] = RunConfig
    info: FieldInfo | None = None
    for part in path:
        info = section.model_fields.get(str(part), info)
        inner = section_of(info) if info else None
        if inner is None:
            break
        section = inner
    return info


def allowed(info: FieldInfo) -> str:
    """What a field allows, in words, from its type."""
    return _allowed(info.annotation, info.metadata)


def _allowed(annotation: Any, notes: Sequence[Any] = ()) -> str:
    if words := [note.text for note in notes if isinstance(note, Allowed)]:
        return words[-1]
    if annotation is NoneType:
        return "null"
    if annotation is bool:
        return "true or false"
    if annotation is float:
        return "a number"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _allowed(arguments[0], arguments[1:])
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return ", or ".join(_allowed(argument) for argument in arguments)
    if origin is dict:
        return f"a section of name: {_allowed(arguments[1])}"
    return "a section with keys"


def wrong_value(value: Any, written: str | None, kinds: set[str], info: FieldInfo) -> str:
    """The message for a value that a field does not take.

    written: the scalar as it stands in the source. kinds: the types of pydantic's errors for it.
    """
    words = [word for word in allowed(info).replace(", or ", ", ").split(", ") if " " not in word]
    hint = did_you_mean(value, words, before=". ") if isinstance(value, str) and "literal_error" in kinds else ""
    if not hint and isinstance(value, str) and value:
        hint = _as_section_or_list(value, info)
    return f"{_describe(value, written, kinds)}. Allowed: {allowed(info)}{hint}"


def _as_section_or_list(value: str, info: FieldInfo) -> str:
    """How to write the text when a list of texts, or the section of the Hub, is expected."""
    if section_of(info) is HubConfig:
        return f". Write {{repo_id: {shorten(value)}}}"
    return f". Write [{shorten(value)!r}]" if allowed(info) == "a list of texts" else ""


def _describe(value: Any, written: str | None, kinds: set[str]) -> str:
    """What was found, in words."""
    shown = shorten(str(value) if written is None else written)
    wants_text = "string_type" in kinds
    if value is None:
        return "has no value"
    if isinstance(value, dict):
        return "found a section with keys"
    if isinstance(value, list | tuple):
        return f"found a list of {len(value)}"
    if isinstance(value, bool):
        return f'{shown} is read as a flag; quote it if it is a text: "{shown}"' if wants_text else f"{shown} is a flag"
    if isinstance(value, int | float):
        if wants_text and "float_type" not in kinds:
            return f'{shown} is read as a number; quote it if it is a text: "{shown}"'
        if kinds & {"int_from_float", "int_type"} and isinstance(value, float):
            return (
                f"{shown} is not a whole number" if value != int(value) else f"{shown} is not written as a whole number"
            )
        return f"{shown} is out of range" if kinds & _RANGE else f"{shown} is a number"
    if value == "":
        return "found an empty text"
    if "bool_type" in kinds and value.lower() in _FLAGS:
        return f"{shown} is text in YAML 1.2; write {_FLAGS[value.lower()]}"
    if kinds & {"int_type", "float_type"} and any(character.isdigit() for character in value):
        return _not_a_number(value, shown)
    return f"{shown!r} is not known" if "literal_error" in kinds else f"{shown!r} is text"


_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}
_FLAGS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
# How a number is written elsewhere, what the rule is here, and the same number by that rule.
_MISWRITTEN: tuple[tuple[str, str, Callable[[str], object]], ...] = (
    (r"[-+]?0\d+", "a number has no leading zero", int),
    (r"[-+]?\d[\d_]*_[\d_]*", "a number has no underscores", lambda text: text.replace("_", "")),
    (r"0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+", "numbers are decimal", lambda text: int(text, 0)),
    (r"[-+]?\d+,\d+\S*", "a number has a decimal point, not a comma", lambda text: text.replace(",", ".")),
    (r"\d+(\.\d+)?\s*%", "a share is written as a number", lambda text: f"{float(text.rstrip('% ')) / 100:g}"),
)


def _not_a_number(value: str, shown: str) -> str:
    """Why a text with digits in it is not read as a number, and how to write that number."""
    for pattern, rule, mended in _MISWRITTEN:
        if re.fullmatch(pattern, value):
            return f"{shown} is text: {rule}. Write {mended(value)}"
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value):
        return f"{shown!r} is text because of the quotes. Take them off"
    return f"{shown!r} is text"
