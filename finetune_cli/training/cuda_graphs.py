"""Recording what a piece of work launches on a CUDA device, as a graph that can be launched again at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Work = Callable[[], None]


class NumbersFilledIn(TorchDispatchMode):
    """A number that a model makes on the CPU and copies to the device is filled in there: a graph can hold no copy.

    DeBERTa does so with constants. What was computed on the device is never such a number: to fetch it is to wait for
    the device, which ends a recording.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if func is torch.ops.aten._to_copy.default and args[0].device.type == "cpu" and args[0].ndim == 0:
            device = torch.device(options.get("device") or "cpu")
            if device.type == self.device.type:
                number, dtype = args[0].item(), options.get("dtype") or args[0].dtype
                return torch.full((), number, dtype=dtype, device=device)
        return func(*args, **options)


class CudaRecorder:
    """Records on the current stream, which must be one of its own: `own_stream`.

    fill: see NumbersFilledIn; not for a compiled model, which would run without its compiler.
    """

    def __init__(self, device: torch.device, *, fill: bool) -> None:
        self.device = device
        self.fill = fill
        self.pool = torch.cuda.graph_pool_handle()  # one for all graphs: they run one after the other

    def record(self, work: Work) -> Work:
        self._make_room()
        with torch.cuda.device(self.device), NumbersFilledIn(self.device) if self.fill else nullcontext():
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads, such as a tracker's, may go on with what a recording thread may not do.
                graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
                work()
                graph.capture_end()
            except BaseException:
                self._end_broken(graph)
                raise
        return graph.replay

    def _make_room(self) -> None:
        """A graph's memory is its own. What the allocator keeps for the next pass is given back when room is short."""
        free, _ = torch.cuda.mem_get_info(self.device)
        if free < torch.cuda.memory_reserved(self.device):
            torch.cuda.empty_cache()

    def _end_broken(self, graph: torch.cuda.CUDAGraph) -> None:
        """A recording that failed can leave allocator and generator as if it went on."""
        try:
            graph.capture_end()
        except RuntimeError:
            with suppress(RuntimeError):
                torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), self.pool)
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(generator.clone_state())


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Do all work of the block on a stream of its own; on devices other than CUDA's nothing."""
    if device.type != "cuda":
        yield
        return
    stream, before = _stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(before)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        before.wait_stream(stream)


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all trainings of the process: libraries keep memory for each stream that they saw."""
    return torch.cuda.Stream(device)
