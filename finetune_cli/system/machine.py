"""What the operating system tells about this machine: CPUs, container limits, memory, disk room, packages, driver."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from finetune_cli.records.doctor import Advice, Cpu, Place

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
NOT_LIMITED = 1 << 60  # version 1 of cgroups writes a number of this size for "no limit"


def installed(packages: Iterable[str]) -> dict[str, str | None]:
    """Package -> its version, None when it is not installed."""
    return {name: _version(name) for name in packages}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def requirement_faults(package: str) -> list[Advice]:
    """The requirements of an installed package, extras left out, that are missing or have another version."""
    required = (Requirement(line) for line in requires(package) or ())
    return [
        fault
        for needed in required
        if needed.marker is None or needed.marker.evaluate({"extra": ""})
        if (fault := _fault(needed))
    ]


def extras_of(package: str) -> dict[str, Requirement]:
    """What the extras of an installed package bring: name -> requirement."""
    required = (Requirement(line) for line in requires(package) or ())
    return {needed.name: needed for needed in required if needed.marker and "extra" in str(needed.marker)}


def misfit(needed: Requirement) -> Advice | None:
    """What is wrong with the version of a package that is installed; None for one that fits or is not there."""
    return _fault(needed) if _version(needed.name) else None


def _fault(needed: Requirement) -> Advice | None:
    found = _version(needed.name)
    if found is not None and needed.specifier.contains(found, prereleases=True):
        return None
    state = "is not installed" if found is None else f"{found} does not fit ({needed.specifier} is needed)"
    return Advice(f"{needed.name} {state}.", f"Type: {how_to_install(needed)}")


def how_to_install(needed: Requirement) -> str:
    return f"pip install '{needed.name}{needed.specifier}'"


def describe_cpu() -> Cpu:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        memory = None
    return Cpu(os.cpu_count() or 1, usable, container_cpus(), memory, container_memory())


def container_cpus(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> float | None:
    """The CPUs that the container may use at once, such as 1.5; the smallest limit of all its groups."""
    limits = []
    for group in _groups(cgroups, own):
        match _words(group / "cpu.max"):
            case [quota, period] if quota != "max":
                limits.append(int(quota) / int(period))
    match _words(cgroups / "cpu" / "cpu.cfs_quota_us"), _words(cgroups / "cpu" / "cpu.cfs_period_us"):
        case [quota], [period] if int(quota) > 0:
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def container_memory(cgroups: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int | None:
    """The memory of the container in bytes; None when there is no limit."""
    files = [group / "memory.max" for group in _groups(cgroups, own)]
    values = [_words(file) for file in [*files, cgroups / "memory" / "memory.limit_in_bytes"]]
    return min(
        (int(value[0]) for value in values if value and value != ["max"] and int(value[0]) < NOT_LIMITED), default=None
    )


def _groups(cgroups: Path, own: Path) -> Iterator[Path]:
    """The directories of this process's group and of those that it is in."""
    found = re.search(r"^0::/(.*)$", "\n".join(_lines(own)), re.MULTILINE)
    group = cgroups / (found[1] if found else "")
    yield group
    while group != cgroups and cgroups in group.parents:
        group = group.parent
        yield group


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def look_at(name: str, path: Path) -> Place:
    """Whether files can be written in a directory, or where it would be made, and the room there. Leaves nothing."""
    if path.parts[:1] == ("~",):
        return Place(name, str(path), None, "HOME is not set")
    try:
        path = path.absolute()
        nearest = next((place for place in (path, *path.parents) if place.exists()), Path("/"))
        free = shutil.disk_usage(nearest).free
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"x")
            file.flush()
    except OSError as err:
        return Place(name, str(path), None, err.strerror or str(err))
    return Place(name, str(path), free, None)


def nvidia_driver() -> tuple[str | None, int]:
    """The version of NVIDIA's driver, and the number of GPUs that it sees; (None, 0) without it."""
    if shutil.which("nvidia-smi") is None:
        return None, 0
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            encoding="utf-8",
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, 0
    lines = done.stdout.split() if done.returncode == 0 else []
    return (lines[0] if lines else None), len(lines)
