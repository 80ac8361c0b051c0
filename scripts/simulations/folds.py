"""How far apart are ten scores of the same 300 rows: by a single split, and by folds? Real trainings, as a table.

The rows are made up: one word of each decides its class, and a fifth of the labels are flipped, so that no model can be
right in more than 80 %. For each of ten seeds, which decide the rows that are held out, the new model and the order,

  split    60 of the 300 rows are held out, once
  folds    5 folds: each row is held out once, and all 300 are scored together
  others   the model of all 300 rows (--final) on 3,000 rows of the same kind

The model is a tiny new BERT, and the last update is kept, so that nothing is chosen.

Run: python scripts/simulations/folds.py
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

import yaml

from finetune_cli.commands.evaluate import evaluate
from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config

ROWS, OTHERS, FOLDS = 300, 3000, 5
FLIPPED = 0.2
TELLING = (("bad", "poor", "awful", "sad", "angry", "dull"), ("good", "great", "lovely", "superb", "happy", "warm"))
OTHER_WORDS = ("the", "a", "this", "was", "is", "very", "and", "it", "with", "some", "film", "meal", "book", "then")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=float, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="finetune-folds-") as name:
        folder = Path(name)
        write_rows(folder)
        scores = [scores_of(folder, seed, epochs=options.epochs) for seed in range(options.seeds)]
    print(json.dumps(scores))
    print(f"{'':6} {'mean':>7} {'sd':>7} {'lowest':>7} {'highest':>7}")
    for name in ("split", "folds", "others"):
        values = [one[name] for one in scores]
        spread = (statistics.mean(values), statistics.stdev(values), min(values), max(values))
        print(f"{name:6} {' '.join(f'{value:7.4f}' for value in spread)}")


def write_rows(folder: Path) -> None:
    generator = random.Random(0)
    for name, count in (("train", ROWS), ("others", OTHERS)):
        lines = [json.dumps(row(generator)) + "\n" for _ in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def row(generator: random.Random) -> dict[str, Any]:
    label = generator.randrange(2)
    words = [*generator.choices(OTHER_WORDS, k=generator.randrange(4, 16)), generator.choice(TELLING[label])]
    generator.shuffle(words)
    return {"sentence": " ".join(words), "label": 1 - label if generator.random() < FLIPPED else label}


def scores_of(folder: Path, seed: int, *, epochs: float) -> dict[str, float]:
    """Accuracy by a split, by folds, and on other rows with a model of all 300."""
    parts = {"splits": {"train": "train.jsonl", "validation": 1 / FOLDS}}
    split = trained(folder / "split", parts, seed, epochs)
    folds = trained(folder / "folds", {"folds": {"n": FOLDS, "seed": seed}}, seed, epochs, final=True)
    found = {
        "split": split.evaluations[0],
        "folds": folds.pooled,
        "others": evaluate(folds.final.run_dir, data=folder / "others.jsonl"),
    }
    return {name: report.metrics["accuracy"].value for name, report in found.items()}


def trained(run: Path, data: dict[str, Any], seed: int, epochs: float, **options: Any) -> Any:
    tiny = {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
    config = {
        "task": "sst2",
        "model": {"from_scratch": {**tiny, "max_position_embeddings": 64}},
        "data": {"path": str(run.parent), "splits": {"train": "train.jsonl"}, **data},
        "training": {"num_epochs": epochs, "batch_size": 16, "learning_rate": 3e-3, "precision": "fp32"},
        "evaluation": {"every": 10**6, "metric_for_best": None, "bootstrap": {"samples": 0}, "baseline": False},
        "output_dir": str(run),
        "seed": seed,
    }
    file = run.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return train(load_config(file), overwrite=True, **options)


if __name__ == "__main__":
    main()
