"""The number format that a trained model answers in, for `evaluate` and `predict` alike."""

from __future__ import annotations

import torch

from finetune_cli.config.fields import RunConfig
from finetune_cli.training.device_settings import apply_device_settings, choose_device_settings
from finetune_cli.training.precision import inference_dtype


def prepare_to_answer(config: RunConfig | None, device: torch.device) -> torch.dtype | None:
    """Set up the device as for training, and return the type for autocast; None for the weights' own fp32.

    config: of the run that trained the model. A model without run (a Hub id or a directory) answers as
    `training.precision: auto` would train it.
    """
    requested = config.training.precision if config else "auto"
    settings = choose_device_settings(device.type, precision=requested, mixed_precision="no", compile_model=False)
    apply_device_settings(settings)
    narrow = config is not None and config.model.dtype != "fp32"
    return inference_dtype(requested, device.type, narrow_weights=narrow)
