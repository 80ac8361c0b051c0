"""Tokenised splits written as streams, and their folder published whole or not at all; see data.prepared."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from finetune_cli.data.prepared import FORMAT, MANIFEST, PreparedData, open_prepared
from finetune_cli.data.tokenization import EncodedBatch
from finetune_cli.errors import RunFailedError
from finetune_cli.system import locking
from finetune_cli.system.files import sync_directory, sync_file

NPY_HEADER_BYTES = 128  # of a 1-D array
MAPPED_AT_ONCE = 2**16  # labels
ABANDONED_SECONDS = 24 * 3600


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
        self._file.seek(0)
        _write_header(self._file, self.dtype, (self.length,))
        self._file.close()


class SplitWriter:
    """Writes one split batch by batch, in constant memory; its files are complete when the `with` block ends.

    label_dtype: of the label codes (also of sets of labels) or values. windows: whether the rows are read in windows.
    """

    def __init__(self, folder: Path, *, token_types: bool, label_dtype: Any, windows: bool) -> None:
        folder.mkdir(parents=True)
        dtypes = {
            "input_ids": np.int32,
            "offsets": np.int64,
            "ids": np.uint8,
            "id_offsets": np.int64,
            "labels": label_dtype,
        }
        dtypes |= {"token_type_ids": np.int8} if token_types else {}
        dtypes |= {"edges": np.int32} if windows else {}
        self.folder = folder
        self._arrays = {name: ArrayWriter(folder / f"{name}.npy", dtype) for name, dtype in dtypes.items()}
        for name in ("offsets", "id_offsets"):
            self._arrays[name].append(np.zeros(1, np.int64))

    def append(self, batch: EncodedBatch, ids: Iterable[Any], labels: Sequence[float]) -> None:
        """Add rows: their tokens, their ids (text or number), and their label codes or values."""
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
            _write_header(labels, numbers.dtype, (written.length, *numbers.shape[1:]))
            while block := codes.read(MAPPED_AT_ONCE * written.dtype.itemsize):
                labels.write(numbers[np.frombuffer(block, written.dtype)].data)
        aside.replace(path)

    def drop_labels(self) -> None:
        """After the last row: the split turned out to have no labels."""
        (self.folder / "labels.npy").unlink()


def _write_header(file: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Of an `.npy` file. NumPy leaves room for a length of any size, so that the header of 1-D arrays never grows."""
    np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})


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
