"""A small run of the real command that can be hurt at will: starting it, watching its files, ending it.

For scripts/faults/faults.py and tests/faults. Everything here reads files and processes from outside; nothing is
imported from the package, so that a fault of the package cannot hide itself.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.faults.files import unreadable_files

ROOT = Path(__file__).resolve().parents[2]
MARK = "FINETUNE_FAULTS_MARK"  # in the environment of every process of a run, and of nothing else
EVALUATE_EVERY, SAVE_EVERY = 6, 2
POLL_SECONDS = 0.002
HANG_SECONDS = 180.0
ORPHAN_SECONDS = 3.0  # a killed launcher's children may take a moment to be gone
NATIVE_LIBRARIES = ("libtorch", "_multiarray_umath", "tokenizers")  # loaded once the command is really at work
CAP_DAC_OVERRIDE, PR_CAPBSET_DROP = 1, 24

CONFIG = """\
task: sst2
model:
  dropout: 0.1
  attention_dropout: 0.1
  from_scratch: {{vocab_size: 200, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 64,
                 max_position_embeddings: 32}}
data: {{path: data}}
training: {{loop: {loop}, num_epochs: {epochs}, batch_size: 8, micro_batch_size: 3, learning_rate: 2e-3}}
evaluation: {{every: {evaluate}, metric_for_best: loss, bootstrap: {{samples: 50}}, baseline: {baseline}}}
checkpointing: {{every: {save}, keep: 2}}
output_dir: run
seed: 42
"""
WORDS = ("the", "a", "this", "was", "is", "very", "and", "it", "with", "some", "really", "then", "film", "meal", "room")
TELLING = {0: ("bad", "poor", "awful", "sad"), 1: ("good", "great", "lovely", "happy")}


def write_data(folder: Path, *, train: int = 117, validation: int = 150) -> None:
    """Sentences whose label is the side of their one telling word; the same bytes every time."""
    folder.mkdir(parents=True)
    rng = random.Random(0)
    for split, count in (("train", train), ("validation", validation)):
        rows = []
        for number in range(count):
            label = rng.randrange(2)
            words = [*rng.choices(WORDS, k=rng.randrange(3, 20)), rng.choice(TELLING[label])]
            rows.append(
                json.dumps({"idx": number, "sentence": " ".join(rng.sample(words, len(words))), "label": label})
            )
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


@dataclass
class Ended:
    """How one start of the command ended. `starting`: a signal found the interpreter before it had loaded anything."""

    code: int
    output: str
    landed: bool = True
    starting: bool = False


@dataclass
class SmallRun:
    """One run in a folder of its own: folder/config.yaml, folder/data, folder/run, folder/cache."""

    folder: Path
    loop: str = "trainer"
    processes: int = 1
    epochs: int = 4
    baseline: str = "false"  # "auto": scikit-learn at the end of each run, a second or more
    cache: Path | None = None
    complaints: list[str] = field(default_factory=list)
    unreadable: int = 0
    orphans: int = 0

    def __post_init__(self) -> None:
        self.run = self.folder / "run"
        self.cache = self.cache or self.folder / "cache"
        self.mark = f"{os.getpid()}-{id(self)}"
        if not (self.folder / "config.yaml").exists():
            write_data(self.folder / "data")
            text = CONFIG.format(
                loop=self.loop,
                epochs=self.epochs,
                baseline=self.baseline,
                evaluate=EVALUATE_EVERY,
                save=SAVE_EVERY,
            )
            (self.folder / "config.yaml").write_text(text, encoding="utf-8")

    def start(
        self, *options: str, before_exec: Callable[[], None] | None = None, output: str = "output.txt"
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "finetune_cli", "train", "config.yaml", *options]
        if self.processes > 1:
            command += ["--num-processes", str(self.processes)]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "FINETUNE_CACHE": str(self.cache),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            MARK: self.mark,
        }
        self.output = self.folder / output
        with self.output.open("wb") as stream:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=before_exec,
            )

    def finish(self, process: subprocess.Popen[bytes], *, landed: bool = True, starting: bool = False) -> Ended:
        """Wait for the end, then look for what must not be there: processes that live on, files that cannot be read."""
        try:
            code = process.wait(HANG_SECONDS)
        except subprocess.TimeoutExpired:
            self.complaints.append(f"hangs: not over after {HANG_SECONDS:.0f} s")
            process.kill()
            code = process.wait()
        self._count_orphans()
        found = list(unreadable_files(self.run))
        self.unreadable += len(found)
        self.complaints += found
        return Ended(code, self.output.read_text(encoding="utf-8", errors="replace"), landed, starting)

    def complete(self, *options: str, before_exec: Callable[[], None] | None = None) -> Ended:
        return self.finish(self.start(*options, before_exec=before_exec))

    def _count_orphans(self) -> None:
        deadline = time.monotonic() + ORPHAN_SECONDS
        while (left := marked_processes(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.orphans += len(left)
        for pid in left:
            self.complaints.append(f"process {pid} lives on")
            os.kill(pid, signal.SIGKILL)

    def hurt(self, how: str, when: Callable[[], bool], *, rng: random.Random, delay: float = 0.0) -> Ended:
        """Start the command, wait until `when` is true and `delay` seconds more, then send what `how` says."""
        process = self.start()
        while process.poll() is None and not when():
            time.sleep(POLL_SECONDS)
        time.sleep(delay)
        starting = is_starting(process.pid)
        landed = process.poll() is None and self._strike(process, how, rng)
        return self.finish(process, landed=landed, starting=starting)

    def _strike(self, process: subprocess.Popen[bytes], how: str, rng: random.Random) -> bool:
        if how == "KILL child":
            if not (children := child_processes(process.pid)):
                return False
            os.kill(rng.choice(children), signal.SIGKILL)
            return True
        process.send_signal(getattr(signal, f"SIG{how.removesuffix(' twice')}"))
        if how.endswith("twice"):
            time.sleep(rng.uniform(0, 0.3))
            process.send_signal(signal.SIGINT)
        return True

    def record(self) -> dict[str, Any]:
        """run.json, or {} before there is one."""
        try:
            return dict(json.loads((self.run / "run.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}

    def history_lines(self) -> list[bytes]:
        """The whole lines of history.jsonl."""
        try:
            return (self.run / "history.jsonl").read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []


class Watch:
    """What has changed in a run's folder since the watch began; files of earlier starts do not count."""

    PLACES = (
        "cache/prepared/.*",
        "run/history.jsonl",
        "run/checkpoints/.*",
        "run/.*",
        "run/eval/validation/metrics.json",
    )

    def __init__(self, run: SmallRun) -> None:
        self.folder = run.folder
        self.lines = len(run.history_lines())
        self.before = {identity for place in self.PLACES for identity in self._identities(place)}

    def new(self, pattern: str) -> bool:
        return any(identity not in self.before for identity in self._identities(pattern))

    def _identities(self, pattern: str) -> Iterator[tuple[str, int, int]]:
        try:
            for path in self.folder.glob(pattern):
                found = path.stat()
                yield path.name, found.st_ino, found.st_mtime_ns
        except FileNotFoundError:  # gone while we looked
            return


def is_starting(pid: int) -> bool:
    """Whether a process has loaded none of the native libraries and catches no SIGTERM: Python itself is coming up."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return False
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return not any(name in maps for name in NATIVE_LIBRARIES) and not caught >> (signal.SIGTERM - 1) & 1


def child_processes(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def marked_processes(mark: str) -> list[int]:
    """The living processes that were started with this mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def without_file_permissions() -> None:
    """In the child: take from root its right to write into read-only directories; a no-op for anybody else."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)
