"""How many GPUs processes can take here, and what to say when these are too few or too many."""

from __future__ import annotations

import logging
import os
from functools import cache

from finetune_cli.errors import ConfigError
from finetune_cli.system import xla
from finetune_cli.system.cpus import only_cpus_are_wanted

logger = logging.getLogger(__name__)


def visible_gpus() -> int:
    """The GPUs that a process may use: those that CUDA_VISIBLE_DEVICES hides are not counted; none when told so."""
    import torch

    if only_cpus_are_wanted():
        return 0
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def require_a_device_for_each(processes: int) -> None:
    """Raise ConfigError when so many processes of this machine would share GPUs: NCCL refuses that, much later.

    Without any GPU the processes share the CPUs. On a TPU one process is all there is.
    """
    xla.require_one_process(processes)
    gpus = visible_gpus()
    if not gpus or processes <= gpus:
        return
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = "" if variable is None else f" (CUDA_VISIBLE_DEVICES={variable})"
    are = "1 is" if gpus == 1 else f"{gpus} are"
    fitting = f"--num-processes {gpus}" if gpus > 1 else "one process: no --num-processes"
    raise ConfigError(
        f"{processes} processes need {processes} GPUs, and {are} visible here{hidden}. Start {fitting}, or train on "
        "the CPUs: ACCELERATE_USE_CPU=true."
    )


@cache
def mention_idle_gpus() -> None:
    """Say once that a process on its own trains on one GPU, when there are more, and what to type for all of them."""
    if (gpus := visible_gpus()) > 1:
        logger.info("Training on 1 of %d GPUs. To use all of them: --num-processes %d", gpus, gpus)
