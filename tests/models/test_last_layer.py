"""The last layer for the first token alone: the same logits and gradients, and no model that it harms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AlbertConfig,
    BertConfig,
    BertForSequenceClassification,
    CamembertConfig,
    DistilBertConfig,
    ElectraConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from finetune_cli.models.building import recompute_activations
from finetune_cli.models.last_layer import use_first_token_only
from finetune_cli.models.on_cpu import use_attention_for_cpu, use_fast_dropout
from tests.models.small_models import NO_DROPOUT, SIZES, assert_the_same, logits_and_gradients, rows, small

FITTING = [BertConfig, CamembertConfig, DistilBertConfig, ElectraConfig, RobertaConfig, XLMRobertaConfig]


@pytest.mark.parametrize("recompute", [False, True], ids=["", "gradient checkpointing"])
@pytest.mark.parametrize("cpu_attention", [False, True], ids=["torch's attention", "ours"])
@pytest.mark.parametrize("config_class", FITTING)
def test_logits_and_gradients_are_those_of_the_whole_layer(
    config_class: type, cpu_attention: bool, recompute: bool
) -> None:
    model = small(config_class)
    if cpu_attention:
        use_attention_for_cpu(model)
    if recompute:
        recompute_activations(model)
    assert use_first_token_only(model)
    assert_the_same(model, small(config_class))


class OtherLinear(torch.nn.Linear):
    """As an adapter would do: more than a product with `weight` may happen here, so it has to be called."""


def test_dropped_attention_weights_drop_the_same_whether_or_not_keys_and_values_are_computed() -> None:
    models = [small(BertConfig, attention_probs_dropout_prob=0.5) for _ in range(2)]
    for model in models:
        use_attention_for_cpu(model)
        use_fast_dropout(model)
        assert use_first_token_only(model)
    projected = models[1].bert.encoder.layer[-1].attention.self
    projected.key.__class__ = projected.value.__class__ = OtherLinear
    found = []
    for model in models:
        torch.manual_seed(0)
        found.append(logits_and_gradients(model))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("called", [False, True], ids=["without keys", "with keys"])
def test_only_the_last_layer_is_cut(called: bool) -> None:
    model = small(BertConfig)
    if called:
        model.bert.encoder.layer[2].attention.self.key.__class__ = OtherLinear
    assert use_first_token_only(model)
    seen: dict[str, torch.Size] = {}
    layers = model.bert.encoder.layer
    for name, module in (
        ("before", layers[1].output.dense),
        ("keys", layers[2].attention.self.key),
        ("queries", layers[2].attention.self.query),
        ("after", layers[2].output.dense),
    ):
        module.register_forward_pre_hook(lambda module, args, name=name: seen.update({name: args[0].shape[:2]}))
    model(**rows())
    keys = {"keys": (3, 20)} if called else {}
    assert seen == {"before": (3, 20), **keys, "queries": (3, 1), "after": (3, 1)}


def test_the_weights_are_saved_under_the_same_names() -> None:
    model = small(BertConfig)
    names = list(model.state_dict())
    assert use_first_token_only(model)
    assert list(model.state_dict()) == names


class MeanOfTokens(BertForSequenceClassification):
    """A head that reads every token."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:  # type: ignore[override]
        output = self.bert(input_ids, attention_mask)
        output.logits = self.classifier(output.last_hidden_state.mean(dim=1))
        return output


def test_a_model_that_it_does_not_fit_is_left_as_it_is() -> None:
    torch.manual_seed(0)
    whole = MeanOfTokens(BertConfig(**SIZES, **NO_DROPOUT)).eval()
    expected = whole(**rows()).logits
    assert not use_first_token_only(whole)
    assert torch.equal(whole(**rows()).logits, expected)
    assert not use_first_token_only(small(AlbertConfig, embedding_size=8))
    assert not use_first_token_only(small(BertConfig, attn_implementation="eager"))
