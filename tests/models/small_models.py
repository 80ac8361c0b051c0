"""Tiny classifiers of several kinds, and what they make of three padded rows."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, DistilBertConfig

SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "pad_token_id": 0}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
NO_DROPOUT_HERE = {DistilBertConfig: {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}}
LENGTHS = [20, 5, 9]  # 34 tokens of 60


def small(config_class: type, **more: Any) -> Any:
    torch.manual_seed(0)
    dropout = NO_DROPOUT_HERE.get(config_class, NO_DROPOUT)
    model = AutoModelForSequenceClassification.from_config(config_class(**{**SIZES, **dropout, **more})).train()
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.1)  # a new model's are 0, which would hide one that is left out
    return model


def rows() -> dict[str, torch.Tensor]:
    """Three rows of LENGTHS tokens, padded."""
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)).long()
    ids = torch.randint(2, 40, mask.shape, generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids * mask, "attention_mask": mask}


def logits_and_gradients(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    logits = model(**rows()).logits
    logits.pow(2).sum().backward()
    return logits.detach(), {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def assert_the_same(model: Any, original: Any) -> None:
    """Logits and all gradients of the two, to rounding."""
    (logits, gradients), (expected, expected_gradients) = logits_and_gradients(model), logits_and_gradients(original)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-6, msg=name)
