"""What of a source's rows is used, and how: the settings that decide the tokenised rows, and reading by them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice

from finetune_cli.data.checks.rows import checked_rows
from finetune_cli.data.formats.row import BadRow, GoodRow, good_rows, id_columns
from finetune_cli.data.label_sets import Column
from finetune_cli.data.long_texts import LongTexts, kept_as
from finetune_cli.data.prepared import FORMAT
from finetune_cli.data.source_files import Source
from finetune_cli.errors import DataError
from finetune_cli.tasks import Kind

HEAD_ROWS = 1000  # in JSON Lines a row may leave a column out


@dataclass(frozen=True)
class TextSettings:
    """What of each row is used, and how it is encoded: everything beside data and tokenizer that decides the result.

    text: one or two columns. label: the label column, or the columns of several labels a row. labels: class names, or
    None to take them from train. kind: "classification", "multilabel" or "regression". id: data.id; see `row_id`.
    max_length: tokens, special ones included. truncation, long_texts: what is kept of longer rows; see TextEncoder.
    limit: rows to take of each split, or None for all.
    """

    text: tuple[str, ...]
    label: Column
    labels: tuple[str, ...] | None
    kind: Kind
    id: str | None
    max_length: int
    truncation: str
    limit: int | None
    long_texts: LongTexts = None

    @property
    def label_columns(self) -> tuple[str, ...]:
        return (self.label,) if isinstance(self.label, str) else self.label


def content_key(sources: Mapping[str, Source], settings: TextSettings, tokenizer: str) -> str:
    """SHA-256 of all that decides the prepared data; `tokenizer` is its fingerprint."""
    content = {
        "format": FORMAT,
        "splits": {split: source.fingerprint for split, source in sources.items()},
        "declared_labels": {split: source.label_names for split, source in sources.items()},
        "settings": asdict(settings) | {"long_texts": kept_as(settings.long_texts)},
        "tokenizer": tokenizer,
        "tokenizers": version("tokenizers"),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def wanted_rows(source: Source, settings: TextSettings, *, must_have_labels: bool) -> Iterator[GoodRow]:
    """The checked rows of a split, with the columns that the settings use. Raises DataError for bad ones."""
    required = dict.fromkeys(settings.label_columns, "data.label") if must_have_labels else {}
    required |= {settings.id: "data.id"} if settings.id else {}
    rows = source.open(_columns(source, settings))
    checked = checked_rows(rows, where=source.where, text=settings.text, required=required, id_column=settings.id)
    return islice(good_rows(checked), settings.limit)


def _columns(source: Source, settings: TextSettings) -> list[str]:
    """The columns to read. One that is not there would have all of them read, and the usual ids need not be there."""
    columns = [*settings.text, *settings.label_columns]
    if settings.id is not None:
        return [*columns, settings.id]
    first = next((row for row in source.open(None) if not isinstance(row, BadRow)), (0, {}))
    return [*columns, *(name for name in id_columns(None) if name in first[1])]


def train_texts(source: Source, settings: TextSettings) -> Iterator[str]:
    """All texts of a split, for training a vocabulary."""
    for _, values in wanted_rows(source, settings, must_have_labels=True):
        yield from (values[column] for column in settings.text)


def require_columns(source: Source, columns: Sequence[str], *, key: str) -> None:
    """Raise DataError when the first rows lack one of `columns`. key: the config's key that names them."""
    if not columns:
        return
    head = islice(good_rows(source.open(None)), HEAD_ROWS)
    present = list(dict.fromkeys(name for _, values in head for name in values))
    if missing := [name for name in columns if name not in present]:
        raise DataError(
            f"{source.where}: expected the {'columns' if len(missing) > 1 else 'column'} "
            f"{', '.join(map(repr, missing))}; found {', '.join(map(repr, present))}. Name yours in {key}."
        )


def column_names(source: Source) -> list[str]:
    """The columns of the first row."""
    return list(next(good_rows(source.open(None)))[1])
