"""The rows that `predict` labels: of a file, a folder, a stream, or texts; mistakes show before the model loads."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from finetune_cli.data.checks.rows import checked_rows
from finetune_cli.data.formats import file_kinds
from finetune_cli.data.formats.row import OF_OTHERS, USUAL_ID_COLUMNS, BadRow, Row, TableForm, Values
from finetune_cli.data.readers import STREAM_NAME, read_rows, read_stream
from finetune_cli.data.text_folders import class_folders, data_files, text_file_rows, text_files
from finetune_cli.errors import ConfigError, DataError, counted
from finetune_cli.runs.target import Target, text_columns
from finetune_cli.system.places import in_home
from finetune_cli.system.read_ahead import InterruptibleInput

logger = logging.getLogger(__name__)

TEXT_NAMES = ("text", "text_pair")
PLAIN_TEXT = ".txt"

Input: TypeAlias = "Path | str | BinaryIO | Sequence[str | tuple[str, ...]]"


def require_data_file(path: Path, *, plain_text: bool = False) -> None:
    """Raise DataError when there is no such file, or its name does not say its format.

    plain_text: a file of texts, one a line, will do, too, and so will a folder with a file for each text.
    """
    if plain_text and (is_pipe(path) or (path.suffix.lower() == PLAIN_TEXT and path.is_file())):
        return
    if path.is_dir():
        _require_texts(path, plain_text=plain_text)
        return
    if plain_text and not path.exists():
        raise DataError(f"{path} does not exist. Expected a data file. A text to label goes with --text.")
    file_kinds.require_data_file(path, also=(PLAIN_TEXT,) if plain_text else ())


def _require_texts(folder: Path, *, plain_text: bool) -> None:
    if plain_text and text_files(folder):
        return
    files = data_files(folder)
    if files:
        hint = f"Name a file: {files[0]}"
    elif class_folders(folder):
        rows = f"{folder.name}.utf8.jsonl"
        hint = f"To make rows of its folders of texts, {rows}: finetune init {folder} -o {folder.name}.yaml"
    else:
        hint = "Expected a data file" + (", or a directory with a .txt file for each text." if plain_text else ".")
    raise DataError(f"{folder} is a directory, not a file. {hint}")


def is_pipe(path: Path) -> bool:
    """Whether a path leads to a stream, as /dev/stdin and a shell's <(...) do."""
    return path.exists() and not path.is_file() and not path.is_dir()


@contextmanager
def open_rows(
    target: Target, rows: Input, *, input_format: str | None = None
) -> Iterator[tuple[Sequence[str], Iterable[Row], Any]]:
    """The text columns, the checked rows of an input, and a function that ends a wait for more of them.

    input_format: of a stream, or of a file whose name does not say it; see read_stream.
    """
    if isinstance(rows, str | Path):
        path = in_home(rows)
        if input_format is None:
            require_data_file(path, plain_text=True)
        if path.is_dir():
            yield *_folder_rows(target, path, input_format), _nothing
            return
        if input_format is None and path.suffix.lower() != PLAIN_TEXT and not is_pipe(path):
            yield *_file_rows(target, path), _nothing
            return
        with _opened(path) as file, _interruptible(file) as (stream, wake):
            yield *_stream_rows(target, stream, input_format, str(path)), wake
    elif isinstance(rows, Sequence):
        yield *_given_texts(target, rows), _nothing
    else:
        with _interruptible(rows) as (stream, wake):
            yield *_stream_rows(target, stream, input_format), wake


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as err:
        raise DataError(f"{path} cannot be read: {err.strerror or err}.") from err


@contextmanager
def _interruptible(source: BinaryIO) -> Iterator[tuple[BinaryIO, Any]]:
    """A stream, and what ends a wait for more of it."""
    if not _can_block(source):
        yield source, _nothing
        return
    with InterruptibleInput(source) as raw, io.BufferedReader(raw) as stream:
        yield stream, raw.interrupt


def _nothing() -> None:
    """A file or a list is never waited for."""


def _can_block(stream: BinaryIO) -> bool:
    try:
        stream.fileno()
    except OSError:
        return False
    return not stream.seekable()


def _file_rows(target: Target, path: Path) -> tuple[Sequence[str], Iterable[Row]]:
    form = _form(target, path)
    first = next((row for row in read_rows(path, form=form) if not isinstance(row, BadRow)), None)
    columns = text_columns(target, list(first[1]) if first else [])
    return columns, _checked(target, read_rows(path, form=form), str(path), columns)


def _folder_rows(target: Target, folder: Path, input_format: str | None) -> tuple[Sequence[str], Iterable[Row]]:
    columns = _text_names(target)
    if input_format is not None:
        raise ConfigError(f"--input-format is about one file or standard input, and {folder} is a directory.")
    if len(columns) > 1:
        raise DataError(f"{folder}: there is one text in each file, and this model takes two, {' and '.join(columns)}.")
    if others := data_files(folder):
        are = "is no text" if len(others) == 1 else "are no texts"
        logger.warning("%s: %s %s and left out.", folder, ", ".join(file.name for file in others), are)
    id_column = target.id_column or USUAL_ID_COLUMNS[0]
    rows = text_file_rows(folder, column=columns[0], id_column=id_column)
    return columns, _checked(target, rows, str(folder), columns)


def _text_names(target: Target, *, count: int = 1) -> tuple[str, ...]:
    """What the texts of a row without column names are called. count: how many there are, for a bare model."""
    return target.config.data.text if target.config else TEXT_NAMES[:count]


def _form(target: Target, path: Path) -> TableForm:
    from finetune_cli.runs.sources import table_form  # here: mistakes show before anything heavy is imported

    return table_form(target.config.data, path, labelled=False) if target.config else OF_OTHERS


def _stream_rows(
    target: Target, stream: BinaryIO, input_format: str | None, name: str = STREAM_NAME
) -> tuple[Sequence[str], Iterable[Row]]:
    columns = _text_names(target)
    form = replace(_form(target, Path(f"{STREAM_NAME}.csv")), any_separator=False)
    rows = read_stream(stream, columns, name=name, form=form, stream_format=input_format)
    return columns, _checked(target, rows, name, columns)


def _checked(target: Target, rows: Iterator[Row], where: str, columns: Sequence[str]) -> Iterator[Row]:
    return checked_rows(rows, where=where, text=columns, id_column=target.id_column)


def _given_texts(target: Target, rows: Sequence[str | tuple[str, ...]]) -> tuple[Sequence[str], Iterable[Row]]:
    examples = [(row,) if isinstance(row, str) else row for row in rows]
    columns = _text_names(target, count=max(map(len, examples), default=1))
    for texts in examples:
        if len(texts) != len(columns):
            raise DataError(
                f"--text: this model takes {_texts(len(columns))} for each row ({', '.join(columns)}), found "
                f"{_texts(len(texts))}. {'Add --text-pair.' if len(columns) == 2 else 'Leave out --text-pair.'}"
            )
    return columns, [(number, dict(zip(columns, texts, strict=True))) for number, texts in enumerate(examples)]


def _texts(count: int) -> str:
    return "one text" if count == 1 else counted(count, "text")


def with_own_columns(answer: Mapping[str, Any], values: Values) -> dict[str, Any]:
    """The row's columns in their order, then its answer. One that is named like a part of it becomes NAME_input."""
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if name not in ("id", "prediction", "probabilities", "error") or (name == "id" and value == answer["id"]):
            kept[name] = value
            continue
        while name in values or name in kept:
            name += "_input"
        kept[name] = value
    return kept | dict(answer)
