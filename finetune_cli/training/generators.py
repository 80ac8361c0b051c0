"""The generators of random numbers that Accelerate neither seeds nor saves: of Apple's GPUs, and of TPUs."""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate.utils import set_seed

from finetune_cli.system import xla

LEFT_OUT = ("mps", "tpu")  # torch.mps and torch.tpu hold the generator of the one device of a process


def seed_generators(seed: int, device: torch.device, *, device_specific: bool = False) -> None:
    """Seed all that a training draws from. device_specific: each process of a group draws numbers of its own."""
    set_seed(seed, device_specific=device_specific)
    if device.type == "xla":
        xla.seed_generator(seed)


def save_own_generator(directory: Path, device: torch.device) -> None:
    """Into a checkpoint, for a device whose generator Accelerate leaves out; such a device has one process."""
    if device.type == "xla":
        state = xla.generator_state()
    elif device.type in LEFT_OUT:
        state = torch.get_device_module(device.type).get_rng_state()
    else:
        return
    torch.save(state, _file(directory, device))


def restore_own_generator(directory: Path, device: torch.device) -> None:
    """Put back what was saved; nothing for a checkpoint that another kind of device wrote."""
    if not (file := _file(directory, device)).is_file():
        return
    state = torch.load(file, weights_only=True)
    if device.type == "xla":
        xla.restore_generator(state)
    else:
        torch.get_device_module(device.type).set_rng_state(state)


def _file(directory: Path, device: torch.device) -> Path:
    return directory / f"{device.type}_generator.bin"
