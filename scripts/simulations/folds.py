"""How far apart are ten scores of the same few rows: by a single split, and by folds? Real trainings, as a table.

From a file with `sentence` and `label` (as SST-2 has them) the first 300 rows are trained on, and the others say what a
model of all 300 is worth. For each of ten seeds, which decide the rows that are held out, the head and the order,

  split    60 of the 300 rows are held out, once
  folds    5 folds: each row is held out once, and all 300 are scored together

The body of the model is frozen and the last update is kept, so that nothing is chosen and a training takes seconds.

Run: python scripts/simulations/folds.py validation.jsonl --model bert-base-uncased
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config

ROWS, FOLDS = 300, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="finetune-folds-") as folder:
        scores = {
            seed: scores_of(Path(folder), options.file, options.model, seed, epochs=options.epochs)
            for seed in range(options.seeds)
        }
    print(json.dumps(scores))
    print(f"{'':6} {'mean':>7} {'sd':>7} {'lowest':>7} {'highest':>7}")
    for name in ("split", "folds", "others"):
        values = [one[name] for one in scores.values()]
        spread = (statistics.mean(values), statistics.stdev(values), min(values), max(values))
        print(f"{name:6} {' '.join(f'{value:7.4f}' for value in spread)}")


def scores_of(folder: Path, file: Path, model: str, seed: int, *, epochs: float) -> dict[str, float]:
    """Accuracy by a split, by folds, and on the other rows of the file with a model of all 300."""
    with file.open(encoding="utf-8") as rows:
        parts = {"train": list(islice(rows, ROWS)), "others": list(rows)}
    for name, lines in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    whole = {"folds": {"n": FOLDS, "seed": seed}}
    split = trained(
        folder / "split", {"splits": {"train": "train.jsonl", "validation": 1 / FOLDS}}, model, seed, epochs
    )
    folds = trained(folder / "folds", whole, model, seed, epochs, final=True)
    others = evaluate(folds.final.run_dir, data=folder / "others.jsonl")
    return {
        "split": split.evaluations[0].metrics["accuracy"].value,
        "folds": folds.pooled.metrics["accuracy"].value,
        "others": others.metrics["accuracy"].value,
    }


def trained(run: Path, data: dict[str, Any], model: str, seed: int, epochs: float, **options: Any) -> Any:
    config = {
        "task": "sst2",
        "model": {"name_or_path": model, "freeze": "body"},
        "data": {"path": str(run.parent), "splits": {"train": "train.jsonl"}, "max_length": 64, **data},
        "training": {"num_epochs": epochs, "batch_size": 16, "learning_rate": 2e-3, "precision": "fp32"},
        "evaluation": {"every": 10**6, "metric_for_best": None, "bootstrap": {"samples": 0}, "baseline": False},
        "output_dir": str(run),
        "seed": seed,
    }
    file = run.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return train(load_config(file), overwrite=True, **options)


if __name__ == "__main__":
    main()
