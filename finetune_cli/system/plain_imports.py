"""When torch and transformers must be imported as everybody imports them, with nothing left out.

`system.lean_imports` puts small stand-ins in the place of modules of torch. What the stand-ins answer was read in the
sources of certain versions and tried with them. With other versions, in a process that a launcher started, or beside a
library that reaches into torch's compiler, they could change what a run does.
"""

from __future__ import annotations

import importlib.util
import os
import sys

# The minor versions that the tests ran with (constraints.txt has the exact ones).
TESTED_VERSIONS = {"torch": {"2.13"}, "transformers": {"5.23"}}
# These use torch's compiler or its process groups as soon as transformers or Accelerate finds them.
REACH_INTO_TORCH = ("torchao", "bitsandbytes", "deepspeed", "transformer_engine", "torch_xla")
# Set by torchrun and `accelerate launch`, or by MPI. One process, too, then belongs to a process group.
SET_BY_LAUNCHERS = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
USE = "ACCELERATE_USE_"  # of FSDP, DEEPSPEED, PARALLELISM_CONFIG and others
COMPILER = "ACCELERATE_DYNAMO_BACKEND"
SWITCH = "FINETUNE_PLAIN_IMPORTS"
OFF = {"", "0", "false", "no", "off"}


def reason_for_plain_imports() -> str | None:
    """Why this process must not import torch with stand-ins; None when it may."""
    if "torch" in sys.modules:
        return "torch was imported before"
    if _is_on(SWITCH):
        return f"{SWITCH} is set"
    backend = os.environ.get(COMPILER, "no")
    if backend.lower() not in {*OFF, "no"}:
        return f"{COMPILER} is {backend}"
    set_by_launchers = [name for name in SET_BY_LAUNCHERS if os.environ.get(name)]
    set_by_launchers += [name for name in os.environ if name.startswith(USE) and name != USE + "CPU" and _is_on(name)]
    if set_by_launchers:
        return f"{set_by_launchers[0]} is set"
    reaching = [f"{name} is installed" for name in REACH_INTO_TORCH if _is_installed(name)]
    return _untested_version() or next(iter(reaching), None)


def _untested_version() -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # not when only --help is asked for

    for package, tested in TESTED_VERSIONS.items():
        try:
            installed = version(package)
        except PackageNotFoundError:
            return f"the version of {package} is not known"
        if ".".join(installed.split(".")[:2]) not in tested:
            return f"{package} {installed} was not tested with stand-ins"
    return None


def _is_installed(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() not in OFF
