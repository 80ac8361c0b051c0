"""Small real training runs for the tests of the loops: a tiny BERT, rows of varied lengths, either loop.

They are put together and driven by the shipped code, `runs.parts` and `runs.fit`, from an ordinary config.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import set_seed
from transformers import BertConfig, BertModel, BertTokenizerFast

from finetune_cli.config.load import load_config
from finetune_cli.data.prepared import TOKENIZER, PreparedData, PreparedSplit
from finetune_cli.records.preparation import PrepareReport
from finetune_cli.records.training import Listener
from finetune_cli.runs.context import RunContext
from finetune_cli.runs.fit import run_loop
from finetune_cli.runs.parts import Parts, build_parts, rows_at_once
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.scoring import scoring_rules
from finetune_cli.training.checkpointing import Checkpoints
from finetune_cli.training.monitor import Scores
from finetune_cli.training.stopping import StopRequest

VOCABULARY = 60
LONGEST = 30
SEED = 7


def make_rows(count: int, *, kind: str = "classification", num_classes: int = 2, seed: int = 0) -> PreparedSplit:
    """Random token rows, 3 to 24 tokens long."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(3, 25, count)
    labels = generator.integers(0, num_classes, count)
    input_ids = generator.integers(1, VOCABULARY, lengths.sum()).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    input_ids[offsets[:-1]] = 1 + labels  # the first token tells the label: something to learn
    if kind == "multilabel":
        labels = (generator.random((count, num_classes)) < 0.3).astype(np.int8)
    if kind == "regression":
        labels = labels.astype(np.float32)
    return PreparedSplit(input_ids, offsets, name="train", labels=labels, ids=range(count))


def write_encoder(directory: Path) -> None:
    """A tiny BERT without a head, the same weights every time."""
    set_seed(SEED)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(directory)


def prepare(rows: PreparedSplit, directory: Path, label_names: tuple[str, ...] | None) -> PreparedData:
    """The rows as `prepare` would leave them; scored on the rows that are trained on."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces += [f"word{number}" for number in range(len(pieces), VOCABULARY)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    BertTokenizerFast(vocab=vocabulary).save_pretrained(directory / TOKENIZER)
    splits = {"train": rows, "validation": replace(rows, name="validation")}
    report = PrepareReport(LONGEST, splits={}, seconds=0.0, rows_per_second=0.0, findings=())
    return PreparedData(directory, "key", splits, label_names, report)


@dataclass
class Run:
    """One run's settings and, afterwards, its model. tamper: given the parts before they are driven."""

    loop: str
    directory: Path
    rows: PreparedSplit
    batch_size: int = 8
    micro_batch_size: int | str = 8
    micro_batch_tokens: int | None = None
    packing: bool = False
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
    precision: str = "fp32"
    learning_rate: float = 1e-3
    patience: int | None = None
    skip_nonfinite: bool = False
    stop: StopRequest = field(default_factory=StopRequest)
    listen: Listener = lambda event: None
    tamper: Callable[[Parts], None] = lambda parts: None
    resume: bool = False
    during_evaluation: Callable[[], None] = lambda: None
    loss_of: Callable[[], float] | None = None
    lag: int = 0
    static_shapes: bool = False
    replay: bool = False

    def train(self) -> Run:
        parts = self.build()
        self.model = parts.model
        self.tamper(parts)
        run_loop(parts, self.checkpoints.newest() if self.resume else None, self.checkpoints, self.stop)
        return self

    def build(self) -> Parts:
        for shared in (AcceleratorState, GradientState, PartialState):
            shared._reset_state()  # else a second run inherits the precision of the first
        context = self._context()
        parts = build_parts(context, rows_at_once(context.config))
        as_if = replace(
            parts.device_settings,
            reading_lag=self.lag,
            few_widths=self.static_shapes,
            full_micro_batches=self.static_shapes,
            replay=self.replay,
        )

        def evaluate(accelerator: Accelerator, check: Callable[[], None]) -> dict[str, Scores]:
            self.during_evaluation()
            scores = parts.evaluate(accelerator, check)
            if self.loss_of is None:
                return scores
            return {split: (self.loss_of(), metrics) for split, (_, metrics) in scores.items()}

        return replace(parts, device_settings=as_if, evaluate=evaluate)

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.directory / "checkpoints", keep=2)

    def untrained_weights(self) -> dict[str, torch.Tensor]:
        return self.build().model.state_dict()

    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.directory / "history.jsonl").read_text().splitlines()]

    def updates(self) -> np.ndarray:
        """(updates, 3): loss, gradient norm and learning rate."""
        records = [record for record in self.history() if record["type"] == "train"]
        return np.array([[record["loss"], record["grad_norm"], record["learning_rate"]] for record in records])

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def _context(self) -> RunContext:
        encoder, names = self.directory / "encoder", tuple(f"class {number}" for number in range(self.num_classes))
        write_encoder(encoder)
        prepared = prepare(self.rows, self.directory / "prepared", None if self.kind == "regression" else names)
        file = self.directory / "config.yaml"
        file.write_text(yaml.safe_dump(self._settings(encoder, names)), encoding="utf-8")
        config = load_config(file)
        return RunContext(
            RunDir(self.directory), config, prepared, scoring_rules(config, prepared), offline=True, listen=self.listen
        )

    def _settings(self, encoder: Path, names: tuple[str, ...]) -> dict[str, Any]:
        weights = None if self.class_weights is None else dict(zip(names, self.class_weights.tolist(), strict=True))
        return {
            "task": self.kind,
            "model": {"name_or_path": str(encoder), "dropout": self.dropout, "attention_dropout": self.dropout},
            "data": {"path": str(self.directory), "text": "text", "label": "label"},
            "training": {
                "loop": self.loop,
                "num_epochs": self.num_epochs,
                "batch_size": self.batch_size,
                "micro_batch_size": self.micro_batch_size,
                "micro_batch_tokens": self.micro_batch_tokens,
                "packing": self.packing,
                "batching": self.batching,
                "learning_rate": self.learning_rate,
                "warmup_steps": 3,
                "weight_decay": 0.01,
                "precision": self.precision,
                "label_smoothing": self.label_smoothing,
                "class_weights": weights,
                "focal_gamma": self.focal_gamma,
                "early_stopping": None if self.patience is None else {"patience": self.patience},
                "on_nonfinite": "skip" if self.skip_nonfinite else "error",
            },
            "evaluation": {"every": self.evaluate_every or "epoch", "metric_for_best": "loss"},
            "checkpointing": {"every": self.save_every or "epoch", "keep": 2},
            "output_dir": str(self.directory),
            "seed": SEED,
        }
