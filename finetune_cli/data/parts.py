"""A part of a split's rows as a source of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from finetune_cli.data.readers import BadRow, Row
from finetune_cli.data.source_files import Source


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
