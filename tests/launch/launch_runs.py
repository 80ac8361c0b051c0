"""What the tests of launched runs share: the small config, commands with their children, comparing two curves."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
MARK = "FINETUNE_LAUNCH_TEST"  # in the environment of every process of one test's command, and of nothing else
ENDED = "ended.json"
STOP_AFTER = 3  # updates; of 6
PROMPT_SECONDS = 30.0
RELATIVE = 1e-5  # several processes: how far two curves may be apart

# 23 rows in updates of 8, 3 at once: a short last update, and micro-batches that two processes cannot share evenly.
SETTINGS: dict[str, Any] = {
    "model": {"dropout": 0.0, "attention_dropout": 0.0},
    "training": {"num_epochs": 2, "batch_size": 8, "micro_batch_size": 3, "learning_rate": 2e-3, "precision": "fp32"},
    "evaluation": {"every": 3, "metric_for_best": "loss", "bootstrap": {"samples": 50}, "baseline": False},
}
TRAINING_ROWS = 23


@dataclass(frozen=True)
class Command:
    """One started command; `mark` finds its processes, however they were started."""

    process: subprocess.Popen[str]
    mark: str

    def finish(self, seconds: float = 150.0) -> Ended:
        try:
            output, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            for pid in self.living():
                os.kill(pid, signal.SIGKILL)
            output, _ = self.process.communicate()
            raise AssertionError(f"not over after {seconds:.0f} s:\n{output}") from None
        return Ended(self.process.returncode, output, self.living(patience=5.0))

    def living(self, *, patience: float = 0.0) -> list[int]:
        """The processes of this command that live, after waiting so many seconds for them to be gone."""
        deadline = time.monotonic() + patience
        while (found := list(_marked(self.mark))) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def rank(self, number: int) -> int:
        """The process id of one rank of the group; waits until it has been started."""
        return wait_for(
            lambda: next((pid for pid in self.living() if _environment(pid).get("RANK") == str(number)), None)
        )


@dataclass(frozen=True)
class Ended:
    code: int
    output: str
    orphans: list[int]


def start(arguments: Sequence[str | Path], *, cwd: Path, cache: Path, **environment: str) -> Command:
    """Start `python ARGUMENTS`; stdout and stderr together."""
    mark = f"{os.getpid()}-{cwd}-{time.monotonic_ns()}"
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(cwd),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
            "FINETUNE_CACHE": str(cache),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            MARK: mark,
            **environment,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    )
    return Command(process, mark)


def wait_for(found: Callable[[], Any], *, seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def history(run: Path) -> list[dict[str, Any]]:
    """The whole lines of history.jsonl, without times."""
    lines = (run / "history.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def updates(run: Path) -> int:
    """Updates in history.jsonl so far; 0 before there is one."""
    return sum(record["type"] == "train" for record in history(run)) if (run / "history.jsonl").exists() else 0


def record(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "run.json").read_text(encoding="utf-8")))


def require_same_curve(run: Path, reference: Path) -> None:
    """Every record of two histories, numbers within RELATIVE of each other."""
    ours, theirs = history(run), history(reference)
    assert [(line["type"], line["step"]) for line in ours] == [(line["type"], line["step"]) for line in theirs]
    for left, right in zip(ours, theirs, strict=True):
        assert left.keys() == right.keys()
        for key, value in left.items():
            if isinstance(value, float):
                assert math.isclose(value, right[key], rel_tol=RELATIVE, abs_tol=1e-8), (key, left, right)
            else:
                assert value == right[key], (key, left, right)


def _marked(mark: str) -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and _environment(int(entry.name)).get(MARK) == mark
    ]


def _environment(pid: int) -> dict[str, str]:
    """A process's environment as it was started; {} when it has gone or is a zombie."""
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in content.split("\0") if "=" in entry)
