"""Sharding: whether the launcher or the config asks for it, and what of DeepSpeed is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from accelerate.utils import parse_flag_from_env

from finetune_cli.config.fields import RunConfig
from finetune_cli.errors import ConfigError

FSDP_INSTEAD = "Use FSDP 2: accelerate launch --config_file configs/accelerate/fsdp.yaml -m finetune_cli train CONFIG"


def require_supported_launch(config: RunConfig) -> None:
    """Raise ConfigError for weights that cannot be sharded, and for DeepSpeed where it would train another model than
    one process does, or hang.

    In the Accelerate loop its engine steps at each micro-batch, not at each update. With ZeRO stage 3 each forward pass
    gathers weights, and processes that score a different number of batches wait for each other for ever.
    """
    if config.model.dtype != "fp32" and is_sharded(config):
        raise ConfigError(
            f"model.dtype: {config.model.dtype} does not go with a sharded model, whose weights are all of one format. "
            f"Set it to fp32, or train without FSDP and DeepSpeed."
        )
    in_config = config.training.trainer_args.get("deepspeed")
    if not (in_config or parse_flag_from_env("ACCELERATE_USE_DEEPSPEED")):
        return
    if config.training.loop == "accelerate":
        raise ConfigError(
            f"DeepSpeed is not supported in training.loop: accelerate. Use training.loop: trainer, or another way to "
            f"shard. {FSDP_INSTEAD}"
        )
    if _zero_stage(in_config) == 3:
        raise ConfigError(f"DeepSpeed's ZeRO stage 3 is not supported: scoring can hang. {FSDP_INSTEAD}")


def is_sharded(config: RunConfig) -> bool:
    """Whether the config or the launcher asks for FSDP or DeepSpeed."""
    arguments = config.training.trainer_args
    return bool(arguments.get("fsdp") or arguments.get("deepspeed")) or any(
        parse_flag_from_env(f"ACCELERATE_USE_{name}") for name in ("FSDP", "DEEPSPEED")
    )


def _zero_stage(in_config: Any) -> int | None:
    """The stage that the config or the launcher asks for; None when neither says so."""
    settings = in_config or os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE")
    if isinstance(settings, str) and settings not in ("", "none"):
        try:
            settings = json.loads(Path(settings).read_text(encoding="utf-8"))
        except (OSError, ValueError) as err:
            raise ConfigError(f"DeepSpeed's settings in {settings} cannot be read: {err}.") from err
    if isinstance(settings, dict):
        zero = settings.get("zero_optimization")
        settings = zero.get("stage") if isinstance(zero, dict) else None
        if isinstance(settings, int):
            return settings
    stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "")
    return int(stage) if stage.isdecimal() else None
