"""Packed rows: in the encoder a micro-batch is one long row, nearly without padding; attention takes the rows apart.

Letters: B rows, T tokens of the longest row, N tokens that are kept, H heads, D dimensions of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from finetune_cli.errors import ConfigError
from finetune_cli.models.anatomy import encoder_layers
from finetune_cli.models.self_test import agrees, trial_logits

ATTENTION = "packed"
POSITIONS = ("position_embeddings", "position_ids")  # what layers with rotary positions take beside the tokens
MULTIPLE = 16  # a few tokens of padding stay, for fewer shapes: kernels are compiled for each in bf16 on CPUs


_TOKENS: ContextVar[int | None] = ContextVar("tokens of the micro-batch", default=None)


@contextmanager
def known_tokens(count: int | None) -> Iterator[None]:
    """Say how many tokens the micro-batch has that the model is given in this block; None when that is not known."""
    token = _TOKENS.set(count)
    try:
        yield
    finally:
        _TOKENS.reset(token)


def pack_rows(model: PreTrainedModel) -> None:
    """Let the layers of a model that trains see one long row of tokens; a model that answers is left as it is.

    Embeddings and head see padded rows as ever, so positions and any kind of head stay right. (Position numbers alone,
    without taking the rows apart in attention, are silently wrong with sdpa.) Raises ConfigError for a model whose
    layers compute something else on packed rows: it is tried on a few tokens.
    """
    layers, attention = encoder_layers(model), model.config._attn_implementation
    if layers is None or attention not in ALL_ATTENTION_FUNCTIONS:
        raise _unfit(model)
    expected = trial_logits(model)
    packing = _Packing(ALL_ATTENTION_FUNCTIONS[attention])
    AttentionInterface.register(ATTENTION, packing.attention)
    AttentionMaskInterface.register(ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS[attention])
    model.set_attn_implementation(ATTENTION)
    model.base_model.register_forward_pre_hook(packing.begin, with_kwargs=True)
    layers[0].register_forward_pre_hook(packing.take_padding_out, with_kwargs=True)
    for layer in layers:
        layer.register_forward_pre_hook(packing.take_positions_along, with_kwargs=True)
    layers[-1].register_forward_hook(packing.put_padding_back)
    if not agrees(model, expected):
        raise _unfit(model)


class _Packing:
    """Which tokens of the micro-batch under way are kept: all real ones. None while nothing is packed."""

    def __init__(self, attend: Any) -> None:
        self.attend = attend
        self.kept: Tensor | None = None  # (N,), of the B x T positions
        self.rows, self.width = 0, 0  # B, T

    def begin(self, body: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        self.kept, mask = None, options.get("attention_mask")
        if body.training and mask is not None:
            tokens = _TOKENS.get()  # counted on the host: to ask the device is to wait for it
            kept = -(-(int(mask.sum()) if tokens is None else tokens) // MULTIPLE) * MULTIPLE
            if kept < mask.numel():
                self.kept = mask.flatten().argsort(descending=True, stable=True)[:kept]

    def take_padding_out(self, layer: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """(B, T, ...) to (1, N, ...)."""
        if self.kept is None:
            return None
        hidden, *others = args
        self.rows, self.width = hidden.shape[:2]
        return (self._packed(hidden), *others), options

    def take_positions_along(self, layer: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Rotary angles (B or 1, T, D) to (1, N, D): each token keeps those of its place in its row."""
        if self.kept is None:
            return None
        return args, {name: self._along(value) if name in POSITIONS else value for name, value in options.items()}

    def _along(self, value: Any) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(self._along(part) for part in value)
        if not isinstance(value, Tensor) or value.ndim < 2 or value.shape[1] != self.width:
            return value
        return self._packed(value.expand(self.rows, *value.shape[1:]))

    def put_padding_back(self, layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """(1, N, ...) to (B, T, ...), zeros for padding."""
        if self.kept is None:
            return None
        return (self._apart(output[0]), *output[1:]) if isinstance(output, tuple) else self._apart(output)

    def attention(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, Any]:
        """For transformers' AttentionInterface: (1, H, N, D) to (1, N, H, D), by way of rows apart (B, H, T, D)."""
        if self.kept is None:
            return self.attend(module, query, key, value, mask, **options)
        apart = (self._apart(part.transpose(1, 2)).transpose(1, 2) for part in (query, key, value))
        output, weights = self.attend(module, *apart, mask, **options)
        return self._packed(output), weights

    def _packed(self, values: Tensor) -> Tensor:
        assert self.kept is not None
        return values.flatten(0, 1).index_select(0, self.kept).unsqueeze(0)

    def _apart(self, values: Tensor) -> Tensor:
        assert self.kept is not None
        inner = values.shape[2:]
        apart = values.new_zeros(self.rows * self.width, *inner)
        return apart.index_copy(0, self.kept, values[0]).view(self.rows, self.width, *inner)


def _unfit(model: PreTrainedModel) -> ConfigError:
    return ConfigError(
        f"training.packing: rows cannot be packed for a model of type {model.config.model_type!r}. Set it to false; "
        f"with training.batching: length there is little padding anyway."
    )
