"""torch_xla, which brings TPUs to torch: whether this process uses it, and all that is particular to it.

It collects operations, and compiles and runs them together when it is told to, anew for each shape. Accelerate and
transformers have modes of their own for it, made for one process on each chip: with one process they lose parameters,
skip no batches and gather nothing. Here an XLA device is a plain one, as a GPU is: both libraries are told that
torch_xla is not there (USE_TORCH_XLA=0), and Accelerate which device to take (ACCELERATE_TORCH_DEVICE). Several chips
of one host are one device, too: the rows of each batch are spread over them, the rest is the compiler's work (SPMD).
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_cli.errors import ConfigError, MissingError, first_line
from finetune_cli.system.cpus import only_cpus_are_wanted

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

SWITCH, RUNTIME, DEVICE = "USE_TORCH_XLA", "PJRT_DEVICE", "ACCELERATE_TORCH_DEVICE"
XLA = "xla:0"
OFF = ("0", "false", "no", "off")
GOOGLE = "0x1ae0"  # PCI vendor; its network cards are in every virtual machine of Google's
TPU_CHIPS = {"0x0027", "0x005e", "0x0063", "0x006f", "0x0076"}  # v2 to v7, as torch_xla knows them
PCI_DEVICES = Path("/sys/bus/pci/devices")
_mesh: list[Any] = []  # of the chips, once several of them are one device


def reason_for_xla() -> str | None:
    """Why this process uses torch_xla: it was asked to, or there is a TPU. None when it does not."""
    chosen = os.environ.get(DEVICE)
    if chosen is None and (_is_off() or not is_installed() or only_cpus_are_wanted()):
        return None
    if chosen not in (None, XLA):
        return None
    runtime = os.environ.get(RUNTIME)
    if runtime and (chosen or runtime != "CPU" or "torch_xla" not in sys.modules):  # which sets CPU when it is imported
        return f"{RUNTIME}={runtime}"
    return "there is a TPU" if chosen or _has_tpu() else None


def is_installed() -> bool:
    return importlib.util.find_spec("torch_xla") is not None


def settle() -> None:
    """Decide whether torch_xla is used, and say so. Call it before Accelerate or transformers are imported.

    A torch_xla that is installed and has no work here must not take a CPU's or a GPU's user with it.
    """
    if _is_off() or not is_installed():
        return
    if reason := reason_for_xla():
        logger.info("Using torch_xla: %s. To leave it: %s=0", reason, SWITCH)
        os.environ[DEVICE] = XLA
        os.environ.setdefault(RUNTIME, "TPU")
    else:
        logger.info("torch_xla is installed and not used: no TPU is here, and %s is not set.", RUNTIME)
    os.environ[SWITCH] = "0"


def in_use() -> bool:
    return os.environ.get(DEVICE) == XLA


def require_one_process(processes: int) -> None:
    """Raise ConfigError for several processes: one takes all chips of this host."""
    if processes > 1 and (reason := reason_for_xla()):
        raise ConfigError(
            f"{processes} processes on XLA ({reason}) are not supported, and not needed: one process uses all chips of "
            f"this host. Leave out --num-processes, --workers and the launcher, or use GPUs or CPUs: {SWITCH}=0."
        )


def start() -> torch.device:
    """Load torch_xla and return its device; several chips become one. Raises MissingError when there is none."""
    import torch

    if _mesh:
        return torch.device(XLA)
    _require_plain_libraries()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the compiler's warnings, one for each graph
    try:
        import torch_xla
        from torch_xla import runtime

        chips, hosts = runtime.addressable_runtime_device_count(), runtime.process_count()
        if chips > 1:
            runtime.use_spmd()
        torch_xla.device()
    except Exception as err:  # each device's plugin raises errors of its own: OSError without libtpu, as an example
        raise MissingError(
            f"torch_xla has no device here ({first_line(err)}). Set {RUNTIME} to what is there (TPU or CPU), or leave "
            f"torch_xla alone: {SWITCH}=0."
        ) from err
    if hosts > 1:
        raise ConfigError(
            f"{hosts} hosts share this TPU, and one host is supported. Take a slice of one host, or set {SWITCH}=0."
        )
    _mesh.append(_mesh_of(chips))
    return torch.device(XLA)


def _require_plain_libraries() -> None:
    imports = sys.modules.get("accelerate.utils.imports")
    if imports is not None and imports.is_torch_xla_available():
        raise ConfigError(
            "accelerate was imported before finetune_cli, and has taken XLA in its own way. Import finetune_cli first: "
            "from finetune_cli import train"
        )


def _mesh_of(chips: int) -> Any:
    if chips == 1:
        return None
    import numpy as np
    from torch_xla.distributed.spmd import Mesh

    return Mesh(np.arange(chips), (chips,), ("data",))


def hardware() -> str:
    """What XLA computes on: "TPU" or "CPU", several as "4 x TPU"."""
    from torch_xla import runtime

    chips = num_chips()
    return f"{chips} x {runtime.device_type()}" if chips > 1 else str(runtime.device_type())


def has_native_bf16() -> bool:
    return not hardware().endswith("CPU")


def num_chips() -> int:
    return int(_mesh[0].size()) if _mesh and _mesh[0] is not None else 1


def filled_up(rows: int) -> int:
    """Rows of a batch so that each chip gets equally many."""
    return -(-rows // num_chips()) * num_chips()


def spread(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """Have each chip take its share of the rows, the first dimension of each tensor on the device."""
    if num_chips() > 1:
        from torch_xla.distributed.spmd import mark_sharding

        for value in batch.values():
            if getattr(value, "ndim", 0):
                mark_sharding(value, _mesh[0], ("data",) + (None,) * (value.ndim - 1))
    return batch


def run_collected(device: torch.device, *, wait: bool = False) -> None:
    """Start what was collected so far, compiled if it is new; nothing on other devices, which collect nothing.

    The loops call it between the micro-batches of an update, too: else each sequence of widths were another graph.
    """
    if device.type == "xla":
        import torch_xla

        torch_xla.sync(wait=wait)


def seed_generator(seed: int) -> None:
    import torch_xla

    torch_xla.manual_seed(seed)


def generator_state() -> torch.Tensor:
    """The 64 bits that the coming numbers depend on, as 8 bytes."""
    import torch
    from torch_xla.core import xla_model

    return torch.tensor(list(int(xla_model.get_rng_state()).to_bytes(8, "little")), dtype=torch.uint8)


def restore_generator(state: torch.Tensor) -> None:
    seed_generator(int.from_bytes(bytes(state.tolist()), "little"))


def _is_off() -> bool:
    return os.environ.get(SWITCH, "").lower() in OFF


def _has_tpu() -> bool:
    for card in PCI_DEVICES.glob("*"):
        with suppress(OSError):
            vendor, device = ((card / name).read_text(encoding="ascii").strip() for name in ("vendor", "device"))
            if vendor == GOOGLE and device in TPU_CHIPS:
                return True
    return False
