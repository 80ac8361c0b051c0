"""What a model does in another way on a CPU, because torch's own way is slow there: dropout masks, attention.

torch draws one floating-point number per element on one thread, which took 14 % of an update of a small BERT on two
cores. Here one 64-bit draw of the same generator serves four elements, so that seeds, checkpoints and exact resume work
as ever. The masks differ from torch's; their distribution is the same, to 1/65,536 in the probability.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

LEVELS = 1 << 16  # values of the 16 bits that decide about one element
ATTENTION = "sdpa_on_cpu"
MOST_BF16_TOKENS = 1024  # of a row; beyond, the scores of all pairs of tokens take too much memory


class _Dropout(torch.autograd.Function):
    """x * keep / P(keep); what was drawn is kept for the backward pass, two bytes per element."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, dropped_levels: int) -> Tensor:
        draws = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
        levels = draws.view(torch.int16)[: values.numel()].view(values.shape)
        ctx.save_for_backward(levels)
        ctx.dropped_levels = dropped_levels
        return _masked(values, levels, dropped_levels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (levels,) = ctx.saved_tensors
        return _masked(gradient, levels, ctx.dropped_levels), None


def _masked(values: Tensor, levels: Tensor, dropped_levels: int) -> Tensor:
    """values * keep / P(keep). The mask is a float: torch multiplies by booleans four times as slowly on a CPU."""
    mask = levels.to(torch.float32).ge_(dropped_levels - LEVELS // 2).mul_(LEVELS / (LEVELS - dropped_levels))
    return mask.to(values.dtype).mul_(values)


def fast_dropout(values: Tensor, p: float) -> Tensor:
    """Each element is set to 0 with probability p, the others are divided by 1 - p; p to the nearest 1/65,536.

    values: CPU, any shape and floating-point type. The mask comes from torch's global CPU generator.
    """
    dropped_levels = round(p * LEVELS)
    return _Dropout.apply(values, dropped_levels) if dropped_levels else values


class FastDropout(nn.Dropout):
    def forward(self, input: Tensor) -> Tensor:
        return fast_dropout(input, self.p) if self.training else input


def attention_on_cpu(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention (Vaswani et al., 2017) for transformers' AttentionInterface: query (B, H, T, D) to output (B, T, H, D).

    torch's fused kernel does the work in fp32. It refuses dropout on a CPU, where torch takes the steps one by one; so
    do we, with the faster mask. And in bf16 its backward pass takes four times as long as that of the steps (8 rows of
    54 tokens, 12 heads: 7.7 against 1.6 ms). attention_mask: None, True where a token may be seen, or added to the
    scores.
    """
    stepwise = dropout or (query.dtype == torch.bfloat16 and key.shape[2] <= MOST_BF16_TOKENS)
    if not stepwise or scaling is None or not _is_plain(module, query, key, options):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    scores = torch.matmul(query * scaling, key.transpose(-1, -2))
    if attention_mask is not None:
        scores += as_added(attention_mask, scores.dtype)  # in place, and nothing to do in the backward pass
    weights = fast_dropout(torch.softmax(scores, dim=-1), dropout)
    return torch.matmul(weights, value).transpose(1, 2), None


def as_added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask that is True where a token may be seen as one that is added to scores; one that is added, as it is."""
    return torch.where(mask, 0.0, torch.finfo(dtype).min).to(dtype) if mask.dtype == torch.bool else mask


def _is_plain(module: nn.Module, query: Tensor, key: Tensor, options: dict[str, Any]) -> bool:
    """Nothing but a mask decides who sees whom, and each query head has a key head of its own."""
    refined = any(options.get(name) is not None for name in ("position_bias", "softcap", "cache"))
    return not refined and query.shape[1] == key.shape[1] and not getattr(module, "is_causal", True)


def use_attention_for_cpu(model: PreTrainedModel) -> None:
    """Give a model that runs on a CPU this attention where it would use torch's sdpa."""
    if model.config._attn_implementation == "sdpa":
        AttentionInterface.register(ATTENTION, attention_on_cpu)
        AttentionMaskInterface.register(ATTENTION, sdpa_mask)
        model.set_attn_implementation(ATTENTION)


def use_fast_dropout(model: nn.Module) -> None:
    """Replace the dropout layers of a model that trains on a CPU."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, FastDropout(child.p).train(child.training))
