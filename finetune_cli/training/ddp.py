"""How torch's DistributedDataParallel exchanges the gradients of our models."""

from __future__ import annotations

from accelerate.utils import DistributedDataParallelKwargs


def ddp_options(*, accumulates: bool) -> DistributedDataParallelKwargs:
    """Options for a model without buffers that change, and whose parameters all take part in each update.

    accumulates: an update may have several micro-batches.

    gradient_as_bucket_view: gradients lie in the buffers of the exchange, without a second copy. broadcast_buffers:
    encoders only have constant ones, positions for example. static_graph: the same parameters get a gradient each time,
    so DDP plans the exchange once; not with accumulation, where micro-batches before the last exchange nothing.
    """
    return DistributedDataParallelKwargs(
        gradient_as_bucket_view=True,
        broadcast_buffers=False,
        static_graph=not accumulates,
    )
