"""Clipping inside the fused step equals torch's clipping before it; an update that is not finite changes nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.utils import clip_grad_norm_

from finetune_cli.training.guards import clip_gradients
from finetune_cli.training.optimization import build_optimizer


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(37, 29), nn.LayerNorm(29), nn.Linear(29, 5))


def set_gradients(model: nn.Module, norm: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradients = [torch.randn(parameter.shape, generator=generator) for parameter in model.parameters()]
    scale = norm / torch.cat([gradient.flatten() for gradient in gradients]).norm()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient * scale


def optimizer_of(model: nn.Module, *, fused: bool) -> torch.optim.Optimizer:
    return build_optimizer(model, learning_rate=0.1, weight_decay=0.01, options={"fused": fused})


@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize("max_norm", [1.0, 0.25, None])
def test_clipping_in_the_fused_step_equals_clipping_before_it(max_norm: float | None, prepared: bool) -> None:
    """Norms far above, just above and below the limit. Tolerance: dividing by c against multiplying by 1/c."""
    accelerator, ours = Accelerator(cpu=True), small_model()
    theirs = copy.deepcopy(ours)
    our_optimizer: Any = optimizer_of(ours, fused=True)
    our_optimizer = accelerator.prepare(our_optimizer) if prepared else our_optimizer
    their_optimizer = optimizer_of(theirs, fused=True)
    for step, norm in enumerate((50.0, 1.01, 0.3, 1e-3, 7.0)):
        set_gradients(ours, norm, step)
        set_gradients(theirs, norm, step)
        found = clip_gradients(accelerator, ours, our_optimizer, max_norm=max_norm)
        expected = clip_grad_norm_(theirs.parameters(), max_norm or float("inf"))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
        our_optimizer.step()
        their_optimizer.step()
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)


def test_clipping_acts() -> None:
    """Adam hides the gradients' scale in its first step; afterwards a large one that was not clipped shows."""
    accelerator, clipped = Accelerator(cpu=True), small_model()
    free = copy.deepcopy(clipped)
    for model, max_norm in ((clipped, 1.0), (free, None)):
        optimizer = optimizer_of(model, fused=True)
        for step, norm in enumerate((1.0, 500.0, 1.0)):
            set_gradients(model, norm, step)
            clip_gradients(accelerator, model, optimizer, max_norm=max_norm)
            optimizer.step()
    assert (clipped[0].weight - free[0].weight).abs().max() > 0.01  # type: ignore[operator, index]


def test_other_optimizers_get_clipped_gradients() -> None:
    accelerator, model = Accelerator(cpu=True), small_model()
    set_gradients(model, 50.0, 0)
    norm = clip_gradients(accelerator, model, optimizer_of(model, fused=False), max_norm=1.0)
    left = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
    assert float(norm) == pytest.approx(50.0, rel=1e-5)
    assert float(left.norm()) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_update_that_is_not_finite_leaves_weights_and_moments_alone(fused: bool, bad: float) -> None:
    """Three updates with a bad one among them equal the two good ones alone."""
    accelerator, disturbed = Accelerator(cpu=True), small_model()
    undisturbed = copy.deepcopy(disturbed)
    for model, steps in ((disturbed, (0, -1, 1)), (undisturbed, (0, 1))):
        optimizer = optimizer_of(model, fused=fused)
        for step in steps:
            set_gradients(model, 3.0, max(step, 0))
            if step < 0:
                model[0].weight.grad[3, 4] = bad  # type: ignore[index, union-attr]
            norm = clip_gradients(accelerator, model, optimizer, max_norm=1.0, skip_nonfinite=True)
            assert bool(norm.isfinite()) == (step >= 0)
            optimizer.step()
            optimizer.zero_grad()
    for own, other in zip(disturbed.parameters(), undisturbed.parameters(), strict=True):
        assert torch.equal(own, other)
