"""Scoring the model on the validation splits while it trains."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from finetune_cli.data.prepared import PreparedData, PreparedSplit
from finetune_cli.errors import DataError
from finetune_cli.evaluation.inference import predict_logits
from finetune_cli.evaluation.scoring import plain_scores
from finetune_cli.runs.candidates import to_keep
from finetune_cli.runs.context import RunContext
from finetune_cli.training.kept_predictions import KeptPredictions
from finetune_cli.training.monitor import Scores


def scored_splits(prepared: PreparedData) -> list[str]:
    """The validation splits, "validation" first: what training is steered by and reports at the end.

    None of them for a model of all rows, which has no split "validation".
    """
    if "validation" not in prepared.splits:
        return []
    splits = [
        name for name, split in prepared.splits.items() if name.startswith("validation") and split.labels is not None
    ]
    if "validation" not in splits:
        raise DataError("The validation split has no labels, so no best model can be chosen.")
    return sorted(splits, key=lambda name: name != "validation")


def logits_in_training(
    context: RunContext, model: PreTrainedModel, rows: PreparedSplit, *, compiled: bool, **options: Any
) -> np.ndarray:
    """Logits (N, C) of rows while the model trains. options: further ones of `predict_logits`.

    The compiler is left out: rows come in any shape, and `evaluate` of the saved model must give the same.
    """
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        return predict_logits(
            model,
            rows,
            pad_token_id=context.prepared.pad_token_id,
            max_length=context.prepared.report.max_length,
            device=model.device,
            max_tokens=context.config.training.micro_batch_tokens,
            **options,
        )


def score_splits(
    context: RunContext,
    model: PreTrainedModel,
    kept: KeptPredictions,
    accelerator: Accelerator,
    check: Callable[[], None],
    *,
    compiled: bool,
) -> dict[str, Scores]:
    """See training.monitor.Monitor."""
    scores = {}
    for split in scored_splits(context.prepared):
        rows = context.prepared.splits[split]
        logits = logits_in_training(context, model, rows, compiled=compiled, accelerator=accelerator, check=check)
        scores[split] = plain_scores(logits, rows.known_labels(), context.rules)
        if split == "validation":
            kept.note(to_keep(logits, context.config))
    return scores
