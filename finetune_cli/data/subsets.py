"""Some of a source's rows as a source of its own: a part, the first ones, or those with a label."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any

from finetune_cli.data.formats.row import BadRow, Row
from finetune_cli.data.label_sets import Column, label_cell, label_columns
from finetune_cli.data.source_files import Source
from finetune_cli.errors import DataError


def part_of(train: Source, name: str, choice: str, keeps: Callable[[int], bool]) -> Source:
    """The rows of `train` whose number is kept, in their order and with their numbers.

    name: of the part. choice: equal when the kept rows are.
    """

    def open_part(columns: Sequence[str] | None) -> Iterator[Row]:
        for row in train.open(columns):
            if isinstance(row, BadRow) or keeps(row[0]):
                yield row

    return Source(
        f"{train.where} (part {name})",
        f"{train.fingerprint}:part:{choice}:{name}",
        open_part,
        train.label_names,
        left_out=train.left_out if name == "train" else None,
    )


def first_rows(source: Source, limit: int) -> Source:
    """The first `limit` rows."""
    return replace(
        source,
        fingerprint=f"{source.fingerprint}:first:{limit}",
        open=lambda columns: islice(source.open(columns), limit),
    )


def labelled_only(
    source: Source, *, label: Column, unlabelled: Callable[[Any], bool], may_lack_all: bool = False
) -> Source:
    """The source without the rows whose label cell is `unlabelled`; the others keep their numbers.

    may_lack_all: of a test split, which stays as it is when no row has a label: it can be predicted.
    Raises DataError, when it is opened, where no row is left.
    """
    columns = label_columns(label)

    def lacks_label(row: Row) -> bool:
        return not isinstance(row, BadRow) and unlabelled(label_cell(row[1], label))

    @cache
    def counted() -> tuple[int, int]:
        """Rows without a label, and all rows."""
        lacking = total = 0
        for row in source.open(columns):
            lacking += lacks_label(row)
            total += 1
        return lacking, total

    def left_out() -> int:
        lacking, total = counted()
        return 0 if may_lack_all and lacking == total else lacking

    def open_labelled(needed: Sequence[str] | None) -> Iterator[Row]:
        lacking, total = counted()
        if not left_out():
            return source.open(needed)
        if lacking == total:
            raise DataError(
                f"{source.where}, {', '.join(columns)}: none of the {total} rows has a label, so that data.unlabelled: "
                f"drop leaves nothing. Is data.label the right column?"
            )
        wanted = None if needed is None else list(dict.fromkeys([*needed, *columns]))
        return (row for row in source.open(wanted) if not lacks_label(row))

    return replace(source, fingerprint=f"{source.fingerprint}:labelled", open=open_labelled, left_out=left_out)
