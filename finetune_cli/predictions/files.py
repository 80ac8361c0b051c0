"""Predictions to a stream or a file: JSON Lines, CSV, TSV or Parquet, in constant memory."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from finetune_cli.data.formats.file_kinds import COMPRESSIONS, file_kind, packed
from finetune_cli.data.label_cells import joined_names
from finetune_cli.errors import ConfigError, DataError, RunFailedError, counted

logger = logging.getLogger(__name__)

FORMATS = ("jsonl", "csv", "tsv", "parquet")
ENDINGS = {"ndjson": "jsonl"}
PARQUET_ROWS = 2048

Rows = Iterable[dict[str, Any]]


def choose_format(path: Path | None, requested: str | None) -> str:
    """The requested form, else that of the file name, else jsonl. Raises ConfigError for an ending of another form."""
    suffix, compression = file_kind(path) if path else ("", "")
    ending = (suffix or (path.suffix.lower() if path and not compression else "")).lstrip(".")
    chosen = requested or ENDINGS.get(ending, ending) or "jsonl"
    if chosen not in FORMATS:
        raise ConfigError(
            f"-o {path}: .{ending} is no form of predictions. Expected a name that ends in .jsonl, .csv, .tsv or "
            f".parquet, or one of these with --format; {', '.join(COMPRESSIONS)} may follow."
        )
    if path is None and chosen == "parquet":
        raise ConfigError("--format parquet needs a file: name one with -o FILE.")
    return chosen


def require_writable(path: Path) -> None:
    """Raise ConfigError when no file can be written there. Call it before the work, which may be long."""
    if path.is_dir() or not _is_special(path):
        _open(path).close()
        _aside(path).unlink()


def write_predictions(rows: Rows, path: Path | None, *, file_format: str, with_errors: bool, stdout: BinaryIO) -> int:
    """Write every row to `path`, which is logged, or to `stdout` when it is None; returns how many.

    A file appears when it is complete. In CSV and TSV a probability has a column of its own, `probabilities.NAME`.
    with_errors: rows may be null with an `error`, which gets a column.
    """
    began = time.monotonic()
    written = 0

    def passed_on() -> Iterator[dict[str, Any]]:
        """The rows, counted; the stream has received every answer before the next row is waited for."""
        nonlocal written
        for row in rows:
            written += 1
            yield row
            if path is None:
                stdout.flush()

    write = {"jsonl": _write_jsonl, "csv": _write_csv, "tsv": _write_tsv, "parquet": _write_parquet}[file_format]
    if path is None:
        write(passed_on(), stdout, with_errors)
        stdout.flush()
    else:
        replaced = " in place of the file that was there" if path.is_file() else ""
        with _replacing(path) as file, packed(file, file_kind(path)[1]) as content:
            write(passed_on(), content, with_errors)
        seconds = time.monotonic() - began
        answered, speed = counted(written, "row"), written / seconds
        logger.info("Wrote %s to %s%s in %.1f s (%.3g rows/s)", answered, path, replaced, seconds, speed)
    return written


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends well; what is no plain file is written as it is."""
    special, aside = _is_special(path), _aside(path)
    file = _open(path)
    try:
        with file:
            yield file
        if not special:
            aside.replace(path)
    except OSError as err:
        raise RunFailedError(f"-o {path}: cannot write it: {err.strerror or err}.") from err
    finally:
        if not special:
            aside.unlink(missing_ok=True)


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _open(path: Path) -> BinaryIO:
    try:
        return (path if _is_special(path) else _aside(path)).open("wb")
    except OSError as err:
        hint = f" There is no directory {path.parent}." if not path.parent.is_dir() else ""
        raise ConfigError(f"-o {path}: cannot write it: {err.strerror or err}.{hint} Name another file.") from err


def _write_jsonl(rows: Rows, file: BinaryIO, with_errors: bool) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _write_csv(rows: Rows, file: BinaryIO, with_errors: bool, delimiter: str = ",") -> None:
    first, flat = _until_predicted(map(_flat, rows))
    columns = dict.fromkeys(first or {"id": None, "prediction": None})
    names = [*columns, *(["error"] if with_errors and "error" not in columns else [])]
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    try:
        writer = csv.DictWriter(_Lines(text), names, delimiter=delimiter, lineterminator="\r\n")
        writer.writeheader()
        for row in flat:
            _require_known(row, names)
            writer.writerow(row)
    finally:
        text.detach()


class _Lines:
    """Rows ended by a line feed alone, of a writer that ends them by both marks: it then also quotes texts that hold a
    carriage return, which no reader could tell from a line end."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, line: str) -> int:
        return self.file.write(line.removesuffix("\r\n") + "\n")


def _write_tsv(rows: Rows, file: BinaryIO, with_errors: bool) -> None:
    _write_csv(rows, file, with_errors, delimiter="\t")


def _write_parquet(rows: Rows, file: BinaryIO, with_errors: bool) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    pending = map(_named_alike, rows)
    first = list(islice(pending, PARQUET_ROWS))
    try:
        schema = _schema(first, with_errors)
        with ParquetWriter(file, schema) as writer:
            for chunk in chain([first], iter(lambda: list(islice(pending, PARQUET_ROWS)), [])):
                writer.write_table(_table(chunk, schema))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as err:
        raise DataError(f"A column changes its type ({err}). Write JSON Lines: --format jsonl.") from err


def _schema(rows: list[dict[str, Any]], with_errors: bool) -> Any:
    """The types of the first rows; a column without any value is text."""
    import pyarrow as pa

    names = dict.fromkeys(chain.from_iterable(rows)) or {"id": None, "prediction": None}
    types = {name: pa.array([row.get(name) for row in rows if name != "id"]).type for name in names}
    if "prediction" in types and pa.types.is_list(types["prediction"]):
        types["prediction"] = pa.list_(pa.string())  # also when no class was predicted in these rows
    types["id"] = pa.string() if any(isinstance(row["id"], str) for row in rows) else pa.int64()
    if with_errors:
        types.setdefault("error", pa.string())
    return pa.schema([(name, pa.string() if pa.types.is_null(kind) else kind) for name, kind in types.items()])


def _table(rows: list[dict[str, Any]], schema: Any) -> Any:
    """A row that could not be read is known by its number: as a text where ids are texts."""
    import pyarrow as pa

    for row in rows:
        _require_known(row, schema.names)
        if pa.types.is_string(schema.field("id").type):
            row["id"] = str(row["id"])
    return pa.Table.from_pylist(rows, schema=schema)


def _named_alike(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the probabilities of the likeliest of many classes, which differ from row to row, as JSON."""
    if "rest" not in row or not isinstance(row.get("probabilities"), dict):
        return row
    return {**row, "probabilities": json.dumps(row["probabilities"], ensure_ascii=False)}


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """{"probabilities": {"yes": p}} as {"probabilities.yes": p}, several predicted classes as `a|b`, the form that is
    read as labels, too; other nested values as JSON."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "probabilities" and isinstance(value, dict) and "rest" not in row:
            flat |= {f"probabilities.{label}": p for label, p in value.items()}
        elif name == "prediction" and isinstance(value, list):
            flat[name] = joined_names(value)
        else:
            flat[name] = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
    return flat


def _until_predicted(rows: Iterator[dict[str, Any]]) -> tuple[dict[str, Any] | None, Iterator[dict[str, Any]]]:
    """The first row that has all columns (None: there is none), and all rows."""
    waiting: list[dict[str, Any]] = []
    for row in rows:
        waiting.append(row)
        if "error" not in row or row["prediction"] is not None:
            return row, chain(waiting, rows)
    return None, iter(waiting)


def _require_known(row: Mapping[str, Any], columns: Iterable[str]) -> None:
    if new := [name for name in row if name not in columns]:
        raise DataError(
            f"Row {row.get('id')!r} has a column that the first rows lack: {', '.join(new)}. "
            f"Write JSON Lines, where rows may differ: --format jsonl."
        )
