"""Which weights of a classifier are trained: the lowest layers, or the whole pretrained body, can be frozen."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from finetune_cli.errors import ConfigError, counted

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)


def freeze(model: PreTrainedModel, part: str | int) -> None:
    """Freeze "embeddings", the embeddings and the lowest `part` layers, "body" (all but the head), or "none", in place.

    A frozen weight has no gradient and no optimizer state, and below the lowest trained weight no graph is built.
    A pooler counts as head: many checkpoints come without one, and a random one must not stay so. Raises ConfigError
    when the model has no such part.
    """
    if part == "none":
        return
    if part == "body":
        frozen = [parameter for name, parameter in model.named_parameters() if belongs_to_body(model, name)]
    else:
        frozen = _lowest(model, 0 if part == "embeddings" else int(part))
    for parameter in frozen:
        parameter.requires_grad_(False)
    logger.info("Frozen (model.freeze: %s): %s", part, describe_trained(model))


def belongs_to_body(model: PreTrainedModel, key: str) -> bool:
    """Whether a weight is part of the pretrained body; the head and a pooler may be new."""
    return key.startswith(f"{model.base_model_prefix}.") and ".pooler." not in key


def describe_trained(model: nn.Module) -> str:
    sizes = [(count_weights(parameter), parameter.requires_grad) for parameter in model.parameters()]
    trained, everything = sum(size for size, needed in sizes if needed), sum(size for size, _ in sizes)
    return f"{trained:,} of {everything:,} parameters are trained"


def count_weights(parameter: nn.Parameter) -> int:
    """The weights that a parameter stands for: in 4 bits, two in each byte."""
    return parameter.numel() if parameter.is_floating_point() else 2 * parameter.numel()


def _lowest(model: PreTrainedModel, num_layers: int) -> list[nn.Parameter]:
    """The weights of the embeddings (with their projection, where there is one) and of the lowest layers."""
    from finetune_cli.models.anatomy import dissect

    anatomy = dissect(model)
    if not anatomy.embeddings:
        raise _not_found(model, "embeddings", "no table of tokens was found in it")
    if not num_layers:
        return anatomy.embeddings
    if anatomy.layers_are_shared:
        raise _not_found(model, "layers", "they share their weights, so that none can be frozen without the others")
    if not anatomy.layers:
        raise _not_found(model, "layers", "no list of layers that run one after the other was found in it")
    if num_layers > len(anatomy.layers):
        raise ConfigError(
            f"model.freeze: {num_layers}, but this model has {counted(len(anatomy.layers), 'layer')}. "
            f"Set it to {len(anatomy.layers)} or less, or to body."
        )
    layers = [module for layer in anatomy.layers[:num_layers] for module in layer]
    return [*anatomy.embeddings, *(weight for module in layers for weight in module.parameters())]


def _not_found(model: PreTrainedModel, part: str, why: str) -> ConfigError:
    return ConfigError(
        f"model.freeze: the {part} of a model of type {model.config.model_type!r} are not known one by one: {why}. "
        f"Set it to body, which freezes all but the head, or to none."
    )
