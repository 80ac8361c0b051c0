"""The benchmark's training rows: speed at batch 8 and 32, peak memory, and the time from the shell to the first update.

Both sides train the same rows twice over, and the second time is measured: warm, and exactly the same work on both
sides, whichever order each takes. 50 updates are one pool of `training.batching: length`, so rows are as well sorted
by length as in a whole run. Checkpoints and evaluations are outside of what is timed: plain Trainer saves each 500
updates only, finetune each epoch.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from scripts.bench.data import task_data
from scripts.bench.measure import SCRIPTS, Bench, Finished, Pair, evenly, read_lines, say, write_rows

T = TypeVar("T")
NEVER = 10**6  # an interval in updates longer than any run: at the end only
VALIDATION_ROWS = 64
PLAIN, DEFAULT, FAST, ACCELERATE, PLAIN_BF16 = "plain", "default", "fast", "accelerate", "plain bf16"
IMPORTS, MODEL_CODE = "imports", "transformers.models.bert.modeling_bert"
TRADES = (  # settings that "Options that trade" in docs/speed.md names, for a model of six layers
    "model.attention_dropout=0",
    "model.freeze=embeddings",
    "model.freeze=3",
    "model.freeze=body",
    "model.lora.r=8",
    "training.gradient_checkpointing=true",
    "training.packing=true",
)
SIDES: dict[str, tuple[str, ...]] = {
    "train8": (PLAIN, DEFAULT),
    "train8_fast": (PLAIN, FAST),
    "accelerate": (DEFAULT, ACCELERATE),
    "memory": (PLAIN, DEFAULT),
    "trade": (DEFAULT, *TRADES),
    "gpu": (PLAIN, PLAIN_BF16, DEFAULT, FAST, ACCELERATE, "training.cuda_graphs=false", "training.compile=true"),
}
GPU_LARGE_BATCH = 256


@dataclass(frozen=True)
class Trained:
    """One run: rows and real tokens (padding left out) of a second in its second epoch; peak memory of the process."""

    rows_per_second: float
    tokens_per_second: float
    peak_bytes: int


def finetune() -> list[str]:
    """The command as a user has it."""
    script = Path(sys.executable).with_name("finetune")
    return [str(script)] if script.exists() else [sys.executable, "-m", "finetune_cli"]


def plain_command(bench: Bench, data: Path, output: Path, *arguments: str | Path | int) -> list[str]:
    fixed = ["--model", bench.model, "--data", data, "--output", output, "--task", bench.task]
    return [sys.executable, *map(str, (SCRIPTS / "reference.py", *fixed, *arguments))]


def two_epochs(bench: Bench, batch_size: int) -> tuple[Path, int]:
    """A directory with rows for `bench.updates` updates an epoch, and their real tokens."""
    source, data = task_data(bench.task)[0], bench.work / f"{bench.task}-{batch_size}"
    train = evenly(read_lines(source / "train.jsonl"), bench.updates * batch_size)
    write_rows(data / "train.jsonl", train)
    write_rows(data / "validation.jsonl", evenly(read_lines(source / "validation.jsonl"), VALIDATION_ROWS))
    return data, bench.part("tokens", "--model", bench.model, "--data", data / "train.jsonl")["tokens"]


def train(bench: Bench, side: str, data: Path, *, batch_size: int, tokens: int) -> Trained:
    with bench.scratch(side.replace(" ", "-")) as directory:
        train_once = train_plain if side in (PLAIN, PLAIN_BF16) else train_ours
        done, times = train_once(bench, side, data, directory, batch_size)
    if len(times) != 2 * bench.updates:
        raise RuntimeError(f"{side}: {len(times)} updates were done; expected {2 * bench.updates}")
    seconds = times[-1] - times[bench.updates - 1]
    return Trained(bench.updates * batch_size / seconds, tokens / seconds, done.peak_bytes)


def train_plain(bench: Bench, side: str, data: Path, directory: Path, batch_size: int) -> tuple[Finished, list[float]]:
    """The process, and its clock at the end of each update."""
    flags = ["--epochs", 2, "--batch-size", batch_size, *(["--bf16"] if side == PLAIN_BF16 else [])]
    done = bench.run(plain_command(bench, data, directory / "run", *flags))
    return done, json.loads((directory / "run" / "updates.json").read_text(encoding="utf-8"))["seconds"]


def train_ours(bench: Bench, side: str, data: Path, directory: Path, batch_size: int) -> tuple[Finished, list[float]]:
    """The process, and its clock at the end of each update."""
    config = bench.config(directory, data, task=bench.task, batch_size=batch_size, num_epochs=2)
    of_side = {DEFAULT: (), FAST: bench.fast, ACCELERATE: ("training.loop=accelerate",)}.get(side, (side,))
    settings = [f"evaluation.every={NEVER}", f"checkpointing.every={NEVER}", *of_side]
    done = bench.run([*finetune(), "train", config, "--quiet", *chain(*(("-s", one) for one in settings))])
    history = map(json.loads, read_lines(directory / "run" / "history.jsonl"))
    return done, [record["seconds"] for record in history if record["type"] == "train"]


def measure_sides(bench: Bench, sides: list[str], *, batch_size: int) -> dict[str, list[Trained]]:
    """Side -> one run per turn; the sides take turns, in each turn the other way round."""
    data, tokens = two_epochs(bench, batch_size)
    found: dict[str, list[Trained]] = {side: [] for side in sides}
    for turn in range(bench.repeats):
        for side in sides if turn % 2 == 0 else reversed(sides):
            say(f"training, batch {batch_size}, turn {turn + 1} of {bench.repeats}: {side}")
            found[side].append(train(bench, side, data, batch_size=batch_size, tokens=tokens))
    return found


def speed(runs: list[Trained]) -> list[float]:
    return [run.rows_per_second for run in runs]


def memory(runs: list[Trained]) -> list[float]:
    return [run.peak_bytes / 1e6 for run in runs]


def measure_batch_8(bench: Bench, rows: list[str]) -> list[Pair]:
    """train8, train8_fast, accelerate, memory and trade, from the same turns."""
    found = measure_sides(bench, list(dict.fromkeys(side for row in rows for side in SIDES[row])), batch_size=8)
    pairs = []
    if "train8" in rows:
        pairs.append(Pair("train8", "train, batch 8", "rows/s", speed(found[DEFAULT]), speed(found[PLAIN]), 1.4))
    if "train8_fast" in rows:
        what = f"train, batch 8, {shlex.join(bench.fast)}"
        pairs.append(Pair("train8_fast", what, "rows/s", speed(found[FAST]), speed(found[PLAIN]), 1.65))
    if "accelerate" in rows:
        what = "accelerate loop / trainer loop"
        pairs.append(Pair("accelerate", what, "rows/s", speed(found[ACCELERATE]), speed(found[DEFAULT]), 1.0))
    if "memory" in rows:
        ours, plain = memory(found[DEFAULT]), memory(found[PLAIN])
        pairs.append(Pair("memory", "train, batch 8: peak memory", "MB", ours, plain, 1.0, higher_is_better=False))
    for option in TRADES if "trade" in rows else ():
        pairs.append(Pair("trade", f"{option} / default", "rows/s", speed(found[option]), speed(found[DEFAULT])))
        taken, usual = memory(found[option]), memory(found[DEFAULT])
        pairs.append(Pair("trade", "  its peak memory", "MB", taken, usual, higher_is_better=False))
    return pairs


def measure_share(bench: Bench) -> list[Pair]:
    """train32_share: multiplications and additions that the model needs, beside what torch.mm does in a second.

    Needed: 6 for each parameter outside the embeddings and each real token (forward 2, backward 4).
    """
    data, tokens = two_epochs(bench, 32)
    parameters = bench.part("parameters", "--model", bench.model)["parameters"]
    useful, reached = [], []
    for turn in range(bench.repeats):
        say(f"torch.mm and training, batch 32, turn {turn + 1} of {bench.repeats}")
        trained, peak = beside_matmul(bench, lambda: train(bench, DEFAULT, data, batch_size=32, tokens=tokens))
        useful.append(6 * parameters * trained.tokens_per_second / 1e9)
        reached.append(peak)
    return [Pair("train32_share", "train, batch 32: share of torch.mm", "GFLOP/s", useful, reached, 0.6)]


def matmul(bench: Bench) -> float:
    """GFLOP/s of torch.mm, at the best of several sizes."""
    return float(bench.part("matmul")["gflops"])


def beside_matmul(bench: Bench, action: Callable[[], T]) -> tuple[T, float]:
    """What the action gives, and the mean speed of torch.mm before and after it: shared machines change theirs."""
    before = matmul(bench)
    result = action()
    return result, (before + matmul(bench)) / 2


def measure_gpu(bench: Bench) -> list[Pair]:
    """Batch 32 on a GPU: against plain Trainer in fp32 and in bf16, beside other settings, and as a share of the
    device's matrix peak; the share also at a batch that fills the device."""
    found = measure_sides(bench, list(SIDES["gpu"]), batch_size=32)
    ours, what = speed(found[DEFAULT]), f"train {bench.task}, batch 32"
    pairs = [
        Pair("gpu", f"{what}, default / plain fp32", "rows/s", ours, speed(found[PLAIN]), 4.0),
        Pair("gpu", f"{what}, default / plain bf16", "rows/s", ours, speed(found[PLAIN_BF16]), 1.5),
    ]
    for side in SIDES["gpu"][3:]:
        label = shlex.join(bench.fast) if side == FAST else "loop accelerate" if side == ACCELERATE else side
        pairs.append(Pair("gpu", f"  {label} / default", "rows/s", speed(found[side]), ours))
    parameters = bench.part("parameters", "--model", bench.model)["parameters"]
    peaks = [matmul(bench) for _ in range(bench.repeats)]

    def share(batch_size: int, label: str, runs: list[Trained]) -> Pair:
        useful = [6 * parameters * run.tokens_per_second / 1e9 for run in runs]
        return Pair("gpu", f"train {bench.task}, batch {batch_size}, {label}: torch.mm", "GFLOP/s", useful, peaks)

    compiled = SIDES["gpu"][-1]
    pairs += [share(32, "default", found[DEFAULT]), share(32, compiled, found[compiled])]
    few = replace(bench, updates=max(8, bench.updates * 32 // GPU_LARGE_BATCH))
    large = measure_sides(few, [DEFAULT, compiled], batch_size=GPU_LARGE_BATCH)
    return [*pairs, *(share(GPU_LARGE_BATCH, side, runs) for side, runs in large.items())]


def measure_start(bench: Bench) -> list[Pair]:
    """start: from the shell to the end of the first update, on all rows, which both sides have tokenised before.

    Plain script: its `map` finds its cache, too. The run has one update, so that its record is written at once. Beside
    them what no program that trains such a model with transformers can do without: importing torch and its code.
    """
    data = task_data(bench.task)[0]
    found: dict[str, list[float]] = {DEFAULT: [], PLAIN: [], IMPORTS: []}
    for turn in range(bench.repeats + 1):
        say(f"start, turn {turn} of {bench.repeats}{'' if turn else ' (fills the caches, not counted)'}")
        for side in (DEFAULT, PLAIN):
            found[side].append(first_update(bench, side, data))
        found[IMPORTS].append(bench.run([sys.executable, "-c", f"import {MODEL_CODE}"]).seconds)
    ours, plain, imports = (times[1:] for times in found.values())
    return [
        Pair("start", "shell to first update", "s", ours, plain, 0.5, higher_is_better=False),
        Pair("start", f"  import {MODEL_CODE}", "s", imports, plain, higher_is_better=False),
    ]


def first_update(bench: Bench, side: str, data: Path) -> float:
    with bench.scratch(f"start-{side}") as directory:
        if side == PLAIN:
            mark = directory / "first-update"
            command = plain_command(bench, data, directory / "run", "--max-steps", 1, "--first-update", mark)
            return bench.seconds_until(command, mark.exists)
        config = bench.config(directory, data, task=bench.task, max_steps=1)
        history = directory / "run" / "history.jsonl"
        return bench.seconds_until(
            [*finetune(), "train", config, "--quiet"], lambda: history.exists() and '"train"' in history.read_text()
        )


def training_pairs(bench: Bench, rows: list[str]) -> list[Pair]:
    together: list[Any] = [row for row in rows if row in SIDES and row != "gpu"]
    pairs = measure_batch_8(bench, together) if together else []
    pairs += measure_share(bench) if "train32_share" in rows else []
    pairs += measure_gpu(bench) if "gpu" in rows else []
    pairs += measure_start(bench) if "start" in rows else []
    return pairs
