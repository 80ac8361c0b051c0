"""A sweep killed again and again, against the same sweep left alone: the same trials, none twice, no orphan process.

    python scripts/faults/sweep.py --kills 40 --trials 12 --updates 40

Each kill is a SIGKILL at a random moment of `finetune sweep`; then the same command is started again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SETTLE_SECONDS = 0.5


def config_text(output_dir: Path, *, trials: int, updates: int, sampler: str, pruner: str) -> str:
    return json.dumps(
        {
            "task": "sst2",
            "model": {
                "from_scratch": {
                    "vocab_size": 300,
                    "hidden_size": 16,
                    "num_hidden_layers": 1,
                    "intermediate_size": 32,
                    "max_position_embeddings": 32,
                }
            },
            "data": {"path": "builtin:sst2-mini", "limit": 100},
            "training": {"max_steps": updates, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32"},
            "evaluation": {"every": max(1, updates // 4), "metric_for_best": "loss", "bootstrap": {"samples": 50}},
            "checkpointing": {"every": max(1, updates // 8)},
            "output_dir": str(output_dir),
            "sweep": {
                "parameters": {
                    "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
                    "training.batch_size": [4, 8, 16],
                    "training.micro_batch_size": ["auto", 8],
                },
                "trials": trials,
                "sampler": sampler,
                "pruner": pruner,
            },
        }
    )


def start(file: Path, cache: Path, log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "FINETUNE_CACHE": str(cache), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "finetune_cli", "sweep", str(file), "--quiet"]
    with log.open("ab") as output:
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=output)


def table(directory: Path) -> list[dict[str, Any]]:
    """What is to be the same: settings, states, scores and errors; not the seconds, nor the directory in an error."""
    text = (directory / "summary.json").read_text(encoding="utf-8")
    summary = json.loads(text.replace(str(directory), "DIR"))
    return [{key: value for key, value in trial.items() if key != "seconds"} for trial in summary["trials"]]


def orphans(file: Path) -> list[str]:
    """Command lines of living processes that work at this sweep (Linux)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(file).encode() in words:
            found.append(b" ".join(words).decode())
    return found


def kill_again_and_again(
    folder: Path, *, kills: int, trials: int, updates: int, sampler: str, pruner: str, seed: int
) -> list[str]:
    """What differs between the sweep that was killed and the one that was not; empty when nothing does."""
    rng, files = random.Random(seed), {}
    for name in ("undisturbed", "killed"):
        files[name] = folder / f"{name}.yaml"
        text = config_text(folder / name, trials=trials, updates=updates, sampler=sampler, pruner=pruner)
        files[name].write_text(text, encoding="utf-8")
    began = time.monotonic()
    if start(files["undisturbed"], folder / "cache", folder / "undisturbed.log").wait() != 0:
        return [f"the undisturbed sweep failed; see {folder / 'undisturbed.log'}"]
    whole = time.monotonic() - began
    landed = 0
    while landed < kills:
        process = start(files["killed"], folder / "cache", folder / "killed.log")
        # Around the time of a start and a part of a trial: some kills come before training, most within it.
        try:
            process.wait(timeout=rng.uniform(0.2, 1.0) * max(6.0, whole / 8))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            landed += 1
            print(f"kill {landed} of {kills}", flush=True)
        else:
            break  # it came to its end
    if start(files["killed"], folder / "cache", folder / "killed.log").wait() != 0:
        return [f"the killed sweep failed; see {folder / 'killed.log'}"]
    time.sleep(SETTLE_SECONDS)
    problems = [f"still alive: {line}" for line in orphans(files["killed"])]
    first, other = table(folder / "undisturbed"), table(folder / "killed")
    problems += [f"trial differs:\n  {a}\n  {b}" for a, b in zip(first, other, strict=False) if a != b]
    if len(first) != len(other):
        problems.append(f"{len(first)} trials undisturbed, {len(other)} killed")
    print(f"{landed} kills landed, {len(first)} trials, {whole:.0f} s undisturbed, states {states(first)}", flush=True)
    return problems


def states(trials: list[dict[str, Any]]) -> dict[str, int]:
    found = [trial["state"] for trial in trials]
    return {state: found.count(state) for state in sorted(set(found))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--pruner", default="none")
    parser.add_argument("--seed", type=int, default=0)
    with tempfile.TemporaryDirectory(prefix="finetune-sweep-") as folder:
        problems = kill_again_and_again(Path(folder), **vars(parser.parse_args()))
        for problem in problems:
            print(problem)
    print("the same" if not problems else f"{len(problems)} differences")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
