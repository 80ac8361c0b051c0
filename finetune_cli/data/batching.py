"""Batches of tokenised rows, padded, as tensors: the same for both loops and for any number of processes.

A piece is a row, or a window of one; see data.windows. Letters: M pieces of one micro-batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from finetune_cli.data.order import MicroBatch, RowOrder, split_update
from finetune_cli.data.windows import TokenRows

CHUNK_TOKENS = 1 << 20  # of a memory map that may be larger than memory

FEW_WIDTHS = (32, 64, 96, 128, 192, 256, 384, 512)  # from 64 on, at most a third of a row is padding


class UpdateSampler(Sampler[list[MicroBatch]]):
    """The updates of an epoch, each as the micro-batches of one process; `set_epoch` before each pass.

    rows: the ones that `order` is of. max_tokens: of a micro-batch, padding included. at_least: a short update is
    filled up to so many micro-batches, with such that do not count.
    """

    def __init__(
        self,
        order: RowOrder,
        rows: TrainingRows,
        *,
        micro_batch_size: int,
        max_tokens: int | None = None,
        at_least: int = 0,
        num_processes: int = 1,
        process_index: int = 0,
    ) -> None:
        self.order = order
        self.rows = rows
        self.at_least = at_least
        self.split = partial(
            split_update,
            micro_batch_size=micro_batch_size,
            max_tokens=max_tokens,
            num_processes=num_processes,
            process_index=process_index,
        )
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.order.updates_per_epoch

    def __iter__(self) -> Iterator[list[MicroBatch]]:
        yield from map(self.micro_batches, self.order.epoch(self.epoch))

    def micro_batches(self, rows: np.ndarray) -> list[MicroBatch]:
        """This process's part of an update on these rows."""
        pieces = self.rows.pieces.of_rows(rows)
        found = list(self.split(pieces, self.rows.widths(pieces), update_rows=len(rows)))
        idle = MicroBatch(pieces[:1], num_valid=0, update_rows=len(rows))
        return found + [idle] * (self.at_least - len(found))


def pad_rows(
    encoded: TokenRows,
    pieces: Sequence[int] | np.ndarray,
    *,
    pad_token_id: int,
    multiple_of: int = 1,
    length: int | None = None,
    ready_mask: bool | Literal["always"] = False,
) -> dict[str, np.ndarray]:
    """Model inputs for some pieces, padded on their side: int64 (M, T) `input_ids`, `attention_mask`, `token_type_ids`.

    T is the longest of them rounded up to `multiple_of`, or `length` when given (static shapes). ready_mask: the
    mask as attention takes it, bool (M, 1, 1, T), and none when nothing is padded: transformers asks the device for
    that otherwise, and waits for the answer. For models that `models.ready_mask` accepts. "always": also when nothing
    is padded, for devices to which that would be another graph.
    """
    pieces, cut = np.asarray(pieces), encoded.pieces
    lengths = cut.lengths(pieces)
    width = length or -(-int(lengths.max()) // multiple_of) * multiple_of
    columns = np.arange(width)
    firsts = width - lengths if encoded.padding_side == "left" else np.zeros_like(lengths)
    places = columns - firsts[:, None]
    is_token = (places >= 0) & (places < lengths[:, None])
    source = cut.places(pieces, places)[is_token]
    inputs = {"input_ids": np.full(is_token.shape, pad_token_id, np.int64)}
    if not ready_mask:
        inputs["attention_mask"] = is_token.astype(np.int64)
    elif ready_mask == "always" or not is_token.all():
        inputs["attention_mask"] = is_token[:, None, None, :]
    inputs["input_ids"][is_token] = encoded.input_ids[source]
    if encoded.token_type_ids is not None:
        inputs["token_type_ids"] = np.zeros(is_token.shape, np.int64)
        inputs["token_type_ids"][is_token] = encoded.token_type_ids[source]
    return inputs


def used_tokens(encoded: TokenRows, pad_token_id: int) -> torch.Tensor:
    """The token ids, in order, that occur in some row, and the one of padding; int64 (U,)."""
    seen = np.zeros(0, bool)
    for start in range(0, len(encoded.input_ids), CHUNK_TOKENS):
        ids = encoded.input_ids[start : start + CHUNK_TOKENS]
        seen = np.pad(seen, (0, max(0, int(ids.max()) + 1 - len(seen))))
        seen[ids] = True
    return torch.from_numpy(np.union1d(np.flatnonzero(seen), pad_token_id))


def few_widths(longest: int, limit: int) -> int:
    """The width for rows of up to `longest` tokens, one of a few, for compilers that translate each shape anew.

    limit: tokens that a row can have at most; a width never exceeds it.
    """
    step = FEW_WIDTHS[-1]
    return min(limit, next((width for width in FEW_WIDTHS if width >= longest), -(-longest // step) * step))


class TrainingRows(Dataset[list[dict[str, Any]]]):
    """Tokenised, labelled rows that are fetched an update at a time: micro-batches of tensors ready for the objective.

    static_limit: pad to one of a few widths, at most so many tokens. num_rows: fill a short micro-batch up to so many
    pieces, with such that do not count. ready_mask: see pad_rows.
    """

    def __init__(
        self,
        encoded: TokenRows,
        labels: np.ndarray,
        *,
        pad_token_id: int,
        multiple_of: int = 1,
        length: int | None = None,
        static_limit: int | None = None,
        num_rows: int | None = None,
        ready_mask: bool | Literal["always"] = False,
    ) -> None:
        self.pieces = encoded.pieces
        self.multiple_of = multiple_of
        self.labels = labels
        self.length = length
        self.static_limit = static_limit
        self.num_rows = num_rows
        self.pad = partial(pad_rows, encoded, pad_token_id=pad_token_id, multiple_of=multiple_of, ready_mask=ready_mask)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, update: Sequence[MicroBatch]) -> list[dict[str, Any]]:
        """With `static_limit` all micro-batches of the update have the width of the widest."""
        longest = max(int(self.pieces.lengths(one.pieces).max()) for one in update) if self.static_limit else 0
        return [self.micro_batch(one, longest=longest) for one in update]

    def micro_batch(self, micro_batch: MicroBatch, *, longest: int = 0) -> dict[str, Any]:
        """Inputs (M, T), `labels` (M,), of windows their `weights` (M,), how many pieces count here and rows in the
        whole update, and the tokens here. longest: tokens for which there is to be room, too.

        With `static_limit` all pieces count, those that fill up with weight 0: their number would be another shape.
        """
        pieces = micro_batch.pieces
        if self.num_rows is not None and len(pieces) < self.num_rows:
            pieces = np.pad(pieces, (0, self.num_rows - len(pieces)), mode="edge")  # the last again: no wider
        lengths = self.pieces.lengths(pieces)
        inputs = self.pad(pieces, length=self._width(max(longest, int(lengths.max()))))
        batch: dict[str, Any] = {name: torch.from_numpy(values) for name, values in inputs.items()}
        batch["labels"] = torch.from_numpy(np.asarray(self.labels[self.pieces.rows(pieces)]))
        weights, num_valid = self.pieces.weights(pieces), micro_batch.num_valid
        if self.static_limit is not None:
            counts = (np.arange(len(pieces)) < num_valid).astype(np.float32)
            weights, num_valid = counts if weights is None else counts * weights, len(pieces)
        if weights is not None:
            batch["weights"] = torch.from_numpy(weights)
        sizes = {"num_valid": num_valid, "update_rows": micro_batch.update_rows}
        return batch | sizes | {"num_tokens": int(lengths.sum())}

    def _width(self, longest: int) -> int | None:
        if self.length is not None or self.static_limit is None:
            return self.length
        return few_widths(longest, self.static_limit)

    def widths(self, pieces: np.ndarray) -> np.ndarray:
        """The tokens of each piece when it is the longest of its micro-batch, padding included."""
        if self.length is not None:
            return np.full(len(pieces), self.length)
        return -(-self.pieces.lengths(pieces) // self.multiple_of) * self.multiple_of


class EpochLoader(DataLoader[list[dict[str, Any]]]):
    """A DataLoader over updates, each a list of micro-batches; `set_epoch` reaches the sampler, and no global generator
    is drawn from."""

    def __init__(self, sampler: UpdateSampler, *, pin_memory: bool = False) -> None:
        # A generator of its own: DataLoader draws a seed from the global one at each pass otherwise, and dropout after
        # a resume would differ.
        super().__init__(
            sampler.rows,
            batch_sampler=sampler,  # yields lists of MicroBatch, which TrainingRows takes as a whole
            collate_fn=lambda batch: batch,
            generator=torch.Generator(),
            pin_memory=pin_memory,
        )

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
