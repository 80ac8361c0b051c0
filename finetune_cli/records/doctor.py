"""What `finetune doctor` learns about a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetune_cli.records.plain import as_json


@dataclass(frozen=True)
class Advice:
    """Something that is wrong or could be better, and what to type."""

    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}"


@dataclass(frozen=True)
class Cpu:
    """count: processors of the machine. usable: those that this process may run on. limit: of the container, in CPUs.

    memory_bytes: of the machine; memory_limit_bytes: of the container. None: there is no limit, or it is not known.
    """

    count: int
    usable: int
    limit: float | None
    memory_bytes: int | None
    memory_limit_bytes: int | None


@dataclass(frozen=True)
class Place:
    """A directory that training writes to. problem: why it cannot be used; None when it can."""

    name: str
    path: str
    free_bytes: int | None
    problem: str | None


@dataclass(frozen=True)
class Device:
    """One device, and what the settings mean there.

    precision: what `training.precision: auto` takes, and reason why. attention: the kernel of torch's
    scaled_dot_product_attention, in training (with dropout) and in scoring. compile: what `training.compile` does.
    """

    name: str
    memory_bytes: int | None
    free_bytes: int | None
    precision: str
    reason: str
    attention: dict[str, str]
    compile: str


@dataclass(frozen=True)
class Torch:
    """What torch says of itself, asked in a process of its own.

    build: the toolkit that it was built for, such as "CUDA 13.0" or "CPU". chosen: the device that one process trains
    on. error: why torch cannot be used; the other fields are empty then.
    """

    version: str = ""
    build: str = ""
    chosen: str = ""
    threads: int = 0
    devices: tuple[Device, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Hub:
    """state: "reachable", "not reachable", "offline" or "not asked". login: what is known of the token, in words."""

    endpoint: str
    state: str
    login: str
    reason: str | None = None


@dataclass(frozen=True)
class Trial:
    """Two updates on one process and on several. difference: the largest relative one in loss and gradient norm.

    one_fails: not even one process could train.
    """

    processes: int
    seconds: float
    difference: float | None = None
    error: str | None = None
    one_fails: bool = False


@dataclass(frozen=True)
class DoctorReport:
    """versions: of what is needed; optional: of what is not, None for what is not installed. imports: lean or plain."""

    versions: dict[str, str | None]
    optional: dict[str, str | None]
    platform: str
    driver: str | None
    imports: str
    torch: Torch
    cpu: Cpu
    places: tuple[Place, ...]
    hub: Hub
    trial: Trial | None
    faults: tuple[Advice, ...]
    hints: tuple[Advice, ...]

    @property
    def fit(self) -> bool:
        return not self.faults

    @property
    def verdict(self) -> str:
        """One line: fit, or what is wrong and what to type."""
        if self.fit:
            return "Fit: this machine can train."
        return "Not fit: " + " / ".join(map(str, self.faults))

    def to_json(self) -> dict[str, Any]:
        return {**as_json(self), "fit": self.fit, "verdict": self.verdict}
