"""How many CPUs this process may use: not those of the machine, but those that its container has been given."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
NO_GROUPS = Path(os.devnull)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")  # of torch, and of the tokenizers library

_set_here: set[str] = set()


def available_cpus(cgroups: Path = CGROUPS, own_groups: Path = OWN_GROUPS) -> int:
    """CPUs that are allowed to this process, at least 1: by its affinity, and by the quota of its control groups.

    A quota is time per period, so that 1.5 CPUs are possible: rounded up, since two threads can use them. Both versions
    of control groups are read, with the quotas of the groups above: https://docs.kernel.org/admin-guide/cgroup-v2.html
    and https://docs.kernel.org/scheduler/sched-bwc.html. cgroups, own_groups: where the system shows them.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in _quotas(cgroups, own_groups)]
    return max(1, min([allowed, *quotas]))


def only_cpus_are_wanted() -> bool:
    """Whether ACCELERATE_USE_CPU says so, as Accelerate reads it."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "on")


def limit_threads() -> None:
    """Let the libraries start no more threads than a container's quota has CPUs; call it before they are imported.

    They count the CPUs of the affinity by themselves, so that nothing is set without a quota below that. What the user
    has set stays.
    """
    cpus = available_cpus()
    if cpus >= available_cpus(own_groups=NO_GROUPS):
        return
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


def _quotas(cgroups: Path, own_groups: Path) -> Iterator[float]:
    if own_groups == NO_GROUPS:
        return
    try:
        lines = own_groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in [*lines, "0::/", "0:cpu:/"]:  # in a container the own group may be the root of what is seen
        _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "-", "/")
        group = Path(path.lstrip("/"))
        for folder in (group, *group.parents):
            if controllers == "":
                yield from _quota_v2(cgroups / folder / "cpu.max")
            elif "cpu" in controllers.split(","):
                for mounted in ("cpu", "cpu,cpuacct"):
                    yield from _quota_v1(cgroups / mounted / folder)


def _quota_v2(file: Path) -> Iterator[float]:
    match _words(file):
        case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period):
            yield int(quota) / int(period)


def _quota_v1(folder: Path) -> Iterator[float]:
    match [*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")]:
        case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period):  # -1: no quota
            yield int(quota) / int(period)


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return []
