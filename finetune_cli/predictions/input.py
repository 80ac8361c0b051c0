"""What `predict` labels: a file, a stream or texts, as checked rows; mistakes are found before the model is loaded."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from finetune_cli.data import readers
from finetune_cli.data.checks.rows import checked_rows
from finetune_cli.data.readers import BadRow, Row, Values, read_rows, read_stream
from finetune_cli.errors import DataError
from finetune_cli.runs.rows import table_form
from finetune_cli.runs.target import Target, text_columns
from finetune_cli.system.places import in_home
from finetune_cli.system.read_ahead import InterruptibleInput

TEXT_NAMES = ("text", "text_pair")
PLAIN_TEXT = ".txt"

Input: TypeAlias = "Path | str | BinaryIO | Sequence[str | tuple[str, ...]]"


def require_data_file(path: Path, *, plain_text: bool = False) -> None:
    """Raise DataError when there is no such file, or its name does not say its format.

    plain_text: a file of texts, one a line, will do, too.
    """
    if plain_text and path.suffix.lower() == PLAIN_TEXT and path.is_file():
        return
    if plain_text and not path.exists():
        raise DataError(f"{path} does not exist. Expected a data file. A text to label goes with --text.")
    readers.require_data_file(path, also=(PLAIN_TEXT,) if plain_text else ())


@contextmanager
def open_rows(target: Target, rows: Input) -> Iterator[tuple[Sequence[str], Iterable[Row], Any]]:
    """The text columns, the checked rows of an input, and a function that ends a wait for more of them."""
    if isinstance(rows, str | Path):
        path = in_home(rows)
        require_data_file(path, plain_text=True)
        if path.suffix.lower() == PLAIN_TEXT:
            with path.open("rb") as file:
                yield *_stream_rows(target, file, str(path)), _nothing
        else:
            yield *_file_rows(target, path), _nothing
    elif isinstance(rows, Sequence):
        yield *_given_texts(target, rows), _nothing
    elif _can_block(rows):
        with InterruptibleInput(rows) as raw, io.BufferedReader(raw) as stream:
            yield *_stream_rows(target, stream), raw.interrupt
    else:
        yield *_stream_rows(target, rows), _nothing


def _nothing() -> None:
    """A file or a list is never waited for."""


def _can_block(stream: BinaryIO) -> bool:
    try:
        stream.fileno()
    except OSError:
        return False
    return not stream.seekable()


def _file_rows(target: Target, path: Path) -> tuple[Sequence[str], Iterable[Row]]:
    form = table_form(target.config.data, path, labelled=False) if target.config else readers.AS_USUAL
    first = next((row for row in read_rows(path, form=form) if not isinstance(row, BadRow)), None)
    columns = text_columns(target, list(first[1]) if first else [])
    return columns, _checked(target, read_rows(path, form=form), str(path), columns)


def _stream_rows(target: Target, stream: BinaryIO, name: str = "standard input") -> tuple[Sequence[str], Iterable[Row]]:
    columns = target.config.data.text if target.config else TEXT_NAMES[:1]
    return columns, _checked(target, read_stream(stream, columns, name=name), name, columns)


def _checked(target: Target, rows: Iterator[Row], where: str, columns: Sequence[str]) -> Iterator[Row]:
    return checked_rows(rows, where=where, text=columns, id_column=target.config.data.id if target.config else None)


def _given_texts(target: Target, rows: Sequence[str | tuple[str, ...]]) -> tuple[Sequence[str], Iterable[Row]]:
    examples = [(row,) if isinstance(row, str) else row for row in rows]
    columns = target.config.data.text if target.config else TEXT_NAMES[: max(map(len, examples), default=1)]
    for texts in examples:
        if len(texts) != len(columns):
            raise DataError(
                f"--text: this model takes {_texts(len(columns))} for each row ({', '.join(columns)}), found "
                f"{_texts(len(texts))}. {'Add --text-pair.' if len(columns) == 2 else 'Leave out --text-pair.'}"
            )
    return columns, [(number, dict(zip(columns, texts, strict=True))) for number, texts in enumerate(examples)]


def _texts(count: int) -> str:
    return "one text" if count == 1 else f"{count} texts"


def with_own_columns(answer: Mapping[str, Any], values: Values) -> dict[str, Any]:
    """The row's columns, then its answer. A column that is named like a part of the answer becomes NAME_input."""
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if name not in ("id", "prediction", "probabilities", "error"):
            kept[name] = value
        elif name != "id" or value != answer["id"]:
            while name in values or name in kept:
                name += "_input"
            kept[name] = value
    return kept | dict(answer)
