"""Rows of Parquet files, and what their schema says of the classes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune_cli.data.formats.file_kinds import seekable
from finetune_cli.data.formats.row import Row
from finetune_cli.errors import DataError, first_line

BATCH_ROWS = 2048
FEATURES_KEY = b"huggingface"  # where `datasets` writes the features of a table


def read_parquet(path: Path, columns: Sequence[str] | None) -> Iterator[Row]:
    """Rows of a Parquet file, of which only the needed columns are read."""
    with _opened(path) as file:
        present = file.schema_arrow.names
        if twice := next((name for name in present if present.count(name) > 1), None):
            raise DataError(f"{path}: the column name {twice!r} occurs twice. Rename one.")
        wanted = needed_columns(present, columns)
        row = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
            yield from enumerate(batch.to_pylist(), start=row)
            row += batch.num_rows


def parquet_features(path: Path) -> dict[str, Any]:
    """The features that the datasets library wrote into the schema; none when another program made the file."""
    with _opened(path) as file:
        stored = (file.schema_arrow.metadata or {}).get(FEATURES_KEY)
    try:
        features = json.loads(stored)["info"]["features"] if stored else {}
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def declared_names(features: dict[str, Any], column: str) -> tuple[str, ...] | None:
    """The class names that a data set declares for a column, also where each row has a list of classes."""
    feature = features.get(column)
    if isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
        feature = feature["feature"]
    names = feature.get("names") if isinstance(feature, dict) else None
    return tuple(names) if names else None


def needed_columns(present: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    """Those of `columns` that are there; all when one is missing, so that a message can name what was found."""
    return [name for name in present if columns is None or name in columns or not set(columns) <= set(present)]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with seekable(path) as source, parquet.ParquetFile(source) as file:
            yield file
    except (pa.ArrowException, OSError) as err:
        raise DataError(f"{path} is not a Parquet file or is damaged: {first_line(err)}. Write it again.") from err
