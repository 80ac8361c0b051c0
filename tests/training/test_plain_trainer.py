"""What makes training cheaper changes nothing: a plain Trainer script, given our order of rows, trains the same model.

Dropout is off: which elements it drops is all that may differ. Everything else is as each comes out of the box.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import Sampler
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.data.order import RowOrder

SEED, BATCH, EPOCHS, LEARNING_RATE = 3, 8, 3, 1e-3
OF_HISTORY, OF_WEIGHTS = 1e-5, 1e-4  # relative; a weight near 0 moves by Adam's share of rounding noise
MEASURED = ("loss", "grad_norm", "learning_rate")


class OurOrder(Sampler[int]):
    def __init__(self, order: RowOrder) -> None:
        self.order = order
        self.epochs = 0

    def __len__(self) -> int:
        return len(self.order.lengths)

    def __iter__(self) -> Iterator[int]:
        self.epochs += 1
        return iter(np.concatenate(self.order.epoch(self.epochs - 1)).tolist())


class PlainTrainer(Trainer):
    order: OurOrder

    def _get_train_sampler(self, *args: Any) -> OurOrder:
        return self.order


def train_plain(model_dir: Path, data: Path, output: Path, batching: str) -> tuple[np.ndarray, dict[str, torch.Tensor]]:
    """Loss, gradient norm and learning rate of each update (U, 3), and the weights at the end."""
    set_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    rows = [json.loads(line) for line in (data / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    encoded = [
        tokenizer(row["sentence1"], row["sentence2"], truncation=True) | {"labels": row["label"]} for row in rows
    ]
    model = AutoModelForSequenceClassification.from_pretrained(
        model_dir, num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    trainer = PlainTrainer(
        model,
        TrainingArguments(
            str(output),
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            seed=SEED,
            logging_steps=1,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
        ),
        train_dataset=encoded,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )
    lengths = np.array([len(row["input_ids"]) for row in encoded])
    trainer.order = OurOrder(RowOrder(lengths, batch_size=BATCH, seed=SEED, batching=batching))
    trainer.train()
    logged = [[float(entry[name]) for name in MEASURED] for entry in trainer.state.log_history if "loss" in entry]
    return np.array(logged), {name: weight.detach() for name, weight in model.state_dict().items()}


@pytest.mark.parametrize("loop", ["trainer", "accelerate"])
@pytest.mark.parametrize("batching", ["length", "random"])
def test_a_plain_trainer_script_with_our_order_trains_the_same_model(
    tmp_path: Path,
    tiny_bert: Path,
    make_dataset: Callable[..., Path],
    write_config: Callable[..., Path],
    loop: str,
    batching: str,
) -> None:
    data = make_dataset(tmp_path / "data", rows=53, kind="pair")  # the last update of an epoch is short
    settings = {"loop": loop, "batching": batching, "num_epochs": EPOCHS, "learning_rate": LEARNING_RATE}
    file = write_config(
        tmp_path,
        task="mrpc",
        model={"dropout": 0.0, "attention_dropout": 0.0},
        data={"path": str(data), "name": None},
        training=settings,
        evaluation={"every": 1000},
        seed=SEED,
    )
    report = train(load_config(file))
    history = map(json.loads, (report.run_dir / "history.jsonl").read_text(encoding="utf-8").splitlines())
    ours = np.array([[entry[name] for name in MEASURED] for entry in history if entry["type"] == "train"])
    plain, weights = train_plain(tiny_bert, data, tmp_path / "plain", batching)
    assert len(ours) == len(plain) == 21
    np.testing.assert_allclose(ours, plain, rtol=OF_HISTORY)
    saved = load_file(report.run_dir / "model" / "model.safetensors")
    # A key's bias is left out: its true gradient is 0, and Adam scales rounding noise up to full steps.
    for name, weight in ((name, weight) for name, weight in saved.items() if "key.bias" not in name):
        torch.testing.assert_close(weight, weights[name], rtol=0, atol=OF_WEIGHTS * float(weight.abs().max()), msg=name)
