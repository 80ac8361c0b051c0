"""What does pruning bring? Two searches of MRPC with the same budget of updates, as a table.

  pruned   20 random settings, those that fall behind ended early (the median pruner)
  random   as many of the same random settings as the same number of updates trains to their end

The first rows of train are trained on, the first rows of validation choose, and all of test says what the best of each
search is worth. Needs `mrpc/train.jsonl`, `validation.jsonl` and `test.jsonl` in the folder FINETUNE_GLUE_DIR.

Run: FINETUNE_GLUE_DIR=rows python scripts/simulations/pruning.py --model bert-base-uncased
"""

from __future__ import annotations

import argparse
import json
import os
from itertools import islice
from pathlib import Path

import yaml

from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.sweep import sweep
from finetune_cli.config.load import load_config
from finetune_cli.records.sweep import SweepReport

UPDATES, BETWEEN_EVALUATIONS = 100, 20  # of a trial that is not pruned
ROWS = {"train": 800, "validation": 408, "test": 1725}
CONFIG = {
    "task": "mrpc",
    "training": {"max_steps": UPDATES, "batch_size": 8, "precision": "fp32"},
    "evaluation": {"every": BETWEEN_EVALUATIONS, "metric_for_best": "accuracy", "baseline": False},
    "checkpointing": {"keep": 1},
    "sweep": {
        "parameters": {
            "training.learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
            "training.lr_scheduler": ["linear", "cosine", "constant"],
            "training.weight_decay": [0.0, 0.01, 0.1],
            "training.label_smoothing": [0.0, 0.1],
        },
        "trials": 20,
        "sampler": "random",
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--output-dir", type=Path, default=Path("runs/pruning"))
    options = parser.parse_args()
    config = write_config(options.output_dir, options.model)
    pruned = sweep(load_config(config, [f"output_dir={options.output_dir / 'pruned'}", "sweep.pruner=median"]))
    trials = max(2, round(updates_of(pruned) / UPDATES))
    unpruned = sweep(load_config(config, [f"output_dir={options.output_dir / 'random'}", f"sweep.trials={trials}"]))
    print(f"{'':7} {'trials':>7} {'pruned':>7} {'updates':>8} {'seconds':>8}  accuracy, corrected, on test")
    for name, report in (("pruned", pruned), ("random", unpruned)):
        show(name, report)


def write_config(folder: Path, model: str) -> Path:
    rows = folder / "rows"
    rows.mkdir(parents=True, exist_ok=True)
    for split, count in ROWS.items():
        with (Path(os.environ["FINETUNE_GLUE_DIR"]) / "mrpc" / f"{split}.jsonl").open(encoding="utf-8") as lines:
            (rows / f"{split}.jsonl").write_text("".join(islice(lines, count)), encoding="utf-8")
    file = folder / "config.yaml"
    sections = {"model": {"name_or_path": model}, "data": {"path": str(rows), "max_length": 48}}
    file.write_text(yaml.safe_dump({**CONFIG, **sections}), encoding="utf-8")
    return file


def updates_of(report: SweepReport) -> int:
    """Updates of all trials together, from their histories."""
    histories = (report.run_dir / f"trial-{trial.number}" / "history.jsonl" for trial in report.trials)
    return sum(json.loads(file.read_text(encoding="utf-8").splitlines()[-1])["step"] for file in histories)


def show(name: str, report: SweepReport) -> None:
    assert report.best is not None, "some trial has finished"
    found = evaluate(report.run_dir / "best", split="test").metrics["accuracy"]
    seconds = sum(trial.seconds for trial in report.trials)
    counts = f"{len(report.trials):7} {report.count('pruned'):7} {updates_of(report):8} {seconds:8.0f}"
    print(f"{name:7} {counts}  {report.trial(report.best).score}, {report.corrected}, {found}")


if __name__ == "__main__":
    main()
