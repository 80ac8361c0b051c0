#!/usr/bin/env python3
"""Hurts real training runs and shows that nothing is lost: kills at random moments, full disks, damaged files.

    python scripts/faults/faults.py [--kills 200] [--processes 1,2] [--loops trainer,accelerate] [--jobs 2] [--json]
    python scripts/faults/faults.py --only disk,damage        # of: kills, disk, readonly, damage, lock, clock, moved

Each trial starts `python -m finetune_cli train` on a small BERT with dropout, ends it with a signal at a moment drawn
from the seed (any time of the undisturbed run, or aimed at what its files show: tokenisation, an update, an evaluation,
a checkpoint or the model being written, the end), starts it again, a few times over, and then lets it finish. Its
weights, optimizer, history (but for times), scores and predictions must be those of the undisturbed run, bit for bit
(several processes: the history to 1e-5). Exit code 1 when anything is not as it must be.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, fields
from itertools import product
from pathlib import Path

from scripts.faults.cases import CASES, FaultRuns, Result
from scripts.faults.kills import Tally, Trial, kill_campaign, report, tables


def print_table(rows: dict[str, Tally]) -> None:
    columns = [column.name for column in fields(Tally)]
    print(f"{'':<28}" + "".join(f"{column.replace('_', ' '):>13}" for column in columns))
    for name, tally in rows.items():
        print(f"{name:<28}" + "".join(f"{value:>13}" for value in asdict(tally).values()))


def read_options() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="signals that must land, in all (default 200)")
    parser.add_argument("--processes", type=lambda text: [int(n) for n in names(text)], default=[1, 2], metavar="1,2")
    parser.add_argument("--loops", type=names, default=["trainer", "accelerate"], metavar="trainer,accelerate")
    parser.add_argument(
        "--only", type=names, default=["kills", *CASES], metavar="A,B", help=f"of: kills, {', '.join(CASES)}"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time (default 2)")
    parser.add_argument("--folder", type=Path, help="where the runs go, and stay (default: a temporary directory)")
    parser.add_argument("--json", action="store_true", help="everything as one JSON document")
    return parser.parse_args()


def work_through(folder: Path, options: argparse.Namespace) -> tuple[list[Trial], list[Result]]:
    results: list[Result] = []
    cases = [name for name in options.only if name != "kills"]
    for name, loop in product(cases, options.loops):
        for result in CASES[name](FaultRuns(folder / name, loop)):
            results.append(result)
            report(f"{result.name}: {result.problem or 'as it must be'}")
    if "kills" not in options.only:
        return [], results
    names = ("kills", "loops", "processes", "jobs", "seed")
    return kill_campaign(folder / "kills", **{name: getattr(options, name) for name in names}), results


def main() -> int:
    options = read_options()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        trials, results = work_through(options.folder or Path(temporary), options)
    rows = tables(trials)
    failed = [result for result in results if result.problem]
    bits = sum(not trial.not_bit_equal for trial in trials)
    if options.json:
        document = {"seconds": time.monotonic() - began, "seed": options.seed, "bit_equal_trials": bits}
        lists = {"trials": [asdict(trial) for trial in trials], "cases": [asdict(result) for result in results]}
        print(
            json.dumps({**document, "rows": {name: asdict(tally) for name, tally in rows.items()}, **lists}, indent=2)
        )
    else:
        if trials:
            print_table(rows)
            print(f"{bits} of {len(trials)} trials are equal bit for bit.")
        for result in results:
            print(f"{result.name:<72} {result.problem or 'as it must be'}")
        print(f"{time.monotonic() - began:.0f} s")
    return 1 if failed or (trials and rows["all"].wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
