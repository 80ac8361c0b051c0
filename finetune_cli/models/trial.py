"""Does a model still compute what it did, after a change to how it computes?"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

LENGTHS = (7, 3, 5)
RELATIVE = 1e-3  # of the largest logit: float32 differs by 1e-6, a model that a change does not fit by 0.1 and more


@torch.no_grad()
def trial_logits(model: PreTrainedModel, *, ready_mask: bool = False) -> Tensor:
    """float32 logits (3, C) of three rows of different lengths, dropout off, the body itself marked as training.

    ready_mask: with the mask in the form that attention takes; see models.ready_mask.
    """
    device = model.device
    mask = (torch.arange(max(LENGTHS), device=device) < torch.tensor(LENGTHS, device=device).unsqueeze(1)).long()
    ids = torch.arange(1, mask.numel() + 1, device=device).view_as(mask) % model.config.vocab_size
    was_training = model.training
    model.eval()
    model.base_model.training = True  # where a body does something else in training alone, it is to do that here
    logits: Tensor = model(
        input_ids=ids, attention_mask=mask[:, None, None, :].bool() if ready_mask else mask
    ).logits.float()
    model.train(was_training)
    return logits


def agrees(model: PreTrainedModel, expected: Tensor, *, ready_mask: bool = False) -> bool:
    """Whether the model runs and its trial gives these logits, to rounding."""
    try:
        found = trial_logits(model, ready_mask=ready_mask)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return False
    return torch.allclose(found, expected, rtol=0, atol=RELATIVE * float(expected.abs().max()))
