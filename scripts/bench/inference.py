"""The benchmark's rows about rows that are not trained on: predict against `pipeline`, and prepare."""

from __future__ import annotations

import json
import random
import statistics
import sys
from pathlib import Path
from typing import Any

from scripts.bench.data import SAMPLES, task_data
from scripts.bench.measure import SCRIPTS, Bench, Pair, evenly, read_lines, say, write_rows
from scripts.bench.training import beside_matmul, finetune

BATCH_SIZES = (8, 16, 32, 64)  # what a user would try with pipeline
GPU_BATCH_SIZES = (32, 128, 512)
WORDS_OF_A_ROW = (4, 36)
EXTRAPOLATED_ROWS = 10_000_000
PREDICT_ROWS = ("predict", "predict_share", "predict_command")
PREPARE_ROWS = ("prepare", "prepare_scale")


def predict_pairs(bench: Bench, rows: list[str]) -> list[Pair]:
    """predict (rows/s with the model loaded), predict_share of torch.mm, predict_command (from the shell to the end).

    Of the test rows with a model that was trained for one update: `pipeline` as it comes, `pipeline` with each batch
    size, and `finetune predict`, one after the other in each turn.
    """
    source = task_data(bench.task)[0]
    test = source / "test.jsonl"
    with bench.scratch("predict") as directory:
        run, file = trained_run(bench, directory), directory / "unlabelled.jsonl"
        write_rows(file, evenly(read_lines(test if test.exists() else source / "train.jsonl"), bench.predict_rows))
        pairs = inside_pairs(bench, run, file, rows) if {"predict", "predict_share"} & set(rows) else []
        return pairs + (command_pairs(bench, run, file) if "predict_command" in rows else [])


def trained_run(bench: Bench, directory: Path) -> Path:
    data = directory / "data"
    for split in ("train", "validation"):
        write_rows(data / f"{split}.jsonl", evenly(read_lines(task_data(bench.task)[0] / f"{split}.jsonl"), 16))
    config = bench.config(directory, data, task=bench.task, max_steps=1)
    bench.run([*finetune(), "train", config, "--quiet"])
    return directory / "run"


def inside_pairs(bench: Bench, run: Path, file: Path, rows: list[str]) -> list[Pair]:
    ours, peaks = [], []
    theirs: dict[str, list[float]] = {}
    sizes = [str(size) for size in (GPU_BATCH_SIZES if bench.gpu else BATCH_SIZES)]
    output = bench.work / "answers.jsonl"
    common = ("--data", file, "--output", output)
    for turn in range(bench.repeats):
        say(f"predict, turn {turn + 1} of {bench.repeats}")
        if "predict" in rows:
            found = bench.part("pipeline", "--model", run / "model", *common, "--batch-sizes", *sizes)
            for size, seconds in found["seconds"].items():
                theirs.setdefault(size, []).append(found["rows"] / seconds)
        found, peak = beside_matmul(bench, lambda: bench.part("predict", "--model", run, *common))
        ours.append(found["rows"] / found["seconds"])
        peaks.append(peak)
    pairs = []
    if "predict" in rows:
        best = max(sizes, key=lambda size: statistics.median(theirs[size]))
        if not bench.gpu:
            pairs.append(Pair("predict", "predict / pipeline as it comes", "rows/s", ours, theirs[""], 2.5))
        goal = 3.0 if bench.gpu else 1.4
        pairs.append(Pair("predict", f"predict / pipeline, batch size {best}", "rows/s", ours, theirs[best], goal))
        others = [size for size in sizes if size != best]
        pairs += [Pair("predict", f"  with batch size {size}", "rows/s", ours, theirs[size]) for size in others]
    if "predict_share" in rows:
        parameters = bench.part("parameters", "--model", run / "model")["parameters"]
        counted = bench.part("tokens", "--model", run / "model", "--data", file)
        of_a_row = 2 * parameters * counted["tokens"] / counted["rows"] / 1e9
        useful = [speed * of_a_row for speed in ours]
        pairs.append(Pair("predict_share", "predict: share of torch.mm", "GFLOP/s", useful, peaks, 0.7))
    return pairs


def command_pairs(bench: Bench, run: Path, file: Path) -> list[Pair]:
    """Whole commands: `finetune predict`, and a script with `pipeline` as it comes."""
    ours, theirs = [], []
    output = bench.work / "answers.jsonl"
    script = [sys.executable, SCRIPTS / "parts.py", "pipeline", "--batch-sizes", "0"]
    for turn in range(bench.repeats):
        say(f"predict as a whole command, turn {turn + 1} of {bench.repeats}")
        theirs.append(bench.run([*script, "--model", run / "model", "--data", file, "--output", output]).seconds)
        ours.append(bench.run([*finetune(), "predict", run, file, "-o", output, "--quiet"]).seconds)
    what = f"predict {bench.predict_rows} rows, whole command"
    return [Pair("predict_command", what, "s", ours, theirs, higher_is_better=False)]


def prepare_pairs(bench: Bench, rows: list[str]) -> list[Pair]:
    pairs = sst2_pairs(bench) if "prepare" in rows else []
    return pairs + (scale_pairs(bench) if "prepare_scale" in rows else [])


def sst2_pairs(bench: Bench) -> list[Pair]:
    """SST-2: the first prepare beside the bare tokenizer on the same texts, and the second one as a whole command.

    The first is compared as a function call, its imports done before; the time of the whole command is also given.
    """
    found: dict[str, list[float]] = {"bare": [], "call": [], "first": [], "second": []}
    for turn in range(bench.repeats):
        say(f"prepare, turn {turn + 1} of {bench.repeats}")
        with bench.scratch("prepare") as directory:
            for name, value in sst2_turn(bench, directory).items():
                found[name].append(value)
    bare = found["bare"]
    return [
        Pair("prepare", "sst2, first prepare / bare tokenizer", "rows/s", found["call"], bare, 0.7),
        Pair("prepare", "  as a whole command", "rows/s", found["first"], bare),
        Pair("prepare", "sst2, second prepare", "s", found["second"], goal=1.0, higher_is_better=False),
    ]


def sst2_turn(bench: Bench, directory: Path) -> dict[str, float]:
    """Rows a second of the bare tokenizer, of a call of prepare and of its command; seconds of the command's repeat."""
    data = task_data("sst2")[0]
    config = bench.config(directory, data, task="sst2")
    bare = bench.part("tokenizer", "--model", bench.model, "--files", *sorted(data.glob("*.jsonl")))
    called = bench.part("prepare", "--data", config, FINETUNE_CACHE=str(directory / "cache-of-call"))
    if called["rows"] != bare["rows"]:
        raise RuntimeError(f"prepare took {called['rows']} rows, the bare tokenizer {bare['rows']}")
    command, cache = [*finetune(), "prepare", config, "--quiet"], str(directory / "cache")
    first, second = (bench.run(command, FINETUNE_CACHE=cache).seconds for _ in range(2))
    return {
        "bare": bare["rows"] / bare["seconds"],
        "call": called["rows"] / called["seconds"],
        "first": called["rows"] / first,
        "second": second,
    }


def scale_pairs(bench: Bench) -> list[Pair]:
    """Generated rows: seconds and peak memory of the whole command, once a size, and what 10 million would take."""
    measured = []
    for count in bench.generated_rows:
        say(f"prepare, {count:,} generated rows")
        with bench.scratch("generated") as directory:
            generate(directory / "data" / "train.jsonl", count)
            generate(directory / "data" / "validation.jsonl", 1000, seed=1)
            config = bench.config(directory, directory / "data", task="sst2")
            cache = str(directory / "cache")
            done = bench.run([*finetune(), "prepare", config, "--quiet"], FINETUNE_CACHE=cache)
        measured.append((count, done.seconds, done.peak_bytes / 1e6))
    shown = list(measured)
    if len(measured) > 1:
        shown.append((EXTRAPOLATED_ROWS, *(extrapolate(measured, column) for column in (1, 2))))
    pairs: list[Pair] = []
    for count, seconds, megabytes in shown:
        what = f"prepare {count:,} rows{' (extrapolated)' if count == EXTRAPOLATED_ROWS else ''}"
        pairs.append(Pair("prepare_scale", what, "s", [seconds]))
        pairs.append(Pair("prepare_scale", f"{what}: peak memory", "MB", [megabytes]))
    return pairs


def extrapolate(measured: list[Any], column: int) -> float:
    """The straight line through the smallest and the largest size."""
    small, large = measured[0], measured[-1]
    slope = (large[column] - small[column]) / (large[0] - small[0])
    return float(large[column] + slope * (EXTRAPOLATED_ROWS - large[0]))


def generate(file: Path, count: int, *, seed: int = 0) -> None:
    """Rows of random words from the shipped sentences, 4 to 36 each, written one by one."""
    generator = random.Random(seed)
    sentences = (json.loads(line)["sentence"] for line in read_lines(SAMPLES / "sst2-mini" / "train.jsonl"))
    words = sorted({word for sentence in sentences for word in sentence.split()})
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as output:
        for row in range(count):
            text = " ".join(generator.choices(words, k=generator.randint(*WORDS_OF_A_ROW)))
            output.write(json.dumps({"sentence": text, "label": row % 2, "idx": row}) + "\n")
