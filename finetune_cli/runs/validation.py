"""Scoring the model on the validation splits while it trains."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from finetune_cli.data.prepared import PreparedData
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


def uncompiled(compiled: bool) -> AbstractContextManager[Any]:
    """Score without the compiler: rows come in any shape, and `evaluate` of the saved model must give the same."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


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
    prepared, scores = context.prepared, {}
    for split in scored_splits(prepared):
        rows = prepared.splits[split]
        with uncompiled(compiled):
            logits = predict_logits(
                model,
                rows,
                pad_token_id=prepared.pad_token_id,
                max_length=prepared.report.max_length,
                device=model.device,
                accelerator=accelerator,
                check=check,
                max_tokens=context.config.training.micro_batch_tokens,
            )
        scores[split] = plain_scores(logits, rows.known_labels(), context.rules)
        if split == "validation":
            kept.note(to_keep(logits, context.config))
    return scores
