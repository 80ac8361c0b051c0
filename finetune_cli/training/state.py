"""The state of a training as Accelerate writes and reads it: weights, optimizer, scaler and generators."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors import safe_open
from safetensors.torch import load_file, load_model
from torch import nn
from torch.optim import Optimizer

from finetune_cli.errors import MissingError, RunFailedError
from finetune_cli.system.group import highest_of_all
from finetune_cli.training.device_settings import COMPILED_BY_SHAPE
from finetune_cli.training.generators import restore_own_generator, save_own_generator
from finetune_cli.training.manifest import files_below

WEIGHTS = "model.safetensors"


def use_bare_weight_names(accelerator: Accelerator) -> None:
    """Have save_state and load_state use the bare model's names, so that 2 processes' checkpoints continue on 1."""
    device = accelerator.device
    # safetensors knows no TPU, nor the cpu:0 that each of several CPU processes has.
    name = "cpu" if device.type in ("cpu", *COMPILED_BY_SHAPE) else str(device)

    def save(models: list[nn.Module], weights: list[dict[str, Any]], _directory: str) -> None:
        weights[:] = [
            _kept(accelerator.unwrap_model(model), accelerator.get_state_dict(model, unwrap=True)) for model in models
        ]
        if device.type == "xla":  # where all tensors have the address 0, and Accelerate would keep one of them
            weights[:] = [{key: value.cpu() for key, value in state.items()} for state in weights]

    def load(models: list[nn.Module], directory: str) -> None:
        while models:  # models left in the list would be loaded once more, by their wrapped names
            model = accelerator.unwrap_model(models.pop())
            if device.type == "xla":
                _load_without_addresses(model, Path(directory) / WEIGHTS)
            else:
                load_model(model, Path(directory) / WEIGHTS, strict=not _is_quantized(model), device=name)

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def _kept(model: nn.Module, weights: dict[str, Any]) -> dict[str, Any]:
    """The weights that a checkpoint holds: all, but of a quantized model what is trained. Its body is loaded anew."""
    if not _is_quantized(model):
        return weights
    return {name: weights[name] for name, weight in model.named_parameters() if weight.requires_grad}


def _is_quantized(model: nn.Module) -> bool:
    return any(not weight.is_floating_point() for weight in model.parameters())


def _load_without_addresses(model: nn.Module, file: Path) -> None:
    """As `load_model`, which finds the names that share a weight by its address in memory; on XLA there is none."""
    weights, parameters = load_file(file), dict(model.named_parameters(remove_duplicate=False))
    saved = {id(parameters[name]): value for name, value in weights.items() if name in parameters}
    shared = {name: saved[id(weight)] for name, weight in parameters.items() if id(weight) in saved}
    model.load_state_dict({**shared, **weights})


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether each process holds a part of the weights alone."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def least_bytes(optimizer: Optimizer) -> int:
    """The least that the state takes: the trainable weights, and with Adam two averages of each."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    copies = 3 if isinstance(optimizer, torch.optim.Adam) else 1
    return copies * sum(parameter.numel() * parameter.element_size() for parameter in parameters)


@contextmanager
def failing_together(accelerator: Accelerator, *, at_once: bool = False) -> Iterator[None]:
    """All processes leave the block together; when it fails in one, it fails in all, so that none waits for ever.

    at_once: a block in which the processes exchange data. The others are in the middle of that and cannot be told; the
    end of this process ends them, through the lost connection or the launcher.
    """
    problem: Exception | None = None
    try:
        yield
    except Exception as err:
        if at_once:
            raise
        problem = err
    if highest_of_all(int(problem is not None), accelerator) and problem is None:
        problem = RunFailedError("Another process could not write its part of the checkpoint.")
    if problem is not None:
        raise problem


def require_every_weight(directory: Path, accelerator: Accelerator) -> None:
    """Raise RunFailedError when a weight of the model is not in the checkpoint: it would be lost, hours from now.

    What is saved under another name counts (tied weights are the same numbers).
    """
    with safe_open(directory / WEIGHTS, "pt") as file:
        saved = set(file.keys())
    for model in accelerator._models:
        weights = _kept(accelerator.unwrap_model(model), accelerator.unwrap_model(model).state_dict())
        kept = {(value.data_ptr(), value.shape) for name, value in weights.items() if name in saved}
        kept = {(address, shape) for address, shape in kept if address}  # XLA has none
        lost = [
            name
            for name, value in weights.items()
            if name not in saved and value.numel() and (value.data_ptr(), value.shape) not in kept
        ]
        if lost:
            raise RunFailedError(
                f"{directory.parent}: a checkpoint would lack {len(lost)} weights of the model, first {lost[0]!r}, so "
                f"that the run could neither go on nor be saved. Nothing is trained further; take a model of another "
                f"type."
            )


def save_state(accelerator: Accelerator, directory: Path) -> None:
    """Write the state into a directory; called by all processes together. Raises OSError when the disk is full."""
    own_checksums = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)  # half of torch.save's time; the manifest has ours
    try:
        accelerator.save_state(str(directory))
        save_own_generator(directory, accelerator.device)
    except RuntimeError:
        _raise_disk_error(directory)
        raise
    finally:
        torch.serialization.set_crc32_options(own_checksums)


def load_state(accelerator: Accelerator, directory: Path) -> None:
    """Bring everything back to where it was when `directory` was written.

    Raises MissingError when a file holds more than tensors and numbers: loading it could run code.
    """
    try:
        accelerator.load_state(str(directory))
    except pickle.UnpicklingError as err:
        raise MissingError(
            f"The checkpoint {directory} cannot be used: a file in it was not written by a training run, and loading "
            f"it could run code. Take another checkpoint with --resume PATH, or start anew with --overwrite."
        ) from err
    restore_own_generator(directory, accelerator.device)


def _raise_disk_error(directory: Path) -> None:
    """torch's writer does not say why it failed: write more than it could, and let that say it."""
    block = bytes(2**20)
    largest = max((file.stat().st_size for file in files_below(directory)), default=0)
    with (directory / "probe").open("wb") as file:
        for _ in range(1 + -(-largest // len(block))):
            file.write(block)
