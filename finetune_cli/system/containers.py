"""What the container of this process may use at most: CPUs and memory, as Linux's control groups say.

Both versions are read, and the groups around one's own: https://docs.kernel.org/admin-guide/cgroup-v2.html and
https://docs.kernel.org/scheduler/sched-bwc.html. cgroups, own_groups: where the system shows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
MOUNTS = {"": [""], "cpu": ["cpu", "cpu,cpuacct"], "memory": ["memory"]}  # by controller; "" is version 2
NOT_LIMITED = 1 << 60  # version 1 writes a number of this size for "no limit" of memory


def container_cpus(cgroups: Path = CGROUPS, own_groups: Path = OWN_GROUPS) -> float | None:
    """The CPUs that the container may use at once, such as 1.5: a quota of time per period. None without one."""
    quotas = [_words(group / "cpu.max") for group in _groups("", cgroups, own_groups)]
    quotas += [
        _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
        for group in _groups("cpu", cgroups, own_groups)
    ]
    limits = [int(quota[0]) / int(quota[1]) for quota in quotas if len(quota) == 2 and all(map(str.isdecimal, quota))]
    return min(limits, default=None)


def container_memory(cgroups: Path = CGROUPS, own_groups: Path = OWN_GROUPS) -> int | None:
    """The memory of the container in bytes; None when there is no limit."""
    files = [group / "memory.max" for group in _groups("", cgroups, own_groups)]
    files += [group / "memory.limit_in_bytes" for group in _groups("memory", cgroups, own_groups)]
    sizes = [int(word) for file in files for word in _words(file) if word.isdecimal()]
    return min((size for size in sizes if size < NOT_LIMITED), default=None)


def _groups(controller: str, cgroups: Path, own_groups: Path) -> Iterator[Path]:
    """The directories of this process's group and of those that it is in; each as often as it may be mounted."""
    for line in [*_lines(own_groups), f"0:{controller}:/"]:  # in a container one's own may be the root of what is seen
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            group = Path(path.lstrip("/"))
            for folder in (group, *group.parents):
                yield from (cgroups / mounted / folder for mounted in MOUNTS[controller])


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
