#!/usr/bin/env python3
"""How long the command line takes to start, beside what it cannot do without: `import typer`.

    .venv/bin/python scripts/bench/startup.py [--json] [--repeats 15]

The commands take turns, so that a machine that slows down slows all of them; medians of the wall-clock time of a
fresh process each, the first turn (cold files) left out. The goals: --help within 3 times the reference, a config with
five mistakes answered within 0.5 s.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# An unknown key, text for a number, a value out of range, a metric of another task, a word that is not offered.
FIVE_MISTAKES = """\
task: mrpc
model:
  name_or_path: bert-base-uncased
training:
  lerning_rate: 5e-5
  batch_size: eight
  num_epochs: -1
  loop: trainr
evaluation:
  metric_for_best: pearson
"""
REFERENCE = "import typer"


def commands(config: Path) -> dict[str, tuple[list[str], int]]:
    """What is measured: name -> (command, the exit code it must end with)."""
    script = Path(sys.executable).with_name("finetune")
    finetune = [str(script)] if script.exists() else [sys.executable, "-m", "finetune_cli"]
    return {
        REFERENCE: ([sys.executable, "-c", "import typer"], 0),
        "finetune --help": ([*finetune, "--help"], 0),
        "finetune validate (5 mistakes)": ([*finetune, "validate", str(config)], 2),
    }


def seconds_of(command: list[str], expected_code: int) -> float:
    """Wall-clock seconds of one run. Raises RuntimeError if it does not end as it should."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != expected_code:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}, not {expected_code}\n{done.stderr}")
    return seconds


def measure(repeats: int) -> dict[str, dict[str, float]]:
    """Name -> median, fastest and slowest seconds, and the ratio of the median to the reference's."""
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "config.yaml"
        config.write_text(FIVE_MISTAKES, encoding="utf-8")
        measured = commands(config)
        turns = [{name: seconds_of(*what) for name, what in measured.items()} for _ in range(repeats + 1)][1:]
    results = {}
    for name in measured:
        times = [turn[name] for turn in turns]
        results[name] = {"median": statistics.median(times), "min": min(times), "max": max(times)}
    for result in results.values():
        result["ratio"] = result["median"] / results[REFERENCE]["median"]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="turns that count (default 15)")
    parser.add_argument("--json", action="store_true", help="the result as one JSON document")
    options = parser.parse_args()
    results = measure(options.repeats)
    if options.json:
        print(json.dumps({"repeats": options.repeats, "seconds": results}, indent=2))
        return
    print(f"{'seconds, ' + str(options.repeats) + ' turns':<32}{'median':>9}{'min':>9}{'max':>9}{'ratio':>8}")
    for name, result in results.items():
        numbers = "".join(f"{result[key]:>9.3f}" for key in ("median", "min", "max"))
        print(f"{name:<32}{numbers}{result['ratio']:>8.2f}")


if __name__ == "__main__":
    main()
