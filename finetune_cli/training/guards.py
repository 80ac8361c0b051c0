"""Keeping a bad batch from ruining the weights."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import get_total_norm


def drop_nonfinite_gradients(model: nn.Module) -> None:
    """Forget this update's gradients when any is NaN or infinite, so that the optimizer leaves every weight as it is.

    An optimizer skips parameters without a gradient, their moments included; zeros would still move the weights.
    """
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if gradients and not get_total_norm(gradients).isfinite():
        for parameter in model.parameters():
            parameter.grad = None
