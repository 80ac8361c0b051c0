"""What one family can do: the real commands on its tiny model, compared with one another and with plain transformers.

Each check gives a Verdict: it holds (with the largest difference that was seen), it is refused in a whole sentence, or
it is wrong.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from finetune_cli.commands.predict import predict
from finetune_cli.commands.train import train
from finetune_cli.config.load import load_config
from finetune_cli.errors import FinetuneError, RunFailedError
from scripts.compare_runs import read_history
from scripts.models.families import build
from scripts.models.tokenizers import BAD, FILLERS, GOOD, POSITIONS, WORDS

CLOSE = 2e-5  # of a probability, and of a loss of about 0.7: float32, another order of sums
CLOSE_IN_BF16 = 2e-2  # of a loss, when adapters are rounded into weights of 8 bits
TRAINING = {"num_epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "precision": "fp32"}


@dataclass(frozen=True)
class Verdict:
    """holds: None where the check was refused, for `reason`."""

    holds: bool | None
    difference: float = 0.0
    reason: str = ""

    def __str__(self) -> str:
        if self.holds is None:
            return "refused"
        return ("yes" if self.difference == 0 else f"yes, {self.difference:.0e}") if self.holds else "**no**"


@dataclass(frozen=True)
class Bench:
    """A family's model and rows on disk, and a place for its runs."""

    name: str
    model: Path
    place: Path

    def run(self, label: str, *, pair: bool = False, **sections: Any) -> Path:
        """Train 3 updates of 8 rows; the run's directory."""
        folder = self.place / label
        folder.mkdir(parents=True)
        config = {
            "task": "mrpc" if pair else "sst2",
            "model": {"name_or_path": str(self.model), **sections.get("model", {})},
            "data": {"path": str(self.rows(pair)), "checks": {"duplicates": "ignore", "contradictions": "ignore"}},
            "training": {**TRAINING, **sections.get("training", {})},
            "checkpointing": sections.get("checkpointing", {}),
            "evaluation": {"bootstrap": {"samples": 0}},
            "output_dir": str(folder / "run"),
        }
        file = folder / "config.yaml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        train(load_config(file))
        return folder / "run"

    def rows(self, pair: bool = False) -> Path:
        folder = self.place / ("pairs" if pair else "rows")
        if not folder.is_dir():
            folder.mkdir(parents=True)
            rng = random.Random(7)
            for split, count in (("train", 24), ("validation", 8)):
                rows = [{**_row(rng, pair), "idx": place} for place in range(count)]
                (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder


def _row(rng: random.Random, pair: bool) -> dict[str, Any]:
    label = rng.randrange(2)
    text = " ".join([*rng.choices(FILLERS, k=rng.randrange(2, 9)), rng.choice(GOOD if label else BAD)])
    if not pair:
        return {"sentence": text, "label": label}
    other = " ".join([rng.choice(GOOD if rng.randrange(2) else BAD), *rng.choices(FILLERS, k=rng.randrange(1, 6))])
    return {"sentence1": text, "sentence2": other, "label": label}


def curve(run: Path) -> np.ndarray:
    """Loss and gradient norm of each update, and the loss of each evaluation."""
    return np.array([[line["loss"], line.get("grad_norm", 0.0)] for line in read_history(run)])


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def _furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys(), one.keys() ^ other.keys()
    return max(float((value.double() - other[key].double()).abs().max()) for key, value in one.items())


def check_loops(bench: Bench) -> Verdict:
    """Both loops train the same: each loss and norm, and the final weights."""
    runs = [bench.run(loop, training={"loop": loop}) for loop in ("trainer", "accelerate")]
    difference = max(
        float(np.abs(curve(runs[0]) - curve(runs[1])).max()), _furthest(*(weights_of(run) for run in runs))
    )
    return Verdict(difference < CLOSE, difference)


def check_answers(bench: Bench) -> Verdict:
    """A row is answered alike alone, with all others, and by plain transformers, one unpadded row at a time."""
    run = bench.place / "trainer" / "run"
    texts = [json.loads(line)["sentence"] for line in (bench.rows() / "validation.jsonl").read_text().splitlines()]
    return _answers_agree(run, [(text,) for text in [*texts, "good", " ".join(WORDS[:20])]])


def check_pair(bench: Bench) -> Verdict:
    run = bench.run("pair", pair=True)
    rows = [json.loads(line) for line in (bench.rows(True) / "validation.jsonl").read_text().splitlines()]
    return _answers_agree(run, [(row["sentence1"], row["sentence2"]) for row in rows])


def _answers_agree(run: Path, rows: list[tuple[str, ...]]) -> Verdict:
    together, alone = (
        _probabilities(predict(run, rows, probabilities=True, window_rows=window)) for window in (2048, 1)
    )
    model = AutoModelForSequenceClassification.from_pretrained(run / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    takes = {"token_type_ids"} if getattr(model.config, "type_vocab_size", 2) == 1 else set()
    with torch.no_grad():
        plain = []
        for row in rows:
            inputs = tokenizer(*row, truncation=True, max_length=POSITIONS, return_tensors="pt")
            encoded = {key: value for key, value in inputs.items() if key not in takes}
            plain.append(model(**encoded).logits.softmax(-1).squeeze(0).tolist())
    difference = max(float(np.abs(together - alone).max()), float(np.abs(together - np.array(plain)).max()))
    return Verdict(difference < CLOSE, difference)


def _probabilities(answers: Any) -> np.ndarray:
    return np.array([list(answer["probabilities"].values()) for answer in answers])


def check_lora(bench: Bench) -> Verdict:
    """Adapters train, and the merged model scores as the one in training did."""
    run = bench.run("lora", model={"lora": {"r": 4}}, training={"learning_rate": 1e-2})
    return _scores_as_in_training(run)


def _scores_as_in_training(run: Path) -> Verdict:
    """The loss in eval/ is the saved model's; that of history.jsonl was computed by the model in training."""
    saved = json.loads((run / "eval" / "validation" / "metrics.json").read_text(encoding="utf-8"))["loss"]
    in_training = next(line["loss"] for line in read_history(run) if line["type"] == "eval")
    difference = abs(saved - in_training)
    return Verdict(difference < CLOSE, difference)


def check_bf16(bench: Bench) -> Verdict:
    """Adapters beside a body in bf16: both loops train the same, and the saved model scores nearly as in training."""
    settings: dict[str, Any] = {"dtype": "bf16", "lora": {"r": 4}}
    runs = [
        bench.run(f"bf16-{loop}", model=settings, training={"loop": loop, "learning_rate": 1e-2})
        for loop in ("trainer", "accelerate")
    ]
    loops = float(np.abs(curve(runs[0]) - curve(runs[1])).max())
    rounded = _scores_as_in_training(runs[0]).difference
    return Verdict(loops < CLOSE and rounded < CLOSE_IN_BF16, max(loops, rounded))


def check_freeze(bench: Bench) -> Verdict:
    """Embeddings, then those and a layer, are frozen: they stay as they were, and what is above them is trained."""
    before = load_file(bench.model / "model.safetensors")
    for part in ("embeddings", 1):
        after = weights_of(bench.run(f"freeze-{part}", model={"freeze": part}, training={"learning_rate": 1e-2}))
        same = {key: torch.equal(value, after[key]) for key, value in before.items() if key in after}
        if not any(same.values()) or all(same.values()):
            return Verdict(False, reason=f"freeze: {part} left {sum(same.values())} of {len(same)} weights alone")
    return Verdict(True)


def check_packing(bench: Bench) -> Verdict:
    off = {"dropout": 0.0, "attention_dropout": 0.0}
    runs = [bench.run(f"packing-{on}", model=off, training={"packing": on}) for on in (True, False)]
    difference = float(np.abs(curve(runs[0]) - curve(runs[1])).max())
    return Verdict(difference < 1e-4, difference)


def check_checkpointing(bench: Bench) -> Verdict:
    """Activations computed again: the same curve, dropout and all."""
    run = bench.run("checkpointing", training={"gradient_checkpointing": True})
    difference = float(np.abs(curve(run) - curve(bench.place / "trainer" / "run")).max())
    return Verdict(difference < CLOSE, difference)


def check_resume(bench: Bench) -> Verdict:
    """Gone on with from the first update: the weights of a run that was never interrupted, bit for bit."""
    run = bench.run("resume", checkpointing={"every": 1, "keep": 9})
    whole = weights_of(run)
    train(load_config(run / "config.yaml"), resume=str(run / "checkpoints" / "step-000001"))
    difference = _furthest(whole, weights_of(run))
    return Verdict(difference == 0, difference)


CHECKS: dict[str, Callable[[Bench], Verdict]] = {
    "loops": check_loops,
    "answers": check_answers,
    "pair": check_pair,
    "LoRA": check_lora,
    "bf16": check_bf16,
    "freeze": check_freeze,
    "packing": check_packing,
    "checkpointing": check_checkpointing,
    "resume": check_resume,
}


def verdicts(name: str, place: Path, *, only: tuple[str, ...] = ()) -> dict[str, Verdict]:
    """The verdict of each check on a family."""
    found = {}
    bench = Bench(name, build(name, place / "model"), place)
    for check, run in CHECKS.items():
        if only and check not in only:
            continue
        try:
            found[check] = run(bench)
        except RunFailedError as err:
            found[check] = Verdict(False, reason=str(err))
        except FinetuneError as err:
            found[check] = Verdict(None, reason=str(err))
        except Exception as err:  # what a user would see as a bug: it belongs into the table
            logging.getLogger(__name__).debug("%s: %s", name, check, exc_info=True)
            found[check] = Verdict(False, reason=f"{type(err).__name__}: {str(err)[:300]}")
    return found
