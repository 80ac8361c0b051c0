"""torch.compile for the layers of a model: they are alike, so that one of them is compiled, and serves them all.

The whole model would take several times as long to compile, and the layers are where the time goes
(https://docs.pytorch.org/tutorials/recipes/regional_compilation.html).
"""

from __future__ import annotations

from transformers import PreTrainedModel

from finetune_cli.models.freezing import encoder_layers


def compile_layers(model: PreTrainedModel) -> None:
    """Have the layers compiled when they first run, for rows of any number and width; the whole model where no list of
    layers is found. A layer of another class than the first, such as a shortened last one, stays as it is."""
    layers = encoder_layers(model) or [model]
    for layer in layers:
        if type(layer) is type(layers[0]):
            layer.compile(dynamic=True)
