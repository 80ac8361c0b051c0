"""How much memory training takes: weights, gradients, moments of the optimizer, and activations.

    weights      what the parameters and buffers take, each in its format
    gradients    one number in the format of each trained weight
    optimizer    two such numbers with AdamW and its kind, one with others
    activations  what autograd keeps of a micro-batch for the backward pass

The first three are counted. The last is counted for one row and for two of the longest length, in real forward passes,
and continued in a straight line: it grows with the rows. With recomputed activations only the layers' inputs are kept,
and the rest of one layer at a time (https://arxiv.org/abs/1604.06174).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from finetune_cli.records.training import MemoryEstimate


def estimate_memory(
    model: nn.Module,
    optimizer: Optimizer,
    kept_for: Callable[[int], int],
    *,
    rows: int,
    layers_recomputed: tuple[int, Callable[[int], int]] | None = None,
    program: int,
) -> MemoryEstimate:
    """kept_for: the bytes that autograd keeps of so many rows, see `kept_bytes`. rows: of a micro-batch.

    layers_recomputed: how many layers there are, and the same count without recomputing. program: bytes that the
    process takes without all this; 0 on a device of its own.
    """
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = sum(parameter.numel() * parameter.element_size() for parameter in trained)
    activations = _of_rows(kept_for, rows)
    if layers_recomputed is not None:
        layers, kept_of_all = layers_recomputed
        activations += max(0, _of_rows(kept_of_all, rows) - activations) // layers
    return MemoryEstimate(
        program=program,
        weights=_bytes_of(_tensors(model)),
        gradients=gradients,
        optimizer=gradients * (2 if isinstance(optimizer, Adam) else 1),  # torch's AdamW is an Adam
        activations=activations,
    )


def _of_rows(kept_for: Callable[[int], int], rows: int) -> int:
    """Some of what is kept does not grow with the rows: weights that mixed precision has made narrower."""
    of_one = kept_for(1)
    return of_one if rows == 1 else of_one + (rows - 1) * (kept_for(2) - of_one)


def kept_bytes(model: nn.Module, run: Callable[[], Tensor]) -> int:
    """The bytes that autograd keeps for the backward pass of what `run` computes; the model's own weights are left out.

    A tensor that is kept several times, or in several views, counts once.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in _tensors(model)}
    kept: dict[int, Tensor] = {}  # by their place, and held so that no other tensor takes it

    def keep(tensor: Tensor) -> Tensor:
        if (place := tensor.untyped_storage().data_ptr()) not in own:
            kept[place] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return _bytes_of(kept.values())


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    for module in model.modules():  # buffers, and tables that are held beside them
        yield from (value for value in {**vars(module), **module._buffers}.values() if isinstance(value, Tensor))


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
