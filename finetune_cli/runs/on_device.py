"""What of a config a device can do: how many rows at once, in which precision, and whether updates may be graphs."""

from __future__ import annotations

import logging

import torch
from accelerate import PartialState

from finetune_cli.config.fields import RunConfig
from finetune_cli.errors import ConfigError
from finetune_cli.training.device_settings import COMPILED_BY_SHAPE
from finetune_cli.training.precision import choose_precision

logger = logging.getLogger(__name__)

# Of training.trainer_args, those that change nothing in an update's own step.
OUTSIDE_THE_STEP = frozenset({"adam_beta1", "adam_beta2", "adam_epsilon", "lr_scheduler_kwargs", "tf32"})


def require_supported_on(device: torch.device, config: RunConfig) -> None:
    """Raise ConfigError for what a device that compiles each shape by itself cannot do."""
    settings = config.training
    if device.type not in COMPILED_BY_SHAPE:
        return
    wanted = {
        "packing": (settings.packing, "packed rows have ever new shapes, and each is compiled anew"),
        "micro_batch_tokens": (settings.micro_batch_tokens is not None, "its micro-batches have ever new shapes"),
        "compile": (settings.compile is True, "this device compiles by itself"),
        "gradient_checkpointing": (settings.gradient_checkpointing, "the compiler takes the repetition out again"),
    }
    refused = [f"training.{name}: {why}" for name, (is_wanted, why) in wanted.items() if is_wanted]
    if refused:
        raise ConfigError(f"{'; '.join(refused)}. Leave it out on {device.type}.")


def can_replay(config: RunConfig, mixed_precision: str) -> bool:
    """Whether updates may be CUDA graphs: one process, and nothing in an update that the host decides anew each time.

    fp16's scaler looks for overflows, packed rows have ever new shapes, recomputed layers put generators back, and
    what `training.trainer_args` asks for may be something that Trainer does in its own step.
    """
    settings = config.training
    by_host = settings.packing or settings.gradient_checkpointing or mixed_precision == "fp16"
    by_trainer = not OUTSIDE_THE_STEP.issuperset(settings.trainer_args)
    return settings.cuda_graphs and not by_host and not by_trainer and PartialState().num_processes == 1


def rows_at_once(config: RunConfig) -> int:
    """Rows that one device takes at once: as configured, or an equal share of the update."""
    share = -(-config.training.batch_size // PartialState().num_processes)
    chosen = config.training.micro_batch_size
    return share if chosen == "auto" else min(chosen, share)


def choose_mixed_precision(config: RunConfig, device: torch.device) -> str:
    settings, processes = config.training, PartialState().num_processes
    narrow = config.model.dtype != "fp32"
    mixed_precision, reason = choose_precision(settings.precision, device.type, narrow_weights=narrow)
    where = f"{processes} x {device.type}" if processes > 1 else str(device)
    logger.info("Loop %s on %s, %s (%s)", settings.loop, where, precision_in_words(config, mixed_precision), reason)
    return mixed_precision


def precision_in_words(config: RunConfig, mixed_precision: str) -> str:
    """`fp32`, or `fp32, frozen weights in bf16` where the body is kept in another format."""
    frozen = "" if config.model.dtype == "fp32" else f", frozen weights in {config.model.dtype}"
    return mixed_precision.replace("no", "fp32") + frozen
