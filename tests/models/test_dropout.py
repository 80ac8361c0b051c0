"""Dropout that is set is set everywhere, under whatever names a family keeps it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_cli.errors import ConfigError
from finetune_cli.models.building import build_classifier

LOCAL = ("p", "drop_prob")


def classifier(directory: Path, **dropouts: float) -> Any:
    return build_classifier(directory, kind="classification", label_names=("no", "yes"), **dropouts)


def probabilities(model: Any) -> set[float]:
    """Of all dropout modules."""
    modules = [module for module in model.modules() if "Dropout" in type(module).__name__]
    return {float(getattr(module, name)) for module in modules for name in LOCAL if hasattr(module, name)}


@pytest.mark.parametrize(
    "name",
    ["distilbert", "t5", "albert", "rembert", "xlnet", "gpt2", "gpt_neo", "mpt", "bart", "funnel", "ctrl", "xlm"],
)
def test_no_dropout_is_left_and_training_is_no_matter_of_chance(family: Callable[[str], Path], name: str) -> None:
    model = classifier(family(name), dropout=0.0, attention_dropout=0.0).train()
    assert probabilities(model) <= {0.0}
    inputs = {"input_ids": torch.tensor([[9, 10, 11, 12, 2]]), "attention_mask": torch.ones(1, 5, dtype=torch.int64)}
    if model.config.is_encoder_decoder:
        inputs["input_ids"][0, -1] = model.config.eos_token_id
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        found.append(model(**inputs).logits)
    assert torch.equal(*found)


@pytest.mark.parametrize("name", ["distilbert", "albert", "xlnet", "gpt2"])
def test_a_probability_reaches_hidden_layers_and_head(family: Callable[[str], Path], name: str) -> None:
    attention = {} if name == "xlnet" else {"attention_dropout": 0.2}
    assert probabilities(classifier(family(name), dropout=0.3, **attention)) == {0.3, *attention.values()}


def test_dropout_of_the_hidden_layers_leaves_that_of_attention(tiny_bert: Path) -> None:
    assert probabilities(classifier(tiny_bert, dropout=0.0)) == {0.0, 0.1}


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        (
            "t5",
            {"attention_dropout": 0.1},
            r"attention_dropout: .* 't5' .*only the one that model\.dropout sets",
        ),
        ("llama", {"dropout": 0.1}, r"model\.dropout: models of type 'llama' have no such dropout"),
        ("mpt", {"attention_dropout": 0.1}, r"model\.attention_dropout: 0\.1 is not possible .* 'mpt'"),
    ],
)
def test_what_a_family_cannot_do_is_refused_by_name(
    family: Callable[[str], Path], name: str, setting: dict[str, float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        classifier(family(name), **setting)


def test_chance_elsewhere_is_refused_by_name(family: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune_cli.models.dropout.trains_alike", lambda model: False)
    with pytest.raises(ConfigError, match=r"model\.dropout: 0 does not take chance out .* 'gpt2'"):
        classifier(family("gpt2"), dropout=0.0, attention_dropout=0.0)


def test_zero_where_there_is_none_is_no_mistake(family: Callable[[str], Path]) -> None:
    assert probabilities(classifier(family("llama"), dropout=0.0)) <= {0.0}
