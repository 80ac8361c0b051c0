"""Whole updates recorded as CUDA graphs, and replayed: one launch in place of one for each kernel.

The host takes several times as long to launch the kernels of a small encoder, one by one, as a modern GPU to compute
them. A graph holds all kernels of an update with their operands' addresses, so what changes between updates lies at
fixed places: the batch and the learning rate are copied there, and loss and norm are read from there. Updates of other
shapes are other graphs (https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/). Dropout stays right: a graph
takes the generator's state when it is replayed, and moves it on as the kernels would have done one by one.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from finetune_cli.training.cuda_graphs import CudaRecorder, Work
from finetune_cli.training.guards import bare_optimizer, step_can_scale
from finetune_cli.training.placing import to_device
from finetune_cli.training.update import MicroBatches, Update

logger = logging.getLogger(__name__)

MOST_GRAPHS = 64  # each takes time to record, and memory; updates of further shapes go without
NOT_A_SHAPE = frozenset({"num_tokens"})  # what only packing looks at, which is not replayed


@dataclass(frozen=True, eq=False)
class _Recorded:
    """batches: where the tensors of an update of this shape have to lie."""

    batches: list[dict[str, Any]]
    launch: Work

    def replay(self, micro_batches: MicroBatches) -> None:
        for places, batch in zip(self.batches, micro_batches, strict=True):
            for name, place in places.items():
                if isinstance(place, Tensor):
                    place.copy_(batch[name], non_blocking=True)
        self.launch()


class ReplayedUpdates:
    """Calls like the update that it is given, and does the same.

    The first update makes the optimizer's state and is no graph. Every later one is replayed, from the first of its
    shape on, so that a continued run does what the other did. A model that cannot be recorded goes on without, and that
    is said once. A graph has the learning rate in float32, and so has an update without one: which of them an update is
    must not be seen in the weights. loss and norm of an update are overwritten by the next.
    """

    def __init__(self, update: Update, recorder: CudaRecorder) -> None:
        self.update, self.recorder = update, recorder
        self.device = update.accelerator.device
        self.optimizer: Optimizer = bare_optimizer(update.optimizer)
        self.rates = [torch.zeros((), device=self.device) for _ in self.optimizer.param_groups]
        self.loss, self.grad_norm = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        self.recorded: dict[Hashable, _Recorded] = {}
        self.given_up = False

    def __call__(self, micro_batches: MicroBatches) -> tuple[Tensor, Tensor]:
        recorded = self._of_this_shape(micro_batches)
        if recorded is None:
            rounded = [float(np.float32(group["lr"])) for group in self.optimizer.param_groups]
            with self._rates(rounded, capturable=False):
                return self.update(micro_batches)
        for place, group in zip(self.rates, self.optimizer.param_groups, strict=True):
            place.fill_(group["lr"])
        recorded.replay(micro_batches)
        return self.loss, self.grad_norm

    def _of_this_shape(self, micro_batches: MicroBatches) -> _Recorded | None:
        shape = tuple(map(_shape, micro_batches))
        if shape not in self.recorded:
            if self.given_up or not self.optimizer.state or len(self.recorded) >= MOST_GRAPHS:
                return None
            try:
                self.recorded[shape] = self._record(micro_batches)
            except RuntimeError as err:  # running out of memory is one, too
                self._give_up(str(err).partition("\n")[0])
                return None
        return self.recorded[shape]

    def _record(self, micro_batches: MicroBatches) -> _Recorded:
        batches = [to_device(batch, self.device) for batch in micro_batches]
        batches = [{name: _own_copy(value) for name, value in batch.items()} for batch in batches]
        self._warm_up(batches)

        def work() -> None:
            with self._rates(self.rates, capturable=True):
                loss, grad_norm = self.update(batches)
            self.loss.copy_(loss)
            self.grad_norm.copy_(grad_norm)

        known = len(self.optimizer.state)
        try:
            launch = self.recorder.record(work)
        finally:
            self.update.optimizer.zero_grad()
        if len(self.optimizer.state) != known:
            raise RuntimeError("a weight got its first gradient after the first update")
        return _Recorded(batches, launch)

    def _warm_up(self, batches: MicroBatches) -> None:
        """One pass that leaves weights and generators as they are: libraries choose kernels, compilers compile."""
        drawn = _host_generators()
        try:
            with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
                self.update.backward(batches)
                now = _host_generators()
        finally:
            self.update.optimizer.zero_grad()
        if now != drawn:
            random.setstate(drawn[1])
            np.random.set_state(drawn[2])
            raise RuntimeError("the model draws random numbers on the CPU")

    @contextmanager
    def _rates(self, rates: Sequence[Any], *, capturable: bool) -> Iterator[None]:
        """These learning rates for the block: numbers, or the places that a graph reads anew each time. The schedule's
        own numbers are put back."""
        kept = [(group["lr"], group["capturable"]) for group in self.optimizer.param_groups]
        for rate, group in zip(rates, self.optimizer.param_groups, strict=True):
            group["lr"], group["capturable"] = rate, capturable
        try:
            yield
        finally:
            for group, (rate, capturable) in zip(self.optimizer.param_groups, kept, strict=True):
                group["lr"], group["capturable"] = rate, capturable

    def _give_up(self, reason: str) -> None:
        self.given_up = True
        self.recorded.clear()  # also what they hold of the memory
        logger.info("Updates are not replayed as CUDA graphs, but launched kernel by kernel: %s", reason)


def _shape(batch: Mapping[str, Any]) -> Hashable:
    """All that decides which kernels a micro-batch launches: its tensors' forms, and numbers that the host computes
    with."""
    return tuple(
        (name, tuple(value.shape) if isinstance(value, Tensor) else value)
        for name, value in batch.items()
        if name not in NOT_A_SHAPE
    )


def _own_copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _host_generators() -> tuple[Any, ...]:
    """States of what a model may draw from without the device knowing: what a graph holds would be drawn once only."""
    name, numbers, *rest = cast("tuple[Any, ...]", np.random.get_state())
    return torch.get_rng_state().tolist(), random.getstate(), (name, numbers.tolist(), *rest)


def replayed(update: Update) -> Callable[[MicroBatches], tuple[Tensor, Tensor]]:
    """The update by way of CUDA graphs, or as it is where clipping and step need the host: another optimizer than a
    fused one, a scaler, weights in shards."""
    if step_can_scale(update.accelerator, bare_optimizer(update.optimizer)):
        compiled = any(module._compiled_call_impl is not None for module in update.model.modules())
        return ReplayedUpdates(update, CudaRecorder(update.accelerator.device, fill=not compiled))
    return update
