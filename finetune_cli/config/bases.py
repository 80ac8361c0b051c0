"""`base: common.yaml`: configs that build on others, read into one document that remembers where everything stands."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_cli.config.shipped import PREFIX, config_file
from finetune_cli.config.text import read_text
from finetune_cli.config.yaml_source import Document, KeyPath, parse_yaml
from finetune_cli.errors import ConfigError

BASE = "base"


def read_document(text: str, source: str, environ: Mapping[str, str]) -> Document:
    """A config's text with the files that it builds on laid below it. source: its path, as messages name it.

    ConfigError when the text itself is no YAML mapping; mistakes in a base join the document's problems.
    """
    return _read(text, source, environ, (source,))


def _read(text: str, source: str, environ: Mapping[str, str], chain: tuple[str, ...]) -> Document:
    document = parse_yaml(text, source, environ)
    document.sources = [source]
    if (BASE,) not in document.spots or (BASE,) in document.unusable:
        document.is_whole &= (BASE,) not in document.unusable
        return document
    below = _base_of(document, source, environ, chain)
    document.data.pop(BASE, None)
    del document.spots[BASE,]
    if below is None:
        document.is_whole = False
        return document
    return laid_over(below, document)


def _base_of(document: Document, source: str, environ: Mapping[str, str], chain: tuple[str, ...]) -> Document | None:
    """The base's document; None, with the problem noted, when there is none to be had."""
    name = document.data[BASE]

    def refuse(message: str) -> None:
        document.problems.append(document.spots[BASE,].value.problem(BASE, message))

    if not isinstance(name, str) or not name:
        refuse("expected one file. Allowed: the path of a YAML file, relative to this one")
        return None
    path = name if name.startswith(PREFIX) else os.path.normpath(Path(source).parent / Path(name).expanduser())
    if any(_is_same(path, other) for other in chain):
        refuse(f"builds on itself: {' -> '.join([*chain, path])}. Take one of these out")
        return None
    try:
        text = read_text(config_file(path))
    except ConfigError as err:
        problem = err.problems[0]
        refuse(f"{problem.source}: {problem.message}")
        return None
    try:
        return _read(text, path, environ, (*chain, path))
    except ConfigError as err:
        document.problems += err.problems
        document.sources.append(path)
        return None


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return path == other


def laid_over(below: Document, above: Document) -> Document:
    """Both as one: sections key by key; of everything else `above` has the last word, also with null.

    A section with nothing in it (all its lines are comments, say) says nothing. Changes `below`, and returns it.
    """

    def merge(low: dict[str, Any], high: dict[str, Any], path: KeyPath) -> None:
        for key, value in high.items():
            if value is None and not path and isinstance(low.get(key), dict):
                continue
            if isinstance(value, dict) and isinstance(low.get(key), dict):
                merge(low[key], value, (*path, key))
            else:
                below.forget((*path, key))
                low[key] = value

    merge(below.data, above.data, ())
    below.take(above)
    below.sources = list(dict.fromkeys([*above.sources, *below.sources]))
    below.is_whole &= above.is_whole
    return below
