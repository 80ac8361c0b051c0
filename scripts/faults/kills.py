"""Trials: a run is ended by signals at drawn moments, started again each time, and compared with one left alone."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any

from scripts.faults.files import differences, histories_agree, leftovers, outcome
from scripts.faults.runs import EVALUATE_EVERY, Ended, SmallRun, Watch

BLOWS_PER_TRIAL = 4
MOST_RESTARTS = 3  # of a run that nobody hurts any more: it must end at once
FRESH_CACHE_SHARE = 0.25
# How often each is drawn, relative to the others.
HOW = {"KILL": 5, "TERM": 3, "INT": 1, "INT twice": 1, "USR1": 2, "KILL child": 4}
WHEN = {"any time": 6, "start": 1, "update": 4, "evaluation": 3, "checkpoint": 5, "export": 2, "end": 1}
ORDER = ("tokenisation", "start", "any time", "update", "evaluation", "checkpoint", "export", "end")
PROMISED = {"KILL": -signal.SIGKILL, "KILL child": 1, "TERM": 75, "USR1": 75, "INT": 130, "INT twice": 130}


@dataclass
class Tally:
    """One line of the table; everything after `restarts` must be 0."""

    kills: int = 0
    restarts: int = 0
    mismatches: int = 0
    unreadable: int = 0
    orphans: int = 0
    wrong_codes: int = 0
    leftovers: int = 0
    others: int = 0

    def add(self, other: Tally) -> None:
        for column in fields(Tally):
            setattr(self, column.name, getattr(self, column.name) + getattr(other, column.name))

    @property
    def wrong(self) -> int:
        return sum(asdict(self).values()) - self.kills - self.restarts


@dataclass(frozen=True)
class Undisturbed:
    """The run that nobody hurts: its outcome, its length, the cache that it filled."""

    outcome: dict[str, Any]
    seconds: float
    cache: Path


@dataclass
class Blow:
    """One signal: how, when, and what came of it."""

    how: str
    when: str
    code: int
    tally: Tally


@dataclass
class Trial:
    """A run that was hurt several times and then finished."""

    loop: str
    processes: int
    number: int
    blows: list[Blow] = field(default_factory=list)
    end: Tally = field(default_factory=Tally)
    not_bit_equal: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def moment(run: SmallRun, when: str, rng: random.Random, seconds: float) -> tuple[Callable[[], bool], float]:
    """A condition for the blow, and the seconds to wait once it is true. `seconds`: of the undisturbed run."""
    if when in ("any time", "start"):
        at = time.monotonic() + rng.uniform(0, seconds if when == "any time" else seconds / 3)
        return lambda: time.monotonic() >= at, 0.0
    watch = Watch(run)
    lines = watch.lines + rng.randrange(1, 26)
    polls = random.Random(rng.random())  # one of many checkpoints; how often we look must not shift later draws

    def evaluating() -> bool:
        """The update before an evaluation is the last line: the scores are being computed."""
        last = json.loads((run.history_lines() or [b"{}"])[-1])
        return last.get("type") == "train" and last["step"] % EVALUATE_EVERY == 0

    conditions: dict[str, tuple[Callable[[], bool], float]] = {
        "tokenisation": (lambda: watch.new("cache/prepared/.*"), 0.1),
        "update": (lambda: watch.new("run/history.jsonl") and len(run.history_lines()) >= lines, 0.03),
        "evaluation": (lambda: watch.new("run/history.jsonl") and evaluating(), 0.04),
        "checkpoint": (lambda: watch.new("run/checkpoints/.writing-*") and polls.random() < 0.1, 0.03),
        "export": (lambda: watch.new("run/.writing-model"), 0.05),
        "end": (lambda: watch.new("run/eval/validation/metrics.json"), 0.3),
    }
    condition, longest = conditions[when]
    return condition, rng.uniform(0, longest)


def draw(rng: random.Random, processes: int, *, fresh_cache: bool) -> list[tuple[str, str]]:
    """How and when a trial's run is hurt, in the order of a run's life: after its end nothing else could be hit."""
    ways = {how: weight for how, weight in HOW.items() if processes > 1 or how != "KILL child"}
    times = rng.choices(list(WHEN), list(WHEN.values()), k=BLOWS_PER_TRIAL)
    times = ["tokenisation", *times[1:]] if fresh_cache else times
    return [(rng.choices(list(ways), list(ways.values()))[0], when) for when in sorted(times, key=ORDER.index)]


def allowed_codes(how: str, ended: Ended, run: SmallRun) -> set[int]:
    if not ended.landed:
        return {0}
    codes = {int(PROMISED[how])}
    if how not in ("KILL", "KILL child") and (ended.starting or finished(run)):  # nothing to save yet, or any more
        codes.add(-getattr(signal, f"SIG{how.removesuffix(' twice')}"))
    return codes | ({0} if finished(run) else set())


def finished(run: SmallRun) -> bool:
    return run.record().get("status") == "finished"


def strike(run: SmallRun, how: str, when: str, rng: random.Random, seconds: float) -> Blow | None:
    """Start the run, hurt it, judge what is left; None when the run was over before the blow fell."""
    condition, delay = moment(run, when, rng, seconds)
    unreadable, orphans, others = run.unreadable, run.orphans, len(run.complaints)
    ended = run.hurt(how, condition, rng=rng, delay=delay)
    tally = Tally(kills=int(ended.landed), unreadable=run.unreadable - unreadable, orphans=run.orphans - orphans)
    tally.others = len(run.complaints) - others - tally.unreadable - tally.orphans
    if ended.code not in allowed_codes(how, ended, run):
        tally.wrong_codes += 1
        run.complaints.append(f"exit code {ended.code} after {how} at {when}:\n{ended.output[-1500:]}")
    elif "Traceback" in ended.output and how != "KILL child":
        tally.others += 1
        run.complaints.append(f"a traceback after {how} at {when}:\n{ended.output[-3000:]}")
    if "complete checkpoint" in ended.output and not list((run.run / "checkpoints").glob("step-*")):
        tally.others += 1
        run.complaints.append("promises a complete checkpoint, but there is none")
    if not ended.landed and ended.code == 0:
        return None
    return Blow(how, when, ended.code, tally)


def carry_out(folder: Path, loop: str, processes: int, number: int, seed: int, undisturbed: Undisturbed) -> Trial:
    """One trial in `folder`; the same seed and number hurt the same way at the same drawn moments."""
    rng = random.Random(f"{seed} {loop} {processes} {number}")
    fresh = rng.random() < FRESH_CACHE_SHARE
    folder.mkdir(parents=True)
    run = SmallRun(folder, loop, processes, cache=None if fresh else undisturbed.cache)
    trial = Trial(loop, processes, number, complaints=run.complaints)
    for how, when in draw(rng, processes, fresh_cache=fresh):
        blow = strike(run, how, when, rng, undisturbed.seconds)
        if blow is None:
            break
        blow.tally.restarts = 1
        trial.blows.append(blow)
    finish(run, trial, undisturbed)
    return trial


def finish(run: SmallRun, trial: Trial, undisturbed: Undisturbed) -> None:
    """Let the run end in peace and compare it with the undisturbed one."""
    before = run.unreadable, run.orphans
    ended = run.complete()
    trial.end.unreadable, trial.end.orphans = run.unreadable - before[0], run.orphans - before[1]
    if ended.code != 0:
        trial.end.wrong_codes = 1
        run.complaints.append(f"exit code {ended.code} of the run left in peace:\n{ended.output[-1500:]}")
        return
    result = outcome(run.run)
    trial.not_bit_equal = differences(undisturbed.outcome, result)
    agree = trial.processes > 1 and histories_agree(undisturbed.outcome["history"], result["history"])
    if trial.not_bit_equal and not agree:
        trial.end.mismatches = 1
        run.complaints.append(f"not as undisturbed: {', '.join(trial.not_bit_equal)}")
    if left := leftovers(run.run):
        trial.end.leftovers = len(left)
        run.complaints.append(f"left behind: {', '.join(left)}")


def undisturbed_run(folder: Path, loop: str, processes: int) -> Undisturbed:
    folder.mkdir(parents=True)
    run = SmallRun(folder, loop, processes)
    began = time.monotonic()
    ended = run.complete()
    seconds = time.monotonic() - began
    if ended.code != 0 or run.complaints:
        raise SystemExit(f"the undisturbed run failed: {ended.code} {run.complaints}\n{ended.output}")
    return Undisturbed(outcome(run.run), seconds, folder / "cache")


def kill_campaign(
    folder: Path, *, kills: int, loops: Sequence[str], processes: Sequence[int], jobs: int, seed: int
) -> list[Trial]:
    """Trials of every loop and number of processes until each has had its share of the kills."""
    settings = list(product(loops, processes))
    share = -(-kills // len(settings))
    trials: list[Trial] = []
    for loop, count in settings:
        name = f"{loop}-{count}"
        undisturbed = undisturbed_run(folder / name / "undisturbed", loop, count)
        report(f"{name}: the undisturbed run took {undisturbed.seconds:.1f} s")
        landed, number = 0, 0
        with ThreadPoolExecutor(jobs) as pool:
            while landed < share:
                numbers = range(number, number + jobs)
                number += jobs
                todo = [(folder / name / f"trial-{n}", loop, count, n, seed, undisturbed) for n in numbers]
                for trial in pool.map(lambda what: carry_out(*what), todo):
                    trials.append(trial)
                    landed += sum(blow.tally.kills for blow in trial.blows)
                    describe(trial)
    return trials


def describe(trial: Trial) -> None:
    story = ", ".join(f"{blow.how} at {blow.when} -> {blow.code}" for blow in trial.blows)
    report(f"{trial.loop}-{trial.processes} trial {trial.number}: {story}; " + ("; ".join(trial.complaints) or "equal"))


def report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def tables(trials: Sequence[Trial]) -> dict[str, Tally]:
    """By loop and processes, by signal, by moment. What shows at a trial's end is in the first and in all."""
    rows: dict[str, Tally] = {}
    for trial in trials:
        name = f"{trial.loop}, {trial.processes} process{'es' * (trial.processes > 1)}"
        rows.setdefault(name, Tally()).add(trial.end)
        rows.setdefault("all", Tally()).add(trial.end)
        for blow in trial.blows:
            for key in (name, "all", f"signal: {blow.how}", f"moment: {blow.when}"):
                rows.setdefault(key, Tally()).add(blow.tally)
    return dict(
        sorted(rows.items(), key=lambda row: (row[0] == "all", row[0].startswith("moment"), "signal" in row[0]))
    )
