"""Faults other than signals: full disks, read-only directories, damaged files, locks, clocks, moved runs.

Each function yields one Result per fault: a hurt run says what is wrong, and then ends like the undisturbed one.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scripts.faults.files import differences, leftovers, outcome, visible
from scripts.faults.runs import Ended, SmallRun, without_file_permissions

TMPFS_BYTES = 16 * 2**20
FILE_LIMIT_BYTES = 64 * 2**10  # less than the weights of the small model
LITTLE_ROOM_BYTES = 100 * 2**10  # for a run's other files, and less than a checkpoint of the small model
STOP_AT = 25  # lines of history: past the third evaluation, with several checkpoints written


@dataclass(frozen=True)
class Result:
    """One fault. `problem`: what was not as it must be, or nothing."""

    name: str
    problem: str


class FaultRuns:
    """Makes runs of one loop to be hurt, and compares them with the undisturbed one."""

    def __init__(self, folder: Path, loop: str) -> None:
        self.folder = folder
        self.loop = loop
        undisturbed = self.new("undisturbed")
        ended = undisturbed.complete()
        if ended.code != 0:
            raise SystemExit(f"the undisturbed run failed: {ended.code}\n{ended.output}")
        self.outcome = outcome(undisturbed.run)

    def new(self, name: str) -> SmallRun:
        folder = self.folder / self.loop / name
        folder.mkdir(parents=True)
        return SmallRun(folder, self.loop, cache=self.folder / self.loop / "cache")

    def stopped(self, name: str) -> SmallRun:
        """A run that SIGTERM has stopped in its middle."""
        run = self.new(name)
        ended = run.hurt("TERM", lambda: len(run.history_lines()) >= STOP_AT, rng=random.Random(0))
        if ended.code != 75:
            raise SystemExit(f"{name}: SIGTERM ended with {ended.code}\n{ended.output}")
        return run

    def copy(self, run: SmallRun, name: str) -> SmallRun:
        folder = self.folder / self.loop / name
        shutil.copytree(run.folder, folder)
        return SmallRun(folder, self.loop, cache=run.cache)

    def result(self, name: str, run: SmallRun, *problems: str) -> Result:
        return Result(f"{self.loop}: {name}", "; ".join([*filter(None, problems), *run.complaints]))

    def goes_on(self, run: SmallRun, *options: str, says: Sequence[str] = (), where: Path | None = None) -> str:
        """Start the run once more: it must say those words, end with 0 and equal the undisturbed one."""
        ended = run.complete(*options)
        if problem := expected(ended, 0, *says):
            return problem
        place = where or run.run
        unequal = differences(self.outcome, outcome(place))
        return "; ".join(
            [*(f"{part} differ" for part in unequal), *(f"{name} left behind" for name in leftovers(place))]
        )


def expected(ended: Ended, code: int, *says: str) -> str:
    """What is wrong with how a command ended: another exit code, a traceback, or a word missing in its messages."""
    if ended.code != code:
        return f"exit code {ended.code}, expected {code}: {ended.output[-800:]}"
    missing = [words for words in says if words not in ended.output]
    if missing or "Traceback" in ended.output:
        return f"the message lacks {missing or 'plain words (a traceback)'}: {ended.output[-800:]}"
    return ""


def has_checkpoint(run: SmallRun) -> str:
    """The undamaged ones; damaged ones are complaints of the run already."""
    return "" if list(visible(run.run, "checkpoints/step-*")) else "no checkpoint is left"


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A tmpfs in place of the folder. Needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte free."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return filler


def run_until(run: SmallRun, lines: int, do: Callable[[], Any]) -> Ended:
    """Start the command, do something to its world when the history has so many lines, and let it end as it can."""
    process = run.start(before_exec=without_file_permissions)
    while process.poll() is None and len(run.history_lines()) < lines:
        time.sleep(0.002)
    do()
    return run.finish(process)


def disk(runs: FaultRuns) -> Iterator[Result]:
    """The disk gets full: at the first checkpoints, in the middle, when the model is written; then room is made."""
    for lines in (3, STOP_AT, 68) if os.geteuid() == 0 else ():
        run = runs.new(f"full-{lines}")
        with small_disk(run.run):
            ended = run_until(run, lines, partial(fill, run.run))
            problem = expected(ended, 1, "the disk is full", str(run.run.name)) or has_checkpoint(run)
            (run.run / "filler").unlink()
            yield runs.result(f"disk full after {lines} lines of history", run, problem, runs.goes_on(run))
    if os.geteuid() == 0:
        yield _too_little_room(runs)
    yield _full_cache(runs)
    run = runs.stopped("file-limit")
    ended = run.complete(before_exec=_limit_file_size)
    problem = expected(ended, 1, "the disk is full (File too large)") or has_checkpoint(run)
    yield runs.result("a limit of file sizes", run, problem, runs.goes_on(run))


def _too_little_room(runs: FaultRuns) -> Result:
    """Room for a run's small files, but for no checkpoint: found before the first update."""
    run = runs.new("too-little-room")
    with small_disk(run.run):
        filler = fill(run.run)
        os.truncate(filler, filler.stat().st_size - LITTLE_ROOM_BYTES)
        problem = expected(run.complete(), 1, "left, and one checkpoint takes", "Free some space")
        trained = "it trained all the same" if run.history_lines() else ""
        filler.unlink()
        return runs.result("too little room from the start", run, problem, trained, runs.goes_on(run))


def _full_cache(runs: FaultRuns) -> Result:
    """The rows cannot be tokenised for lack of room. Without root a limit of file sizes takes the full disk's place."""
    run = runs.new("full-cache")
    run.cache = run.folder / "own-cache"
    if os.geteuid() == 0:
        with small_disk(run.cache):
            fill(run.cache)
            problem = expected(run.complete(), 1, "Make room")
    else:
        problem = expected(run.complete(before_exec=_limit_file_size), 1)
    return runs.result("no room for tokenised rows", run, problem, runs.goes_on(run))


def _limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT_BYTES, FILE_LIMIT_BYTES))


def readonly(runs: FaultRuns) -> Iterator[Result]:
    """A directory that cannot be written to is found before training; one that gets so ends it with what it has."""
    run = runs.new("from-the-start")
    run.run.mkdir()
    run.run.chmod(0o555)
    problem = expected(run.complete(before_exec=without_file_permissions), 2, "cannot write in run", "--output-dir")
    run.run.chmod(0o755)
    yield runs.result("run directory read-only from the start", run, problem, runs.goes_on(run))
    run = runs.new("in-the-middle")
    checkpoints = run.run / "checkpoints"
    ended = run_until(run, STOP_AT, partial(checkpoints.chmod, 0o555))
    checkpoints.chmod(0o755)
    problem = expected(ended, 1, "not writable", "checkpoints") or has_checkpoint(run)
    yield runs.result("checkpoints/ read-only in the middle", run, problem, runs.goes_on(run))


def hurt_file(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "cut in half":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        content[len(content) // 2] ^= 0x10
        path.write_bytes(content)


def damage(runs: FaultRuns) -> Iterator[Result]:
    """Each file of the newest checkpoint, missing, cut, emptied or with one bit flipped: named, the one before used."""
    stopped = runs.stopped("stopped")
    newest = max(visible(stopped.run, "checkpoints/step-*"))
    for name in sorted(path.name for path in newest.iterdir()):
        for how in ("missing", "cut in half", "empty", "bit flipped"):
            run = runs.copy(stopped, f"{name}-{how}".replace(" ", "-"))
            hurt_file(run.run / newest.relative_to(stopped.run) / name, how)
            named = () if name == "manifest.json" else (name,)
            problem = runs.goes_on(run, says=(newest.name, *named))
            yield runs.result(f"{name} {how}", run, problem)
    run = runs.copy(stopped, "run-json")
    hurt_file(run.run / "run.json", "cut in half")
    yield runs.result("run.json cut in half", run, runs.goes_on(run))
    yield from _damaged_best(runs, stopped)
    run = runs.copy(stopped, "all-damaged")
    for path in visible(run.run, "checkpoints/step-*"):
        hurt_file(path / "optimizer.bin", "bit flipped")
    problem = expected(run.complete(), 5, "step-", "optimizer.bin", "--overwrite")
    run.complaints.clear()  # the damage is ours
    yield runs.result("every checkpoint damaged", run, problem)
    yield runs.result("every checkpoint damaged, started anew", run, runs.goes_on(run, "--overwrite"))


def _damaged_best(runs: FaultRuns, stopped: SmallRun) -> Iterator[Result]:
    """The best model is older than the checkpoints that the run would go on from: refused until it is whole again."""
    best = min(visible(stopped.run, "checkpoints/step-*"))
    run = runs.copy(stopped, "best-damaged")
    hurt = run.run / best.relative_to(stopped.run) / "model.safetensors"
    hurt_file(hurt, "bit flipped")
    problem = expected(run.complete(), 5, f"its best model, in {best.name}", "--overwrite")
    run.complaints.clear()  # the damage is ours
    yield runs.result("best model damaged", run, problem)
    shutil.copy(best / "model.safetensors", hurt)
    yield runs.result("best model damaged, brought back from a backup", run, runs.goes_on(run))


def lock(runs: FaultRuns) -> Iterator[Result]:
    """A lock left by a process that is gone, and two runs on one directory at the same moment."""
    run = runs.stopped("stale")
    (run.run / "run.lock").write_text("4194304\n", encoding="utf-8")
    (run.run / "run.json").write_text(json.dumps({**run.record(), "status": "running"}), encoding="utf-8")
    yield runs.result("a lock left behind", run, runs.goes_on(run))
    run = runs.new("two-at-once")
    other = SmallRun(run.folder, runs.loop, cache=run.cache)
    processes = run.start(), other.start(output="other.txt")
    ends = sorted((run.finish(processes[0]), other.finish(processes[1])), key=lambda ended: ended.code)
    problems = expected(ends[0], 0), expected(ends[1], 75, "Another run holds")
    unequal = [f"{part} differ" for part in differences(runs.outcome, outcome(run.run))]
    yield runs.result("two runs at once", run, *problems, *unequal)


def clock(runs: FaultRuns) -> Iterator[Result]:
    """Times of files that tell the wrong order, or lie in the future."""
    day = 86400
    stopped = runs.stopped("stopped")
    times: dict[str, Callable[[int], float]] = {
        "newest is oldest": lambda number: time.time() - number * day,
        "all the same": lambda number: 10 * day,
        "in the future": lambda number: time.time() + 365 * day,
    }
    for name, time_of in times.items():
        run = runs.copy(stopped, name.replace(" ", "-"))
        for number, path in enumerate(sorted(run.run.rglob("*"))):
            os.utime(path, (time_of(number), time_of(number)))
        yield runs.result(f"file times: {name}", run, runs.goes_on(run))


def moved(runs: FaultRuns) -> Iterator[Result]:
    """The run directory goes on in another place."""
    run = runs.stopped("stopped")
    elsewhere = run.folder / "elsewhere" / "other-name"
    elsewhere.parent.mkdir()
    run.run.rename(elsewhere)
    yield runs.result("moved", run, runs.goes_on(run, "--output-dir", "elsewhere/other-name", where=elsewhere))


CASES: dict[str, Callable[[FaultRuns], Iterator[Result]]] = {
    case.__name__: case for case in (disk, readonly, damage, lock, clock, moved)
}
