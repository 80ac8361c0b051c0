"""Tokenised splits on disk: reading them lazily, writing them as streams, publishing a folder whole or not at all.

One folder per content key: a folder per split with flat `.npy` arrays, the tokenizer's files, and `manifest.json`,
written last, which names every file with its size. A folder without a fitting manifest counts as absent.
N examples, T tokens of all examples together.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from finetune_cli.data.tokenization import EncodedBatch
from finetune_cli.data.windows import WholeRows, WindowSettings, make_pieces
from finetune_cli.errors import DataError, RunFailedError
from finetune_cli.models.files import pad_token_id, padding_side
from finetune_cli.records.preparation import PrepareReport
from finetune_cli.system import locking
from finetune_cli.system.files import sync_directory, sync_file
from finetune_cli.tasks import Kind

logger = logging.getLogger(__name__)

FORMAT = 5  # to be raised when files or report change, and when the data checks find other things
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer"
NPY_HEADER_BYTES = 128
MAPPED_AT_ONCE = 2**16  # labels
ABANDONED_SECONDS = 24 * 3600


class RowIds(Sequence[Any]):
    """The id of each row, as the JSON value it was written as; read from disk when asked for."""

    def __init__(self, values: np.ndarray, offsets: np.ndarray) -> None:
        self._values = values
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, row: int) -> Any: ...
    @overload
    def __getitem__(self, row: slice) -> list[Any]: ...
    def __getitem__(self, row: int | slice) -> Any:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        return json.loads(self._values[self._offsets[row] : self._offsets[row + 1]].tobytes())


@dataclass(frozen=True)
class PreparedSplit:
    """One tokenised split; row i is input_ids[offsets[i]:offsets[i + 1]].

    input_ids: int32 (T,). offsets: int64 (N + 1,). token_type_ids: int8 (T,), or None when the model takes none.
    labels: int64 class numbers or float32 values (N,), of several labels a row int8 0 and 1 (N, C); None for a split
    without labels. ids: N ids, text or number. padding_side: where a batch of them is filled up. edges, windows: of
    rows that are read in windows, see data.windows; None for rows that are not.
    """

    name: str
    input_ids: np.ndarray
    offsets: np.ndarray
    token_type_ids: np.ndarray | None
    labels: np.ndarray | None
    ids: Sequence[Any]
    padding_side: str = "right"
    edges: np.ndarray | None = None
    windows: WindowSettings | None = None

    @property
    def num_rows(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int32 (N,)."""
        return np.diff(self.offsets).astype(np.int32)

    @cached_property
    def pieces(self) -> WholeRows:
        """What the model is given of the rows. Raises ConfigError; see Windows."""
        return make_pieces(self.offsets, self.edges, self.windows)

    def part(self, rows: slice) -> PreparedSplit:
        """Some neighbouring rows alone, by a slice with both ends."""
        labels = None if self.labels is None else self.labels[rows]
        edges = None if self.edges is None else self.edges[rows]
        offsets = self.offsets[rows.start : rows.stop + 1]
        return replace(self, offsets=offsets, labels=labels, ids=self.ids[rows], edges=edges)

    def known_labels(self) -> np.ndarray:
        """The labels. Raises DataError for a split that has none."""
        if self.labels is None:
            raise DataError(
                f"The split {self.name!r} has no labels, so it can be predicted but not scored. Use finetune predict, "
                f"or another split."
            )
        return self.labels

    def tokens(self, row: int) -> np.ndarray:
        """The token numbers of one row."""
        return self.input_ids[self.offsets[row] : self.offsets[row + 1]]


@dataclass(frozen=True)
class PreparedData:
    """The tokenised splits of a data set and what is known of them.

    key: equal when data, tokenizer and text settings are equal. label_names: classes in the order of their numbers, or
    None in regression. report: what `prepare` says of them.
    """

    directory: Path
    key: str
    splits: dict[str, PreparedSplit]
    label_names: tuple[str, ...] | None
    report: PrepareReport

    @property
    def kind(self) -> Kind:
        """The kind of task that the labels are for."""
        if self.label_names is None:
            return "regression"
        labels = [split.labels for split in self.splits.values() if split.labels is not None]
        return "multilabel" if any(of_split.ndim == 2 for of_split in labels) else "classification"

    @property
    def tokenizer_dir(self) -> Path:
        """The tokenizer's files, to be saved beside a model."""
        return self.directory / TOKENIZER

    @cached_property
    def pad_token_id(self) -> int:
        """The number of the padding token. Raises MissingError when the tokenizer has none."""
        return pad_token_id(self.tokenizer_dir)


def open_prepared(directory: Path) -> PreparedData | None:
    """What `publish` left in `directory`; None when nothing is there or a file is missing, cut or of another format."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            return None
        for name, size in manifest["files"].items():
            if (directory / name).stat().st_size != size:
                raise ValueError(f"{name} is not {size} bytes long")
        report = PrepareReport.from_json(manifest["report"])
        side = padding_side(directory / TOKENIZER)
        splits = {name: _open_split(directory / "splits" / name, side) for name in report.splits}
    except (FileNotFoundError, NotADirectoryError) as err:
        if directory.exists():
            logger.warning("%s is incomplete (%s is missing); preparing again", directory, err.filename)
        return None
    except (KeyError, TypeError, ValueError, OSError) as err:
        logger.warning("%s is damaged (%s); preparing again", directory, err)
        return None
    names = manifest["label_names"]
    return PreparedData(directory, directory.name, splits, None if names is None else tuple(names), report)


def _open_split(folder: Path, side: str) -> PreparedSplit:
    def array(name: str) -> np.ndarray:
        return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    def optional(name: str) -> np.ndarray | None:
        return array(name) if (folder / f"{name}.npy").exists() else None

    ids = RowIds(array("ids"), array("id_offsets"))
    types, labels, edges = map(optional, ("token_type_ids", "labels", "edges"))
    edges = None if edges is None else edges.reshape(-1, 3)
    return PreparedSplit(folder.name, array("input_ids"), array("offsets"), types, labels, ids, side, edges)


class ArrayWriter:
    """A one-dimensional `.npy` file that grows; its header, with the length, is written by `close`."""

    def __init__(self, path: Path, dtype: Any) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.length = 0
        self._file = path.open("wb")
        self._file.write(b" " * NPY_HEADER_BYTES)

    def append(self, values: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(values, dtype=self.dtype).data)
        self.length += len(values)

    def close(self) -> None:
        fields = f"{{'descr': '{self.dtype.str}', 'fortran_order': False, 'shape': ({self.length},), }}"
        magic = b"\x93NUMPY\x01\x00"  # format version 1.0, of numpy.lib.format
        text = fields.ljust(NPY_HEADER_BYTES - len(magic) - 3) + "\n"
        self._file.seek(0)
        self._file.write(magic + len(text).to_bytes(2, "little") + text.encode("ascii"))
        self._file.close()


class SplitWriter:
    """Writes one split batch by batch, in constant memory; its files are complete when the `with` block ends.

    label_dtype: of the label codes (also of sets of labels) or values, or None for a split without labels. windows:
    whether the rows are read in windows.
    """

    def __init__(self, folder: Path, *, token_types: bool, label_dtype: Any, windows: bool = False) -> None:
        folder.mkdir(parents=True)
        dtypes = {"input_ids": np.int32, "offsets": np.int64, "ids": np.uint8, "id_offsets": np.int64}
        dtypes |= {"token_type_ids": np.int8} if token_types else {}
        dtypes |= {"labels": label_dtype} if label_dtype is not None else {}
        dtypes |= {"edges": np.int32} if windows else {}
        self.folder = folder
        self._arrays = {name: ArrayWriter(folder / f"{name}.npy", dtype) for name, dtype in dtypes.items()}
        for name in ("offsets", "id_offsets"):
            self._arrays[name].append(np.zeros(1, np.int64))

    def append(self, batch: EncodedBatch, ids: Iterable[Any], labels: Sequence[float] | None) -> None:
        """Add rows: their tokens, their ids (text or number) and, where the split has them, label codes or values."""
        arrays = self._arrays
        arrays["offsets"].append(batch.offsets[1:] + arrays["input_ids"].length)
        arrays["input_ids"].append(batch.input_ids)
        if batch.token_type_ids is not None:
            arrays["token_type_ids"].append(batch.token_type_ids)
        if batch.edges is not None:
            arrays["edges"].append(batch.edges.ravel())
        written = [_id_bytes(value) for value in ids]
        ends = np.cumsum([len(value) for value in written])
        arrays["id_offsets"].append(ends + arrays["ids"].length)
        arrays["ids"].append(np.frombuffer(b"".join(written), np.uint8))
        if labels is not None:
            arrays["labels"].append(np.asarray(labels))

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(self, *failure: object) -> None:
        for array in self._arrays.values():
            array.close()

    def map_labels(self, numbers: np.ndarray) -> None:
        """After the last row: replace each label code by numbers[code]: a number, or a row of 0 and 1 (C,)."""
        path, aside = self.folder / "labels.npy", self.folder / "labels-mapped.npy"
        written = self._arrays["labels"]
        # Read and written, not mapped: the pages of a map would count as this process's memory.
        with path.open("rb") as codes, aside.open("wb") as labels:
            codes.seek(NPY_HEADER_BYTES)
            shape = (written.length, *numbers.shape[1:])
            header = {"descr": numbers.dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(labels, header)
            while block := codes.read(MAPPED_AT_ONCE * written.dtype.itemsize):
                labels.write(numbers[np.frombuffer(block, written.dtype)].data)
        aside.replace(path)

    def drop_labels(self) -> None:
        """After the last row: the split turned out to have no labels."""
        (self.folder / "labels.npy").unlink()


def _id_bytes(value: Any) -> bytes:
    text = str(value) if type(value) is int else json.dumps(value, ensure_ascii=False)  # str is ten times as fast
    return text.encode()


def publish(directory: Path, build: Callable[[Path], dict[str, Any]]) -> PreparedData:
    """Let `build` fill a folder, then make it `directory`: whole, or not at all.

    build: writes the files and returns the manifest's `label_names` and `report`. Processes that want the same content
    at once wait for the first to publish it, and use that. Raises RunFailedError when the disk is full or the cache
    cannot be written.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(directory.parent)
        locks = directory.parent.with_name("locks")
        locks.mkdir(exist_ok=True)
        with (locks / directory.name).open("a+") as lock:
            if not locking.take(lock, wait=True) and (published := open_prepared(directory)) is not None:
                return published
            return _build_aside(directory, build)
    except OSError as err:
        raise RunFailedError(
            f"The prepared data cannot be written to {directory.parent}: {err.strerror or err}. Make room, or set "
            f"FINETUNE_CACHE to another directory."
        ) from err


def _build_aside(directory: Path, build: Callable[[Path], dict[str, Any]]) -> PreparedData:
    aside = Path(tempfile.mkdtemp(prefix=f".{directory.name[:16]}-", dir=directory.parent))
    try:
        manifest = {"format": FORMAT, **build(aside)}
        _write_manifest(aside, manifest)
        return _move_into_place(aside, directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        sync_file(path)
    manifest["files"] = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    path = folder / MANIFEST
    path.write_text(json.dumps(manifest, ensure_ascii=False, indent=1), encoding="utf-8")
    sync_file(path)
    for made in (*(entry for entry in folder.rglob("*") if entry.is_dir()), folder):
        sync_directory(made)


def _move_into_place(aside: Path, directory: Path) -> PreparedData:
    if directory.exists() and open_prepared(directory) is None:
        damaged = Path(tempfile.mkdtemp(prefix=".damaged-", dir=directory.parent))
        directory.rename(damaged / directory.name)  # a process that has it open keeps reading its files
        shutil.rmtree(damaged, ignore_errors=True)
    try:
        aside.rename(directory)
        sync_directory(directory.parent)
    except OSError:
        if not directory.exists():
            raise
    prepared = open_prepared(directory)
    if prepared is None:
        raise OSError(f"{directory} is not readable after it was written")
    return prepared


def _remove_abandoned(parent: Path) -> None:
    """Delete what killed processes left behind, once it is a day old."""
    for folder in parent.glob(".*-*"):
        if folder.is_dir() and time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
