#!/usr/bin/env python3
"""Did a change alter training? Compares two run directories update by update, then their final weights.

    python scripts/compare_runs.py runs/before runs/after                    to 1e-5 relative
    python scripts/compare_runs.py runs/before runs/after --exact            bit for bit, times apart

Exit code 0: the same. 1: different (the first update beyond the tolerance is named). 2: a file is missing or damaged.
"""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

COMPARED = ("loss", "grad_norm", "learning_rate")
TIMES = {"seconds"}  # the one field of history.jsonl that may differ between equal runs


def read_history(run: Path) -> list[dict[str, Any]]:
    with (run / "history.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def updates_of(history: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The record of each update, by step. Raises ValueError for a step that was written twice."""
    records = [record for record in history if record["type"] == "train"]
    by_step = {record["step"]: record for record in records}
    if len(by_step) != len(records):
        raise ValueError("a step occurs twice in history.jsonl")
    return by_step


def relative_difference(a: float | None, b: float | None) -> float:
    """|a - b| over the larger of the two; 0 for equal values (None and NaN included), inf if only one is a number."""
    if a is None or b is None:
        return 0.0 if a is b else math.inf
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    difference = abs(a - b) / max(abs(a), abs(b))
    return math.inf if math.isnan(difference) else difference


def compare_updates(a: list[dict[str, Any]], b: list[dict[str, Any]], tolerance: float) -> bool:
    """Prints the largest difference of each field and the first update beyond the tolerance; True if all are within."""
    first, second = updates_of(a), updates_of(b)
    if not first or first.keys() != second.keys():
        print(f"updates            {len(first)} and {len(second)}: not the same steps")
        return False
    print(f"updates            {len(first)}")
    beyond = []
    for field in COMPARED:
        differences = {step: relative_difference(first[step][field], second[step][field]) for step in sorted(first)}
        worst = max(differences, key=lambda step: differences[step])
        print(f"{field:<18} {differences[worst]:.3g} at most (step {worst})")
        beyond += [(step, field) for step, value in differences.items() if value > tolerance]
    if beyond:
        step, field = min(beyond)
        print(f"first beyond {tolerance:g}: step {step}, {field} {first[step][field]} and {second[step][field]}")
    return not beyond


def compare_history_exactly(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> bool:
    """Prints the first record that differs in anything but its times; True if none does."""
    for number, (x, y) in enumerate(zip(a, b, strict=False), 1):
        # As text, so that NaN equals NaN and 1 differs from 1.0.
        different = [k for k in x.keys() | y.keys() if k not in TIMES and json.dumps(x.get(k)) != json.dumps(y.get(k))]
        if different:
            shown = ", ".join(f"{k} {x.get(k)} and {y.get(k)}" for k in sorted(different))
            print(f"history.jsonl      line {number} differs: {shown}")
            return False
    if len(a) != len(b):
        print(f"history.jsonl      {len(a)} and {len(b)} records")
        return False
    print(f"history.jsonl      {len(a)} records, equal")
    return True


def tensor_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest |a - b| over the tensor's largest value; 0 for the same bytes, inf for another shape or dtype."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return math.inf
    if a.tobytes() == b.tobytes():
        return 0.0
    a, b = a.astype(np.float64), b.astype(np.float64)
    scale = max(np.abs(a).max(), np.abs(b).max())
    difference = float(np.abs(a - b).max() / scale) if scale else 0.0
    return math.inf if math.isnan(difference) else difference


def compare_weights(first: Path, second: Path, tolerance: float, exact: bool) -> bool:
    """Prints the largest difference of any tensor, or the names that only one has; True if all are within.

    exact compares bytes: it also tells -0.0 from 0.0, whose difference is 0.
    """
    a, b = (load_file(run / "model" / "model.safetensors") for run in (first, second))
    if a.keys() != b.keys():
        print(f"weights            only one has: {', '.join(sorted(a.keys() ^ b.keys()))}")
        return False
    differences = {name: tensor_difference(a[name], b[name]) for name in sorted(a)}
    worst = max(differences, key=lambda name: differences[name])
    print(f"weights            {differences[worst]:.3g} at most ({worst}; {len(a)} tensors)")
    if exact:
        return all(differences[name] == 0 and a[name].tobytes() == b[name].tobytes() for name in a)
    return differences[worst] <= tolerance


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path, help="a run directory")
    parser.add_argument("second", type=Path, help="another")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="largest relative difference (default 1e-5)")
    parser.add_argument("--exact", action="store_true", help="bit for bit: every record but for its times, all weights")
    options = parser.parse_args()
    try:
        histories = [read_history(run) for run in (options.first, options.second)]
        tolerance = 0.0 if options.exact else options.tolerance
        same = compare_updates(*histories, tolerance)
        if options.exact:
            same = compare_history_exactly(*histories) and same
        same = compare_weights(options.first, options.second, tolerance, options.exact) and same
    except (OSError, ValueError, KeyError) as err:
        print(f"compare_runs: {type(err).__name__}: {err}", file=sys.stderr)
        return 2
    print("the same" if same else "different")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
