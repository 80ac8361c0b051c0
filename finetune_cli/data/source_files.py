"""Sources of rows that lie in files: one, several together, or a folder that `save_to_disk` of datasets wrote."""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_cli.data.formats.file_kinds import file_kind, require_data_file
from finetune_cli.data.formats.header import TABLES
from finetune_cli.data.formats.parquet_rows import declared_names, needed_columns, parquet_features
from finetune_cli.data.formats.row import AS_USUAL, BadRow, Row, TableForm
from finetune_cli.data.readers import read_rows, refuse_form
from finetune_cli.errors import DataError, first_line
from finetune_cli.system.places import in_home

SAVED_SPLITS = "dataset_dict.json"  # what save_to_disk writes for several splits
SAVED_STATE = "state.json"  # ... and for each of them
WILDCARDS = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Source:
    """The rows of one split.

    where: for messages. fingerprint: equal when the rows are equal, whatever the file's name and time. open: given the
    columns needed (None: all), starts a new pass over the rows. label_names: class names that come with the data.
    left_out: how many rows are not among these, because they have no label.
    """

    where: str
    fingerprint: str
    open: Callable[[Sequence[str] | None], Iterator[Row]]
    label_names: tuple[str, ...] | None = None
    left_out: Callable[[], int] | None = None


def file_source(path: Path, form: TableForm = AS_USUAL, *, label: str | None = None) -> Source:
    """The rows of one file, or of a folder of save_to_disk. form: of a table; see read_rows. label: the label column,
    whose class names the file may declare. Raises DataError when it is not there or cannot be read."""
    if is_saved(path):
        refuse_form(path, form)
        return _saved_source(path, label)
    require_data_file(path)
    suffix = file_kind(path)[0]
    if suffix not in TABLES:
        refuse_form(path, form)
    digest = _digest([path])
    names = declared_names(parquet_features(path), label) if suffix == ".parquet" and label else None
    made = "" if form.is_default else f":{form.columns}:{form.quoting}"
    return Source(str(path), f"{suffix}:{digest}{made}", lambda columns: read_rows(path, columns, form), names)


def several(parts: Iterable[Source], where: str) -> Source:
    """Sources one after another as one, their rows numbered through. where: what names them all, if there are two."""
    sources = list(parts)
    if len(sources) == 1:
        return sources[0]
    declared = {source.label_names for source in sources}
    if len(declared) > 1:
        raise DataError(f"{where}: the files declare different classes. Write the class names into the rows.")

    def open_all(columns: Sequence[str] | None) -> Iterator[Row]:
        before = 0
        for source in sources:
            number = -1
            for row in source.open(columns):
                if isinstance(row, BadRow):
                    number = row.row
                    yield BadRow(row.file, before + row.row, row.line, _placed(row))
                else:
                    number = row[0]
                    yield before + row[0], row[1]
            before += number + 1

    return Source(where, "+".join(source.fingerprint for source in sources), open_all, declared.pop())


def _placed(row: BadRow) -> str:
    """The problem; with the row's number in its own file where there is no line that says it."""
    return row.problem if row.line is not None else f"(row {row.row + 1} of the file) {row.problem}"


def find_files(pattern: str, base: Path) -> list[Path]:
    """The files, or saved folders, that a name or a pattern such as train-*.parquet stands for, in natural order.

    base: the directory that it is relative to. Empty when there is none.
    """
    path = base / in_home(pattern)
    if path.exists() or not WILDCARDS.search(pattern):
        return [path] if path.is_file() or is_saved(path) else []
    paths = [Path(name) for name in glob.glob(str(path), recursive=True)]
    return sorted((file for file in paths if file.is_file()), key=lambda file: natural(str(file)))


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts part-2 before part-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def is_saved(path: Path) -> bool:
    """Whether a folder is one split as save_to_disk writes it."""
    return (path / SAVED_STATE).is_file()


def saved_splits(path: Path) -> dict[str, Path]:
    """The folders of the splits that save_to_disk of a DatasetDict wrote; none in another folder."""
    index = path / SAVED_SPLITS
    if not index.is_file():
        return {}
    return {split: path / split for split in _read_json(index).get("splits", [])}


def _saved_source(folder: Path, label: str | None) -> Source:
    files = [folder / entry["filename"] for entry in _read_json(folder / SAVED_STATE).get("_data_files", [])]
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        raise DataError(
            f"{folder} is a folder of save_to_disk, but {missing[0] if missing else 'a file of rows'} is missing. "
            f"Copy the whole folder."
        )
    info = folder / "dataset_info.json"
    features = (_read_json(info).get("features") or {}) if info.is_file() else {}
    names = declared_names(features, label) if label else None
    return Source(str(folder), f"arrow:{_digest(files)}:{names}", lambda columns: arrow_rows(files, columns), names)


def arrow_rows(files: Sequence[Path], columns: Sequence[str] | None) -> Iterator[Row]:
    """The rows of Arrow files as the datasets library writes them, in order; constant memory."""
    import pyarrow as pa

    row = 0
    for path in files:
        try:
            with pa.memory_map(str(path)) as source, pa.ipc.open_stream(source) as reader:
                wanted = needed_columns(reader.schema.names, columns)
                for batch in reader:
                    yield from enumerate(batch.select(wanted).to_pylist(), start=row)
                    row += batch.num_rows
        except pa.ArrowException as err:
            raise DataError(f"{path} is damaged: {first_line(err)}. Copy it again.") from err


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise DataError(f"{path} is damaged: {err}. Copy the whole folder again.") from err
    return content if isinstance(content, dict) else {}


def _digest(files: Sequence[Path]) -> str:
    """SHA-256 of the files' bytes, one after another."""
    digests = []
    for path in files:
        try:
            with path.open("rb") as file:
                digests.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as err:
            raise DataError(f"{path} cannot be read: {err.strerror or err}.") from err
    return "+".join(digests)
