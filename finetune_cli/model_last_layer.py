"""The last layer for the first token alone, which is all that the head reads.

A classifier of BERT's family looks at the first token of the last layer. What that layer computes of the other tokens,
after they have given their keys and values, reaches neither the logits nor a gradient. Leaving it out is exact, and
saves ten twelfths of one layer in the forward and in the backward pass: of six layers, an eighth of all products.

Letters: B rows, T tokens, H hidden size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from finetune_cli.model_freezing import encoder_layers
from finetune_cli.model_trial import agrees, trial_logits

Finish = Callable[[Tensor, Tensor], Tensor]


def use_first_token_only(model: PreTrainedModel) -> bool:
    """Let the last layer return (B, 1, H) in place of (B, T, H); False where that does not fit, and nothing is changed.

    It fits models of BERT_FAMILY and DistilBERT with torch's scaled-dot-product attention whose logits stay the same on
    a trial. Loads, saves and trains the same weights.
    """
    layers = encoder_layers(model)
    # Kernels under other names take masks of other forms.
    if layers is None or not model.config._attn_implementation.startswith("sdpa"):
        return False
    last: Any = layers[-1]
    if model.config.model_type in BERT_FAMILY:
        forward = _first_token_of_bert(last)
    elif model.config.model_type == "distilbert":
        forward = _first_token_of_distilbert(last)
    else:
        return False
    expected = trial_logits(model)
    last.forward = forward
    if agrees(model, expected):
        return True
    del last.forward  # the class's own again
    return False


BERT_FAMILY = ("bert", "camembert", "electra", "roberta", "xlm-roberta")


def _first_token_of_bert(layer: Any) -> Callable[..., Tensor]:
    attention = layer.attention.self

    def finish(attended: Tensor, first: Tensor) -> Tensor:
        return layer.feed_forward_chunk(layer.attention.output(attended, first))

    return _forward(attention, attention.query, attention.key, attention.value, finish)


def _first_token_of_distilbert(layer: Any) -> Callable[..., Tensor]:
    attention = layer.attention

    def finish(attended: Tensor, first: Tensor) -> Tensor:
        middle = layer.sa_layer_norm(attention.out_lin(attended) + first)
        return layer.output_layer_norm(layer.ffn(middle) + middle)

    return _forward(attention, attention.q_lin, attention.k_lin, attention.v_lin, finish)


def _forward(
    attention: Any, query: nn.Module, key: nn.Module, value: nn.Module, finish: Finish
) -> Callable[..., Tensor]:
    """A layer's forward: queries from the first token, keys and values from all, the rest for the first again."""

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)

    def forward(
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: None = None,  # these three are a decoder's
        encoder_attention_mask: None = None,
        past_key_values: None = None,
        **options: Any,
    ) -> Tensor:
        first = hidden_states[:, :1]
        attended, _ = ALL_ATTENTION_FUNCTIONS[attention.config._attn_implementation](
            attention,
            heads(query(first)),
            heads(key(hidden_states)),
            heads(value(hidden_states)),
            None if attention_mask is None else attention_mask[:, :, :1],
            dropout=attention.dropout.p if attention.training else 0.0,
            scaling=attention.scaling,
            **options,
        )
        return finish(attended.flatten(2), first)

    return forward
