"""The last layer for the first token alone, which is all that the head reads.

A classifier of BERT's family looks at the first token of the last layer. What that layer computes of the other tokens
reaches neither the logits nor a gradient, but for their part in what the first token attends to. Leaving it out is
exact, and saves nearly the whole layer in the forward and in the backward pass: of six layers, a sixth of all products.

Letters: B rows, T tokens, H hidden size, N heads, D = H / N.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from finetune_cli.models.anatomy import encoder_layers
from finetune_cli.models.on_cpu import as_added
from finetune_cli.models.self_test import agrees, trial_logits


def use_first_token_only(model: PreTrainedModel) -> bool:
    """Let the last layer return (B, 1, H) in place of (B, T, H); False where that does not fit, and nothing is changed.

    It fits models of the types in FORWARDS with torch's scaled-dot-product attention whose logits stay the same on a
    trial. Loads, saves and trains the same weights.
    """
    layers, forward = encoder_layers(model), FORWARDS.get(model.config.model_type)
    # Attention under other names takes masks of other forms.
    if layers is None or forward is None or not model.config._attn_implementation.startswith("sdpa"):
        return False
    expected = trial_logits(model)
    last, whole = layers[-1], type(layers[-1])
    # A class, under its own name: transformers wraps each class's forward for gradient checkpointing.
    last.__class__ = type(whole.__name__, (whole,), {"forward": forward})
    if agrees(model, expected):
        return True
    last.__class__ = whole
    return False


def _forward_of_bert(
    self: Any,
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    encoder_hidden_states: None = None,  # this and the next two are a decoder's
    encoder_attention_mask: None = None,
    past_key_values: None = None,
    **options: Any,
) -> Tensor:
    attention, first = self.attention.self, hidden_states[:, :1]
    query = attention.query(first)
    attended = _attend(attention, query, attention.key, attention.value, hidden_states, attention_mask, **options)
    output: Tensor = self.feed_forward_chunk(self.attention.output(attended, first))
    return output


def _forward_of_distilbert(
    self: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, **options: Any
) -> Tensor:
    attention, first = self.attention, hidden_states[:, :1]
    query = attention.q_lin(first)
    attended = _attend(attention, query, attention.k_lin, attention.v_lin, hidden_states, attention_mask, **options)
    middle = self.sa_layer_norm(attention.out_lin(attended) + first)
    output: Tensor = self.output_layer_norm(self.ffn(middle) + middle)
    return output


def _attend(
    attention: Any, query: Tensor, key: nn.Module, value: nn.Module, hidden: Tensor, mask: Tensor | None, **options: Any
) -> Tensor:
    """query (B, 1, H), hidden (B, T, H) to (B, 1, H); key and value are the layers that project hidden."""
    mask = None if mask is None else mask[:, :, :1]
    if type(key) is nn.Linear and type(value) is nn.Linear:
        return _attend_unprojected(attention, query, key, value, hidden, mask)

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)

    attended: Tensor = ALL_ATTENTION_FUNCTIONS[attention.config._attn_implementation](
        attention,
        heads(query),
        heads(key(hidden)),
        heads(value(hidden)),
        mask,
        dropout=attention.dropout.p if attention.training else 0.0,
        scaling=attention.scaling,
        **options,
    )[0]
    return attended.flatten(2)


def _attend_unprojected(
    attention: Any, query: Tensor, key: nn.Linear, value: nn.Linear, hidden: Tensor, mask: Tensor | None
) -> Tensor:
    """The same with no key or value of any token computed: q (W h) = (q W) h, and the sum of w (W h) is W (sum of w h).

    With one query a row, that is N products of a hidden state with a vector where a projection takes H. mask: (B, 1, 1,
    T), True where a token may be seen, or added to the scores.
    """

    def per_head(parameter: Tensor) -> Tensor:
        return parameter.unflatten(0, (-1, attention.attention_head_size))

    queries = query[:, 0].unflatten(-1, (-1, attention.attention_head_size)) * attention.scaling
    reader = torch.einsum("bnd,ndh->bnh", queries, per_head(key.weight))
    scores = torch.matmul(reader, hidden.transpose(1, 2))  # (B, N, T)
    scores = scores + torch.einsum("bnd,nd->bn", queries, per_head(key.bias)).unsqueeze(-1)
    if mask is not None:
        scores = scores + as_added(mask, scores.dtype)[:, 0]
    weights = attention.dropout(torch.softmax(scores, dim=-1))
    read = torch.matmul(weights, hidden)  # (B, N, H)
    attended = torch.einsum("bnh,ndh->bnd", read, per_head(value.weight))
    attended = attended + weights.sum(-1, keepdim=True) * per_head(value.bias)  # dropped weights do not add up to 1
    return attended.flatten(1).unsqueeze(1)


FORWARDS = {
    **dict.fromkeys(("bert", "camembert", "electra", "roberta", "xlm-roberta"), _forward_of_bert),
    "distilbert": _forward_of_distilbert,
}
