"""The reference of the benchmarks: a plain Trainer script, as the Hugging Face course teaches it.

    python scripts/bench/reference.py --model DIRECTORY --data DIRECTORY --output DIRECTORY [--seed 42] [--epochs 3]

It is written as a user would write it and left as it comes out of the box: no option here makes it slower or faster
than TrainingArguments' defaults, but for --bf16 where a GPU is compared. Two things differ from the course, both in its
favour or without effect: the rows come from files, and accuracy and F1 are computed in NumPy instead of fetching code
from the Hub. What is written for the benchmark's sake (predictions by row, times of the updates) comes after training.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from datasets import load_dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

TEXT_COLUMNS = {"mrpc": ("sentence1", "sentence2"), "sst2": ("sentence",)}
LABEL_NAMES = {"mrpc": ("not_equivalent", "equivalent"), "sst2": ("negative", "positive")}


class UpdateClock(TrainerCallback):
    """The clock's time at the end of each update; `first_update` is a file left after the first one."""

    def __init__(self, first_update):
        self.times = []
        self.first_update = first_update

    def on_step_end(self, args, state, control, **kwargs):
        self.times.append(time.perf_counter())
        if self.first_update and state.global_step == 1:
            self.first_update.touch()


def compute_metrics(eval_prediction):
    predictions = np.argmax(eval_prediction.predictions, axis=-1)
    labels = eval_prediction.label_ids
    true_positives = int(((predictions == 1) & (labels == 1)).sum())
    positives = int((predictions == 1).sum()) + int((labels == 1).sum())
    f1 = 2 * true_positives / positives if positives else 0.0
    return {"accuracy": float((predictions == labels).mean()), "f1": f1}


def write_predictions(path, ids, logits, labels, names):
    """One line per row, in the form of finetune's eval/<split>/predictions.jsonl."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=-1, keepdims=True)
    with path.open("w", encoding="utf-8") as file:
        for row_id, label, of_row in zip(ids, labels, probabilities, strict=True):
            by_name = dict(zip(names, map(float, of_row), strict=True))
            line = {"id": row_id, "label": names[label], "prediction": names[of_row.argmax()], "probabilities": by_name}
            file.write(json.dumps(line) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="Hub id or directory")
    parser.add_argument("--data", required=True, type=Path, help="directory with train.jsonl and validation.jsonl")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--task", choices=TEXT_COLUMNS, default="mrpc")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--max-steps", type=int, default=-1, help="updates, in place of epochs")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--no-scores", action="store_true", help="train only")
    parser.add_argument("--first-update", type=Path, help="a file to leave when the first update is done")
    options = parser.parse_args()
    set_seed(options.seed)

    files = {split: str(options.data / f"{split}.jsonl") for split in ("train", "validation")}
    raw_datasets = load_dataset("json", data_files=files)
    tokenizer = AutoTokenizer.from_pretrained(options.model)

    def tokenize_function(example):
        return tokenizer(*(example[column] for column in TEXT_COLUMNS[options.task]), truncation=True)

    tokenized_datasets = raw_datasets.map(tokenize_function, batched=True)
    data_collator = DataCollatorWithPadding(tokenizer=tokenizer)
    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=2)
    training_args = TrainingArguments(
        str(options.output / "trainer"),
        num_train_epochs=options.epochs,
        max_steps=options.max_steps,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        seed=options.seed,
        bf16=options.bf16,
    )
    clock = UpdateClock(options.first_update)
    trainer = Trainer(
        model,
        training_args,
        train_dataset=tokenized_datasets["train"],
        eval_dataset=tokenized_datasets["validation"],
        data_collator=data_collator,
        processing_class=tokenizer,
        compute_metrics=compute_metrics,
        callbacks=[clock],
    )
    trainer.train()

    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "updates.json").write_text(json.dumps({"seconds": clock.times}), encoding="utf-8")
    if not options.no_scores:
        rows = raw_datasets["validation"]
        scored = trainer.predict(tokenized_datasets["validation"])
        ids = rows["idx"] if "idx" in rows.column_names else range(len(rows))
        names = LABEL_NAMES[options.task]
        write_predictions(options.output / "predictions.jsonl", ids, scored.predictions, scored.label_ids, names)
        (options.output / "metrics.json").write_text(json.dumps(scored.metrics, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
