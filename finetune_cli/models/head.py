"""The head of a checkpoint that was a classifier already: taken over where its classes are ours, by their names."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from finetune_cli.models.freezing import belongs_to_body

logger = logging.getLogger(__name__)

UNNAMED = re.compile(r"(label_)?(\d+)", re.IGNORECASE)


def take_over_head(model: PreTrainedModel, own: Sequence[str], wanted: Sequence[str], *, name: str) -> None:
    """Bring the outputs of a head with classes `own` into the order of `wanted`, in place.

    With the same names in another order its rows are exchanged; with other names a new head is drawn from the global
    generator, since the old one would start with answers that mean something else. A head without names of its own
    (LABEL_0, LABEL_1 ...) is kept in its order. One line says which. name: the model, for that line.
    """
    places = {label.strip().casefold(): place for place, label in enumerate(own)}
    order = [places.get(label.strip().casefold()) for label in wanted]
    if None not in order and len(set(order)) == len(own):
        if order == sorted(places.values()):
            logger.info("%s: its head is kept, with the classes %s", name, ", ".join(own))
            return
        if (last := _last_layer(model, len(own))) is not None:
            with torch.no_grad():
                for parameter in last.parameters():
                    parameter.copy_(parameter[order])
            logger.info("%s: its head is kept, its classes (%s) put into our order", name, ", ".join(own))
            return
    elif _are_unnamed(own):
        logger.info("%s: its head is kept; its classes have no names, and are taken in their order", name)
        return
    _draw_anew(model)
    logger.info("%s: a new head is drawn, since its classes are others: %s", name, ", ".join(own))


def _are_unnamed(names: Sequence[str]) -> bool:
    matches = [UNNAMED.fullmatch(name.strip()) for name in names]
    return all(match is not None and int(match[2]) == place for place, match in enumerate(matches))


def _last_layer(model: PreTrainedModel, num_classes: int) -> nn.Linear | None:
    """The one layer of the head with an output for each class."""
    fitting = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == num_classes
        and not belongs_to_body(model, f"{name}.")
    ]
    return fitting[0] if len(fitting) == 1 else None


def _draw_anew(model: Any) -> None:
    for name, module in model.named_modules():
        parameters = list(module.parameters(recurse=False))
        if not parameters or belongs_to_body(model, f"{name}.") or ".pooler." in f".{name}.":
            continue
        for parameter in parameters:
            parameter._is_hf_initialized = False  # transformers leaves alone what it loaded
        model._init_weights(module)
