"""Logits for tokenised rows: batches sized by tokens, results in the order of the data, each row exactly once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import DistributedType
from torch import nn

from finetune_cli.data.batching import few_widths, pad_rows
from finetune_cli.data.windows import TokenRows
from finetune_cli.evaluation.window_pooling import pool_windows
from finetune_cli.models.ready_mask import form_of_mask
from finetune_cli.system import xla
from finetune_cli.training.device_settings import TENSOR_CORE_MULTIPLE, choose_device_settings
from finetune_cli.training.placing import to_device
from finetune_cli.training.readings import start_copy

CPU_TOKENS_PER_BATCH = 2048  # measured best on 2 cores: 4.2 s for 600 MRPC pairs where 32 rows a batch take 6.0 s
DEVICE_TOKENS_PER_BATCH = 32768
BATCHES_AHEAD = 1  # the device works on one batch while the logits of the one before are fetched

Part = tuple[np.ndarray, np.ndarray]  # row numbers, and their logits


def token_batches(lengths: np.ndarray, tokens_per_batch: int) -> Iterator[np.ndarray]:
    """Row numbers by falling length, in batches that hold at most that many tokens once padded."""
    return _by_length(lengths, lambda longest: max(1, tokens_per_batch // max(1, longest)))


def _by_length(lengths: np.ndarray, rows_beside: Callable[[int], int]) -> Iterator[np.ndarray]:
    """Row numbers by falling length. rows_beside: how many go into a batch whose longest row has so many tokens."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        count = rows_beside(int(lengths[order[start]]))
        yield order[start : start + count]
        start += count


@dataclass(frozen=True)
class FewShapes:
    """Batches of few shapes, for devices that compile each anew: a few widths, and for each one number of rows.

    max_length: tokens that a row can have. num_rows: of all rows, so that few of them make small batches. The numbers
    of rows are powers of two, filled up to a multiple of the chips.
    """

    max_length: int
    num_rows: int
    tokens_per_batch: int

    def rows(self, width: int) -> int:
        fitting = max(1, self.tokens_per_batch // width)
        return xla.filled_up(min(1 << (fitting.bit_length() - 1), 1 << (self.num_rows - 1).bit_length()))

    def batches(self, lengths: np.ndarray) -> Iterator[np.ndarray]:
        """Row numbers by falling length; the last batch may have fewer rows than its width asks for."""
        return _by_length(lengths, lambda longest: self.rows(few_widths(longest, self.max_length)))

    def full(self, rows: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, int]:
        """The rows filled up with the last one, whose answers are not asked for, and their width."""
        width = few_widths(int(lengths[rows].max()), self.max_length)
        return np.pad(rows, (0, self.rows(width) - len(rows)), mode="edge"), width


def predict_logits(
    model: nn.Module,
    encoded: TokenRows,
    *,
    pad_token_id: int,
    device: torch.device,
    max_length: int | None = None,
    accelerator: Any = None,
    check: Callable[[], None] | None = None,
    autocast: torch.dtype | None = None,
    max_tokens: int | None = None,
) -> np.ndarray:
    """float32 logits (N, C) of all rows, in their order, on every process.

    With an `accelerator` of several processes each runs its share of the batches and all get the whole. `check` is
    called after each batch, the same number of times on every process; it may raise to stop. autocast: the type to
    compute in, None for the weights' own. max_length: tokens that a piece can have, not only among these.
    max_tokens: of a batch, padding included, where that is fewer than usual.
    """
    pieces = encoded.pieces
    lengths = pieces.piece_tokens
    settings = choose_device_settings(device.type, precision="auto", mixed_precision="no", compile_model=False)
    multiple = min(settings.width_multiple, TENSOR_CORE_MULTIPLE)  # only what is recorded wants fewer widths
    usual = CPU_TOKENS_PER_BATCH if device.type == "cpu" else DEVICE_TOKENS_PER_BATCH
    at_once = min(usual, max_tokens or usual)
    few = FewShapes(max_length or int(lengths.max()), len(lengths), at_once) if settings.few_widths else None
    widths = -(-lengths // multiple) * multiple if max_tokens else lengths
    batches = list(few.batches(lengths) if few else token_batches(widths, at_once))
    # A sharded model gathers its weights in each forward pass, so every process has to make the same number of passes.
    sharded = accelerator is not None and accelerator.distributed_type == DistributedType.FSDP
    mask = form_of_mask(model, ready=settings.ready_mask and not sharded, always=settings.few_widths)

    def start(rows: np.ndarray) -> Callable[[], torch.Tensor]:
        filled, width = few.full(rows, lengths) if few else (rows, None)
        inputs = pad_rows(
            encoded, filled, pad_token_id=pad_token_id, multiple_of=multiple, length=width, ready_mask=mask
        )
        tensors = to_device({name: torch.from_numpy(values) for name, values in inputs.items()}, device)
        return start_copy(model(**tensors).logits.float())

    model.eval()
    with (
        torch.no_grad() if sharded or device.type == "xla" else torch.inference_mode(),  # XLA cannot slice its tensors
        torch.autocast(device.type, dtype=autocast, enabled=autocast is not None),
    ):
        parts = _answered(start, batches, accelerator, in_step=sharded, check=check)
    if accelerator is not None and accelerator.num_processes > 1:
        parts = accelerator.gather_for_metrics(parts, use_gather_object=True)
    return pool_windows(_in_order(parts, len(lengths)), pieces)


def _answered(
    start: Callable[[np.ndarray], Callable[[], torch.Tensor]],
    batches: list[np.ndarray],
    accelerator: Any,
    *,
    in_step: bool,
    check: Callable[[], None] | None,
) -> list[Part]:
    """The batches of this process, each started while the one before is fetched.

    in_step: start one row where the others have a batch more.
    """
    processes, index = (1, 0) if accelerator is None else (accelerator.num_processes, accelerator.process_index)
    mine = batches[index::processes]
    parts: list[Part] = []
    started: deque[tuple[np.ndarray, Callable[[], torch.Tensor]]] = deque()
    for turn in range(-(-len(batches) // processes)):
        if turn < len(mine):
            started.append((mine[turn], start(mine[turn])))
        elif in_step:
            start(batches[0][:1])
        if len(started) > BATCHES_AHEAD:
            parts.append(_fetched(*started.popleft()))
        if check is not None:
            check()
    return parts + [_fetched(*batch) for batch in started]


def _fetched(rows: np.ndarray, fetch: Callable[[], torch.Tensor]) -> Part:
    return rows, fetch().numpy()[: len(rows)]


def _in_order(parts: list[Part], num_rows: int) -> np.ndarray:
    """Put the batches' logits back in the order of the data; each row must be there exactly once."""
    rows = np.concatenate([rows for rows, _ in parts])
    logits = np.concatenate([values for _, values in parts])
    assert np.array_equal(np.sort(rows), np.arange(num_rows)), "a row is missing or was scored twice"
    ordered = np.empty_like(logits)
    ordered[rows] = logits
    return ordered
