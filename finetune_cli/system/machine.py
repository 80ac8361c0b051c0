"""What is on this machine: packages, CPUs and memory, room on the disks, NVIDIA's driver."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterable
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

from finetune_cli.errors import MissingError
from finetune_cli.records.doctor import Advice, Cpu, Place
from finetune_cli.system.containers import container_cpus, container_memory
from finetune_cli.system.cpus import cpus_of_affinity
from finetune_cli.system.provenance import output_of, package_version


def installed(packages: Iterable[str]) -> dict[str, str | None]:
    """Package -> its version, None when it is not installed."""
    return {name: package_version(name) for name in packages}


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
    return _fault(needed) if package_version(needed.name) else None


def _fault(needed: Requirement) -> Advice | None:
    present = package_version(needed.name)
    if present is not None and needed.specifier.contains(present, prereleases=True):
        return None
    state = "is not installed" if present is None else f"{present} does not fit ({needed.specifier} is needed)"
    return Advice(f"{needed.name} {state}.", f"Type: {how_to_install(needed)}")


def require_extra(library: str, extra: str, what: str, *, otherwise: str = "") -> None:
    """Raise MissingError, which says what to install, when a library that `what` needs is not there.

    extra: of this package, with the library. otherwise: what to do without it.
    """
    if importlib.util.find_spec(library) is None:
        raise MissingError(
            f"{what} needs the library {library}. Install it: pip install 'finetune-cli[{extra}]', or pip install "
            f"'.[{extra}]' in a checkout.{otherwise}"
        )


def how_to_install(needed: Requirement) -> str:
    return f"pip install '{needed.name}{needed.specifier}'"


def describe_cpu() -> Cpu:
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        memory = None
    return Cpu(os.cpu_count() or 1, cpus_of_affinity(), container_cpus(), memory, container_memory())


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
    versions = output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", seconds=20).split()
    return (versions[0] if versions else None), len(versions)
