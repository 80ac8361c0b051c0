"""Embeddings and layers are found in what runs, whatever a family calls them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.errors import ConfigError
from finetune_cli.models.anatomy import dissect
from finetune_cli.models.building import build_classifier
from finetune_cli.models.freezing import freeze
from finetune_cli.models.lora import add_lora


def classifier(directory: Path) -> Any:
    return build_classifier(directory, kind="classification", label_names=("no", "yes"))


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("bert", 2), ("gpt2", 2), ("qwen3", 2), ("t5", 4), ("bart", 4), ("xlnet", 2), ("xlm", 2), ("funnel", 2),
        ("fnet", 2), ("mobilebert", 2), ("modernbert", 2), ("t5gemma", 4), ("gpt_neox", 2), ("nomic_bert", 2),
        ("squeezebert", 2), ("deberta-v2", 2),
    ],
)  # fmt: skip
def test_layers_are_counted_from_the_lowest(family: Callable[[str], Path], name: str, layers: int) -> None:
    """An encoder's come before a decoder's; XLM keeps the parts of a layer in lists of their own."""
    anatomy = dissect(classifier(family(name)))
    assert len(anatomy.layers) == layers
    assert not anatomy.layers_are_shared
    assert len({len(layer) for layer in anatomy.layers}) == 1


@pytest.mark.parametrize("name", ["bert", "gpt2", "qwen3", "t5", "bart", "xlnet", "albert", "rembert", "electra"])
def test_frozen_embeddings_are_what_comes_before_the_layers(family: Callable[[str], Path], name: str) -> None:
    model = classifier(family(name))
    freeze(model, "embeddings")
    frozen = {part for part, parameter in model.named_parameters() if not parameter.requires_grad}
    assert model.get_input_embeddings().weight.requires_grad is False
    assert not any(".0." in part or "score" in part or "classif" in part for part in frozen if "embed" not in part)
    if name in ("albert", "rembert"):
        assert any("embedding_hidden_mapping_in" in part for part in frozen)  # the projection


@pytest.mark.parametrize("name", ["gpt2", "qwen3", "t5", "xlm"])
def test_the_lowest_layers_are_frozen_and_no_others(family: Callable[[str], Path], name: str) -> None:
    model = classifier(family(name))
    layers = dissect(model).layers
    freeze(model, 1)
    trained = [any(weight.requires_grad for module in layer for weight in module.parameters()) for layer in layers]
    assert trained[0] is False
    assert all(trained[1:])


def test_layers_that_share_their_weights_are_refused_in_a_whole_sentence(family: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="they share their weights, so that none can be frozen without the others"):
        freeze(classifier(family("albert")), 1)


def test_more_layers_than_there_are_say_how_many_there_are(family: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="5, but this model has 4 layers"):
        freeze(classifier(family("t5")), 5)


@pytest.mark.parametrize("name", ["modernvbert", "gemma3"])
def test_adapters_are_put_where_a_text_comes_by(family: Callable[[str], Path], name: str) -> None:
    """The tower for images has layers of the names that are looked for, and ModernVBERT's texts have others."""
    model = classifier(family(name))
    add_lora(model, r=2, lora_alpha=4, lora_dropout=0.0, target_modules=None)
    adapters = [name for name, _ in model.named_parameters() if ".lora_" in name]
    assert adapters
    assert not [name for name in adapters if "vision" in name]


def test_layers_that_share_their_weights_take_no_adapters(family: Callable[[str], Path]) -> None:
    model = classifier(family("zamba"))
    with pytest.raises(ConfigError, match="q_proj shares its weights with another layer"):
        add_lora(model, r=2, lora_alpha=4, lora_dropout=0.0, target_modules=None)
