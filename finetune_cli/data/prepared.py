"""Tokenised splits on disk, read lazily; written by data.writing.

One folder per content key: a folder per split with flat `.npy` arrays, the tokenizer's files, and `manifest.json`,
written last, which names every file with its size. A folder without a fitting manifest counts as absent.
N examples, T tokens of all examples together.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from finetune_cli.data.windows import TokenRows
from finetune_cli.errors import DataError
from finetune_cli.models.tokenizer import pad_token_id, padding_side
from finetune_cli.records.preparation import PrepareReport
from finetune_cli.tasks import Kind

logger = logging.getLogger(__name__)

FORMAT = 5  # to be raised when files or report change, and when the data checks find other things
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer"


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


@dataclass(frozen=True, kw_only=True)
class PreparedSplit(TokenRows):
    """One tokenised split.

    labels: int64 class numbers or float32 values (N,), of several labels a row int8 0 and 1 (N, C); None for a split
    without labels. ids: N ids, text or number.
    """

    name: str
    labels: np.ndarray | None
    ids: Sequence[Any]

    @property
    def num_rows(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int32 (N,)."""
        return np.diff(self.offsets).astype(np.int32)

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
    rows = (array("input_ids"), array("offsets"), types, side, edges)
    return PreparedSplit(*rows, name=folder.name, labels=labels, ids=ids)
