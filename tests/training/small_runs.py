"""Small real training runs for the tests of the loops: a tiny BERT, rows of varied lengths, either loop."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import set_seed
from transformers import BertConfig, BertForSequenceClassification

from finetune_cli.data.batching import EpochLoader, TrainingRows, UpdateSampler
from finetune_cli.data.order import RowOrder, micro_batches_per_update
from finetune_cli.evaluation.inference import predict_logits
from finetune_cli.evaluation.kinds import KINDS
from finetune_cli.records.training import EvalRecord
from finetune_cli.training import accelerate_loop, optimization, trainer_loop
from finetune_cli.training.checkpointing import Checkpoints
from finetune_cli.training.monitor import BestRule, Cadence, Monitor
from finetune_cli.training.objective import Objective, row_losses
from finetune_cli.training.stopping import StopRequest

VOCABULARY = 60
SEED = 7


@dataclass
class Rows:
    """Random token rows, 3 to 24 tokens long, laid end to end."""

    input_ids: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    token_type_ids: None = None

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


def make_rows(count: int, *, kind: str = "classification", num_classes: int = 2, seed: int = 0) -> Rows:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(3, 25, count)
    labels = generator.integers(0, num_classes, count)
    input_ids = generator.integers(1, VOCABULARY, lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    input_ids[offsets[:-1]] = 1 + labels  # the first token tells the label: something to learn
    if kind == "multilabel":
        labels = (generator.random((count, num_classes)) < 0.3).astype(np.int8)
    return Rows(input_ids, offsets, labels.astype(np.float32) if kind == "regression" else labels)


def tiny_model(*, dropout: float, num_labels: int = 2) -> BertForSequenceClassification:
    set_seed(SEED)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            num_labels=num_labels,
        )
    )


@dataclass
class Run:
    """One run's settings and, afterwards, its model."""

    loop: str
    directory: Path
    rows: Rows
    batch_size: int = 8
    micro_batch_size: int = 8
    dropout: float = 0.0
    num_epochs: float = 2
    batching: str = "length"
    kind: str = "classification"
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    class_weights: torch.Tensor | None = None
    num_classes: int = 2
    evaluate_every: int | None = None
    save_every: int | None = None
    mixed_precision: str = "no"
    learning_rate: float = 1e-3
    patience: int | None = None
    skip_nonfinite: bool = False
    stop: StopRequest = field(default_factory=StopRequest)
    listen: Callable[[Any], None] = lambda event: None
    tamper: Callable[[dict[str, Any]], None] = lambda parts: None
    resume: bool = False
    during_evaluation: Callable[[], None] | None = None
    loss_of: Callable[[], float] | None = None
    lag: int = 0
    static_shapes: bool = False

    def train(self) -> Run:
        for shared in (
            AcceleratorState,
            GradientState,
            PartialState,
        ):  # else a second run inherits the precision of the first
            shared._reset_state()
        self.directory.mkdir(parents=True, exist_ok=True)
        num_labels = 1 if self.kind == "regression" else self.num_classes
        self.model = tiny_model(dropout=self.dropout, num_labels=num_labels)
        order = RowOrder(self.rows.lengths, batch_size=self.batch_size, seed=SEED, batching=self.batching)
        accumulation = micro_batches_per_update(self.batch_size, self.micro_batch_size, 1)
        num_updates = optimization.count_updates(order.updates_per_epoch, num_epochs=self.num_epochs, max_steps=None)
        sampler = UpdateSampler(order, micro_batch_size=self.micro_batch_size)
        optimizer = optimization.build_optimizer(self.model, learning_rate=self.learning_rate, weight_decay=0.01)
        parts: dict[str, Any] = {
            "model": self.model,
            "optimizer": optimizer,
            "schedule": optimization.build_schedule(optimizer, "linear", num_updates=num_updates, warmup_steps=3),
            "batches": EpochLoader(self._training_rows(), sampler),
            "objective": Objective(
                row_losses(
                    self.kind,
                    label_smoothing=self.label_smoothing,
                    class_weights=self.class_weights,
                    focal_gamma=self.focal_gamma,
                )
            ),
            "monitor": self._monitor(order, num_updates),
        }
        self.tamper(parts)
        checkpoint = self.checkpoints.newest() if self.resume else None
        try:
            if self.loop == "trainer":
                arguments = trainer_loop.training_arguments(
                    output_dir=self.directory,
                    num_updates=num_updates,
                    micro_batch_size=self.micro_batch_size,
                    micro_batches_per_update=accumulation,
                    learning_rate=self.learning_rate,
                    max_grad_norm=1.0,
                    mixed_precision=self.mixed_precision,
                    seed=SEED,
                    extra={},
                )
                trainer_loop.train(arguments, **parts, seed=SEED, resume_from=checkpoint)
            else:
                accelerate_loop.train(
                    Accelerator(mixed_precision=self.mixed_precision, cpu=True),
                    **parts,
                    micro_batches_per_update=accumulation,
                    max_grad_norm=1.0,
                    seed=SEED,
                    resume_from=checkpoint,
                )
        finally:
            parts["monitor"].close()
        return self

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.directory / "checkpoints", keep=2)

    def untrained_weights(self) -> dict[str, torch.Tensor]:
        return tiny_model(dropout=self.dropout).state_dict()

    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.directory / "history.jsonl").read_text().splitlines()]

    def updates(self) -> np.ndarray:
        """(updates, 3): loss, gradient norm and learning rate."""
        records = [record for record in self.history() if record["type"] == "train"]
        return np.array([[record["loss"], record["grad_norm"], record["learning_rate"]] for record in records])

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def _training_rows(self) -> TrainingRows:
        static = {"static_limit": 30, "num_rows": self.micro_batch_size} if self.static_shapes else {}
        return TrainingRows(self.rows, self.rows.labels, pad_token_id=0, **static)

    def _monitor(self, order: RowOrder, num_updates: int) -> Monitor:
        def rows_of(step: int) -> tuple[np.ndarray, int]:
            rows = order.update(step)
            return rows, int(self.rows.lengths[rows].sum())

        def evaluate(step: int, epoch: float, check: Callable[[], None]) -> list[EvalRecord]:
            if self.during_evaluation is not None:
                self.during_evaluation()
            logits = predict_logits(self.model, self.rows, pad_token_id=0, device=torch.device("cpu"), check=check)
            loss = KINDS[self.kind].loss(logits, self.rows.labels)
            if self.loss_of is not None:
                loss = self.loss_of()
            return [EvalRecord(step, epoch, "validation", loss, {})]

        return Monitor(
            cadence=Cadence(num_updates, order.updates_per_epoch, self.evaluate_every, self.save_every, None),
            best_rule=BestRule("loss", greater_is_better=False, patience=self.patience),
            checkpoints=self.checkpoints,
            history_path=self.directory / "history.jsonl",
            rows_of=rows_of,
            evaluate=evaluate,
            stop=self.stop,
            skip_nonfinite=self.skip_nonfinite,
            listen=self.listen,
            lag=self.lag,
        )
