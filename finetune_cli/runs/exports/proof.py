"""The proof that an exported directory answers as the model does: file by file, then row by row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from finetune_cli.data.prepared import PreparedData, PreparedSplit
from finetune_cli.errors import FinetuneError, first_line
from finetune_cli.evaluation.equivalence import compare_logits
from finetune_cli.evaluation.inference import predict_logits
from finetune_cli.evaluation.scoring import ScoringRules
from finetune_cli.models.exported import CPU, load_answering, load_exported
from finetune_cli.models.exporting import OPSET, wrong_weights
from finetune_cli.models.runtimes import FORMATS, companions
from finetune_cli.records.decision_rule import read_rule
from finetune_cli.records.export import Equality
from finetune_cli.runs.scoring import require_fitting, scoring_rules
from finetune_cli.runs.target import Target, model_task

NUMBER_TYPE = ("dtype", "torch_dtype")  # of config.json: what an export may change
ALONE = 3  # rows that are also answered one by one: shapes that the tracer has fixed show there


@dataclass(frozen=True)
class Reference:
    """What the model itself answers: logits (N, C) of a split's rows, in float32."""

    rows: PreparedSplit
    logits: np.ndarray
    pad_token_id: int
    rules: ScoringRules
    model_dir: Path

    def stricter(self) -> Reference:
        """For a second form that is tried on the same rows: intervals that err half as often."""
        resampling = self.rules.resampling
        resampling = replace(resampling, level=(1 + resampling.level) / 2)
        return replace(self, rules=replace(self.rules, resampling=resampling))


@dataclass(frozen=True)
class Proof:
    equality: Equality | None
    problems: list[str]


def reference_of(trained: Target, model: PreTrainedModel, prepared: PreparedData, split: str) -> Reference:
    """The model's own answers on a split. Raises DataError or ConfigError when they cannot be scored."""
    require_fitting(model, prepared, trained.config, split)
    task = model_task(model)
    rule = read_rule(trained.model_dir, task.classes, task.kind)
    rules = replace(scoring_rules(trained.config, prepared), decision=rule)
    rows, pad = prepared.splits[split], prepared.pad_token_id
    return Reference(rows, predict_logits(model, rows, pad_token_id=pad, device=CPU), pad, rules, trained.model_dir)


def prove(
    directory: Path, reference: Reference, *, file_format: str, dtype: str, allowed: Mapping[str, float]
) -> Proof:
    """Compare an exported directory with the model that it was made of.

    allowed: how much worse each metric may be; see `compare_logits`. Whatever is wrong is in `problems`, not raised.
    """
    problems = _wrong_companions(directory, reference.model_dir) + _wrong_opset(directory, file_format)
    if problems:
        return Proof(None, problems)
    exact = dtype == "fp32"
    try:
        if file_format == "safetensors" and (wrong := wrong_weights(directory, reference.model_dir)):
            return Proof(None, wrong)
        model = (
            load_answering(directory, CPU) if file_format == "safetensors" else load_exported(directory, file_format)
        )
        logits = _logits(model, reference)
        problems = _wrong_alone(model, reference, logits, exact=exact)
    except FinetuneError as err:
        return Proof(None, [str(err)])
    except Exception as err:  # a runtime fails on a damaged graph with any class of its own
        return Proof(None, [f"it does not answer: {first_line(err)}"])
    if logits.shape != reference.logits.shape:
        return Proof(None, [f"its logits have the shape {logits.shape}, expected {reference.logits.shape}"])
    labels = reference.rows.known_labels()
    equality = compare_logits(reference.logits, logits, labels, reference.rules, allowed=allowed, exact=exact)
    if not np.isfinite(logits).all():
        problems = ["its logits are not finite (nan or inf)", *problems]
    return Proof(equality, problems + equality.problems)


def _logits(model: Any, reference: Reference) -> np.ndarray:
    return predict_logits(model, reference.rows, pad_token_id=reference.pad_token_id, device=CPU)


def _wrong_alone(model: Any, reference: Reference, together: np.ndarray, *, exact: bool) -> list[str]:
    """A row alone is a batch of another shape; in 8 bits it is also scaled in another way, so only shapes count."""
    rows = reference.rows
    for row in range(min(ALONE, rows.num_rows)):
        alone = rows.take(np.array([row]))
        logits = predict_logits(model, alone, pad_token_id=reference.pad_token_id, device=CPU)[0]
        if logits.shape != together[row].shape or (exact and not np.allclose(logits, together[row], atol=1e-3)):
            return [f"row {row + 1} alone gets other logits than among others"]
    return []


def _wrong_companions(directory: Path, model_dir: Path) -> list[str]:
    """Labels, tokenizer, lengths and decision rule are those of the model: the same files."""
    problems = []
    for name in sorted({*companions(directory), *companions(model_dir)}):
        ours, theirs = (_content(folder / name) for folder in (directory, model_dir))
        if ours != theirs:
            problems.append(f"{name} is not the model's")
    return problems


def _content(path: Path) -> Any:
    """The bytes of a file; of config.json its values, without the type of the weights. None where it is not."""
    if not path.is_file():
        return None
    if path.name != "config.json":
        return path.read_bytes()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return path.read_bytes()
    # As text, so that the order counts.
    return json.dumps({key: value for key, value in values.items() if key not in NUMBER_TYPE})


def _wrong_opset(directory: Path, file_format: str) -> list[str]:
    if file_format != "onnx":
        return []
    import onnx

    try:
        model = onnx.load(directory / FORMATS["onnx"].weights[0], load_external_data=False)
    except Exception as err:  # a damaged file fails in the reader of protocol buffers
        return [f"{FORMATS['onnx'].weights[0]} cannot be read: {first_line(err)}"]
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    return [] if opset == OPSET else [f"it says opset {opset}, expected {OPSET}"]
