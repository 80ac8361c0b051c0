"""A run and its exports, one after the other in one process: rows a second on the same sorted batches of a split.

    python scripts/bench/exports.py RUN EXPORT [EXPORT ...] [--turns 20] [--threads 2]

Each turn scores the whole split once by every side, in a new order; a ratio is taken within a turn, so that a machine
that slows down slows both of its sides. Rows are tokenised before, except for `pipeline`, which takes texts; its best
batch size is found first. Of each export the proof is shown, too. Tables in Markdown, and the load of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH_SIZES = (8, 16, 32, 64)  # what a user would try with pipeline
SPLIT = "validation"
WEIGHTS = (".onnx", ".xml", ".bin", ".safetensors")
TORCH, PIPELINE = "torch fp32 (`predict`)", "`pipeline`"


def sides_of(run: Path, exports: list[Path]) -> tuple[dict[str, Callable[[], Any]], int]:
    """What labels the split, by the name of the side, and its number of rows."""
    import torch

    from finetune_cli.evaluation.inference import predict_logits
    from finetune_cli.models.exported import load_answering
    from finetune_cli.runs.rows import prepare_rows
    from finetune_cli.runs.target import open_target

    target, cpu = open_target(run), torch.device("cpu")
    assert target.config is not None, f"{run} is no run"
    prepared = prepare_rows(target.config, offline=True, quiet=True)
    rows, pad = prepared.splits[SPLIT], prepared.pad_token_id
    sides: dict[str, Callable[[], Any]] = {}
    for name, place in ((TORCH, target.model_dir), *((export.name, export) for export in exports)):
        model = load_answering(place, cpu)
        sides[name] = lambda model=model: predict_logits(model, rows, pad_token_id=pad, device=cpu)
    file = Path(target.config.data.path) / f"{SPLIT}.jsonl"
    sides |= pipeline_sides(target.model_dir, file, target.config.data.text)
    return sides, rows.num_rows


def pipeline_sides(model: Path, file: Path, columns: tuple[str, ...]) -> dict[str, Callable[[], Any]]:
    """One for each batch size."""
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(model), device="cpu")
    found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    inputs = [dict(zip(("text", "text_pair"), (row[name] for name in columns), strict=False)) for row in found]
    return {f"{PIPELINE}, batch {size}": lambda size=size: classify(inputs, batch_size=size) for size in BATCH_SIZES}


def seconds_of(side: Callable[[], Any]) -> tuple[float, float]:
    """Of the clock, and of all CPUs."""
    began, began_cpu = time.perf_counter(), time.process_time()
    side()
    return time.perf_counter() - began, time.process_time() - began_cpu


def only_best_pipeline(sides: dict[str, Callable[[], Any]], turns: int = 1) -> dict[str, Callable[[], Any]]:
    tried = [name for name in sides if name.startswith(PIPELINE)]
    cost = {name: min(seconds_of(sides[name])[1] for _ in range(turns)) for name in tried}
    best = min(tried, key=cost.__getitem__)
    return {name: side for name, side in sides.items() if name not in tried or name == best}


def measure(sides: dict[str, Callable[[], Any]], turns: int) -> list[dict[str, tuple[float, float]]]:
    for side in sides.values():
        side()
    found = []
    for turn in range(turns):
        order = list(sides)
        random.Random(turn).shuffle(order)
        found.append({name: seconds_of(sides[name]) for name in order})
        print(f"turn {turn + 1} of {turns}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return found


def table(turns: list[dict[str, tuple[float, float]]], rows: int) -> str:
    lines = [
        "| | rows/s | times `predict` (quartiles) | by CPU time | times `pipeline` |",
        "| --- | --- | --- | --- | --- |",
    ]
    pipeline = next(name for name in turns[0] if name.startswith(PIPELINE))
    for name in sorted(turns[0]):
        speed = statistics.median(rows / turn[name][0] for turn in turns)
        ratios = [turn[TORCH][0] / turn[name][0] for turn in turns]
        low, _, high = statistics.quantiles(ratios, n=4)
        by_cpu = statistics.median(turn[TORCH][1] / turn[name][1] for turn in turns)
        of_pipeline = statistics.median(turn[pipeline][0] / turn[name][0] for turn in turns)
        middle = statistics.median(ratios)
        lines.append(
            f"| {name} | {speed:.0f} | {middle:.2f} ({low:.2f}-{high:.2f}) | {by_cpu:.2f} | {of_pipeline:.2f} |"
        )
    return "\n".join(lines)


def proofs(exports: list[Path]) -> str:
    lines = ["| | MB | largest difference of a logit | answers changed | scores |", "| --- | --- | --- | --- | --- |"]
    for export in exports:
        told = json.loads((export / "export.json").read_text(encoding="utf-8"))
        proof = told["proof"]
        size = sum(file.stat().st_size for file in export.iterdir() if file.suffix in WEIGHTS) / 1e6
        scores = ", ".join(
            f"{one['metric']} {one['model']:.4f} to {one['exported']:.4f} [{one['low']:+.4f}, {one['high']:+.4f}]"
            for one in proof["drops"]
        )
        kept = "; faster form refused" if told["faster_refused"] else ""
        lines.append(
            f"| {export.name}{kept} | {size:.1f} | {proof['largest_difference']:.1e} | {proof['num_changed']} of "
            f"{proof['n']} | {scores} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("exports", type=Path, nargs="+")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # before torch is imported
    sides, rows = sides_of(options.run, options.exports)
    turns = measure(only_best_pipeline(sides), options.turns)
    print(proofs(options.exports), table(turns, rows), sep="\n\n")


if __name__ == "__main__":
    main()
