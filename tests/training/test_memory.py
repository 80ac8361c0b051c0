"""The estimate of memory: what is counted, by hand on a small network, and that a checkpointed one keeps less."""

from __future__ import annotations

import torch
from torch import nn

from finetune_cli.models.building import recompute_activations
from finetune_cli.training.memory import estimate_memory, kept_bytes
from tests.models.small_models import rows, small


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def kept_for(model: nn.Module, count: int) -> int:
    return kept_bytes(model, lambda: model(torch.zeros(count, 4)).sum())


def test_what_autograd_keeps_is_counted_once_and_without_the_weights() -> None:
    """The input of the first layer (4 floats a row) and that of the last (8), which is what ReLU keeps, too."""
    model = network()
    assert kept_for(model, 1) == (4 + 8) * 4
    assert kept_for(model, 5) == 5 * (4 + 8) * 4
    for parameter in model[0].parameters():  # nothing is kept below the lowest trained weight
        parameter.requires_grad_(False)
    assert kept_for(model, 5) == 5 * 8 * 4


def test_the_parts_of_an_estimate() -> None:
    """58 weights of 4 bytes; the last layer's 18 are trained."""
    model = network()
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for optimizer, moments in ((torch.optim.AdamW(trained), 2), (torch.optim.SGD(trained, momentum=0.9), 1)):
        found = estimate_memory(model, optimizer, lambda count: kept_for(model, count), rows=7, program=1000)
        assert (found.program, found.weights, found.gradients) == (1000, 58 * 4, 18 * 4)
        assert (found.optimizer, found.activations) == (moments * 18 * 4, 7 * 8 * 4)
        assert found.total == 1000 + 232 + 72 + moments * 72 + 224


def test_weights_are_counted_in_their_own_format_and_tied_ones_once() -> None:
    model = network().bfloat16()
    model[0].again = model[0].weight
    model.register_buffer("table", torch.zeros(3, 3))
    optimizer = torch.optim.AdamW(model.parameters())
    assert estimate_memory(model, optimizer, lambda count: 0, rows=1, program=0).weights == 58 * 2 + 9 * 4


def test_recomputed_layers_keep_their_inputs_and_one_of_them_the_rest() -> None:
    from transformers import BertConfig

    def kept(count: int) -> int:
        batch = {name: value[:1].expand(count, -1) for name, value in rows().items()}
        return kept_bytes(model, lambda: model(**batch).logits.sum())

    model = small(BertConfig)
    whole = kept(4)
    recompute_activations(model)
    optimizer = torch.optim.AdamW(model.parameters())
    found = estimate_memory(model, optimizer, kept, rows=4, layers_recomputed=(3, lambda count: whole), program=0)
    layers_inputs = 3 * 4 * 20 * 16 * 4  # 3 layers, 4 rows of 20 tokens, 16 floats
    assert layers_inputs <= kept(4) < 0.5 * whole
    assert kept(4) < found.activations < 0.7 * whole
