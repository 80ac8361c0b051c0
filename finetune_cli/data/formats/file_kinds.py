"""What a file's name says of its content, and its bytes: plain, or unpacked as they are read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from finetune_cli.errors import DataError

FORMATS = (".jsonl", ".csv", ".tsv", ".parquet", ".json", ".ndjson")
OTHER_ENDINGS = {".jsonlines": ".jsonl", ".jl": ".jsonl", ".tab": ".tsv", ".pq": ".parquet"}
OTHER_PACKINGS = {".gzip": ".gz", ".zstd": ".zst"}
CODEC = re.compile(r"\.(snappy|gz|gzip|zstd|lz4|brotli)", re.IGNORECASE)  # as Spark names it before .parquet
COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "Zstandard"}
MAGIC = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\0": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}
HEAD_BYTES = 4096
PARQUET = b"PAR1"
SPREADSHEET = "a spreadsheet. Save the sheet as CSV (UTF-8)."
ADVICE = {
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "Save the sheet as CSV (UTF-8)."),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar"), "Unpack it, and name the file inside."),
    **dict.fromkeys((".arrow", ".feather"), "Write it as Parquet, or name the folder that save_to_disk wrote."),
    **dict.fromkeys((".pkl", ".pickle", ".pt"), "A pickle can run code when loaded: write Parquet or JSON Lines."),
}


def binary_form(head: bytes) -> str | None:
    """What the beginning of a stream shows that is neither text nor Parquet, and what to do; None for those two."""
    if head.startswith(b"PK\x03\x04"):
        is_workbook = b"[Content_Types].xml" in head or b"mimetypeapplication/vnd.oasis" in head
        return SPREADSHEET if is_workbook else "a zip archive. Unpack it, and name the file inside."
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        return SPREADSHEET
    packing = next((ending for magic, ending in MAGIC.items() if head.startswith(magic)), None)
    return packing and f"packed with {COMPRESSIONS[packing]}. Unpack it first, or name the file."


def file_kind(path: Path) -> tuple[str, str]:
    """The format and the compression that a file's name says, such as (".csv", ".gz"); "" for what it does not say."""
    last = path.suffix.lower()
    last = OTHER_PACKINGS.get(last, last)
    compression = last if last in COMPRESSIONS else ""
    suffix = path.with_suffix("").suffix.lower() if compression else last
    suffix = OTHER_ENDINGS.get(suffix, suffix)
    return (suffix if suffix in FORMATS else ""), compression


def is_data_file(path: Path) -> bool:
    """Whether it is a file whose name says a format of rows."""
    return path.is_file() and bool(file_kind(path)[0])


def plain_stem(path: Path) -> str:
    """The file's name without the endings that say its format and compression."""
    suffix, compression = file_kind(path)
    stem = path.with_suffix("").stem if compression else path.stem
    codec = Path(stem).suffix if suffix == ".parquet" else ""
    return stem.removesuffix(codec) if CODEC.fullmatch(codec) else stem


def require_data_file(path: Path, *, also: Sequence[str] = ()) -> None:
    """Raise DataError when there is no such file, or its name does not say its format. also: endings that would do."""
    if not path.is_file():
        what = "is a directory, not a file" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {what}. Expected a data file.")
    suffix, compression = file_kind(path)
    if not suffix:
        hint = f" Such as {path.stem}.csv{compression}." if compression else ""
        advice = "" if hint else f" {ADVICE[path.suffix.lower()]}" if path.suffix.lower() in ADVICE else ""
        raise DataError(
            f"{path}: cannot tell its format. Expected a name that ends in "
            f"{', '.join((*FORMATS, *also))}, or with {', '.join(COMPRESSIONS)} after it.{hint}{advice}"
        )


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The content of a data file, unpacked, as a stream. Raises DataError when it is not what its name says."""
    compression = file_kind(path)[1]
    with path.open("rb") as raw:
        head = raw.peek(HEAD_BYTES)[:HEAD_BYTES]
        packing = next((ending for magic, ending in MAGIC.items() if head.startswith(magic)), "")
        if (form := binary_form(head)) and not packing:
            raise DataError(f"{path} is {form}")
        if packing != compression and head:
            raise DataError(f"{path} {_mismatch(path, compression, packing)}")
        if not compression:
            yield raw
            return
        with _damage_explained(path, compression), _unpacked(raw, compression) as stream:
            yield stream


def _mismatch(path: Path, compression: str, packing: str) -> str:
    if not packing:
        return f"is not a {COMPRESSIONS[compression]} file. Name it {path.with_suffix('').name}, or pack it again."
    name = path.with_suffix(packing) if compression else path.with_name(path.name + packing)
    return f"is packed with {COMPRESSIONS[packing]}. Name it {name.name}."


def _unpacked(raw: BinaryIO, compression: str) -> Any:
    if compression == ".gz":
        return gzip.GzipFile(fileobj=raw, mode="rb")
    if compression == ".bz2":
        return bz2.BZ2File(raw)
    if compression == ".xz":
        return lzma.LZMAFile(raw)
    import pyarrow as pa

    return io.BufferedReader(pa.CompressedInputStream(raw, "zstd"))


@contextmanager
def _damage_explained(path: Path, compression: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as err:
        if isinstance(err, OSError) and err.errno is not None and err.filename is not None:
            raise
        problem = str(err).rstrip(".") or type(err).__name__
        raise DataError(f"{path} is damaged ({COMPRESSIONS[compression]}: {problem}). Copy or pack it again.") from err


@contextmanager
def packed(file: BinaryIO, compression: str) -> Iterator[BinaryIO]:
    """A stream whose content is written packed to `file`, which stays open. compression: as file_kind says it."""
    if compression == ".gz":
        stream: Any = gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0)
    elif compression == ".bz2":
        stream = bz2.BZ2File(file, "wb")
    elif compression == ".xz":
        stream = lzma.LZMAFile(file, "wb")  # noqa: SIM115 - closed below
    elif compression == ".zst":
        import pyarrow as pa

        stream = pa.CompressedOutputStream(pa.PythonFile(_StaysOpen(file), mode="w"), "zstd")
    else:
        yield file
        return
    with stream:
        yield stream


class _StaysOpen(io.RawIOBase):
    """A file for pyarrow, which closes what it writes to."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        return self._file.write(content)


@contextmanager
def seekable(path: Path) -> Iterator[BinaryIO | Path]:
    """The content of a file whose reader jumps about in it: the file, or what it unpacks to, on disk."""
    if not file_kind(path)[1]:
        yield path
        return
    with opened(path) as stream, tempfile.TemporaryFile() as unpacked:
        shutil.copyfileobj(stream, unpacked)
        unpacked.seek(0)
        yield unpacked
