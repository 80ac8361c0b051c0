"""How many CPUs this process may use: not those of the machine, but those that its container has been given."""

from __future__ import annotations

import math
import os
from pathlib import Path

from finetune_cli.system.containers import CGROUPS, OWN_GROUPS, container_cpus

THREAD_VARIABLES = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")  # of torch, and of the tokenizers library

_set_here: set[str] = set()


def cpus_of_affinity() -> int:
    """CPUs that the system lets this process run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_cpus(cgroups: Path = CGROUPS, own_groups: Path = OWN_GROUPS) -> int:
    """CPUs that this process may use, at least 1: by its affinity and by the quota of its container.

    A quota of 1.5 CPUs is rounded up, since two threads can use them.
    """
    quota = container_cpus(cgroups, own_groups)
    return cpus_of_affinity() if quota is None else max(1, min(cpus_of_affinity(), math.ceil(quota)))


def only_cpus_are_wanted() -> bool:
    """Whether ACCELERATE_USE_CPU says so, as Accelerate reads it."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "on")


def limit_threads() -> None:
    """Let the libraries start no more threads than a container's quota has CPUs; call it before they are imported.

    They count the CPUs of the affinity by themselves, so that nothing is set without a quota below that. What the user
    has set stays.
    """
    if (cpus := available_cpus()) < cpus_of_affinity():
        for name in THREAD_VARIABLES:
            if name not in os.environ:
                os.environ[name] = str(cpus)
                _set_here.add(name)


def threads_per_process(num_processes: int) -> str:
    """OMP_NUM_THREADS of each of several processes: the user's, or an equal share of the CPUs."""
    name = THREAD_VARIABLES[0]
    if name in os.environ and name not in _set_here:
        return os.environ[name]
    return str(max(1, available_cpus() // num_processes))
