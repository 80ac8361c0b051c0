"""Where the embeddings and the layers of a model are, whatever its family calls them: seen in what runs, in order.

A short row is sent through. What has weights and runs before the first layer are embeddings (tables, their norm, their
projection); the lists of modules that run one after the other are layers, in the order in which they run: an encoder's
before a decoder's. Lists that take turns (XLM keeps attention and feed-forward parts apart) are parts of one layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from finetune_cli.models.self_test import run_a_row


@dataclass
class Anatomy:
    """embeddings: their weights. layers: from the lowest up, the modules of each. layers_are_shared: some run twice."""

    embeddings: list[nn.Parameter] = field(default_factory=list)
    layers: list[list[nn.Module]] = field(default_factory=list)
    layers_are_shared: bool = False


def dissect(model: PreTrainedModel) -> Anatomy:
    """The parts of the body of a classifier."""
    ran = _in_order(model)
    lists = _lists_that_run(model.base_model, ran)
    members = {id(module) for modules in lists for module in modules}
    inside = {id(part) for modules in lists for module in modules for part in module.modules()}
    body = {id(module) for module in model.base_model.modules()}
    first = next((place for place, module in enumerate(ran) if id(module) in inside), len(ran))
    before = [module for module in ran[:first] if id(module) in body]
    tables = [module for module in model.base_model.modules() if isinstance(module, nn.Embedding)]
    owners = [*before, *(table for table in tables if id(table) not in inside)]
    weights = {id(weight): weight for module in owners for weight in module.parameters(recurse=False)}
    calls = [id(module) for module in ran if id(module) in members]
    return Anatomy(list(weights.values()), _layers(lists, ran), len(calls) > len(set(calls)))


def encoder_layers(model: PreTrainedModel) -> list[nn.Module] | None:
    """The layers from the lowest up: the one list in the body that has as many members as the config says, or None."""
    expected = getattr(model.config, "num_hidden_layers", None)
    if expected is None or model.config.is_encoder_decoder:
        return None
    lists = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList)]
    fitting = [list(modules) for modules in lists if len(modules) == expected]
    return fitting[0] if len(fitting) == 1 else None


def compile_layers(model: PreTrainedModel) -> None:
    """Have the layers compiled when they first run, for rows of any number and width; the whole model where no list of
    layers is found. A layer of another class than the first, such as a shortened last one, stays as it is.

    The layers are alike, so that one of them is compiled and serves them all. The whole model would take several times
    as long to compile, and the layers are where the time goes
    (https://docs.pytorch.org/tutorials/recipes/regional_compilation.html).
    """
    layers = encoder_layers(model) or [model]
    for layer in layers:
        if type(layer) is type(layers[0]):
            layer.compile(dynamic=True)


def not_for_texts(model: PreTrainedModel) -> tuple[str, ...]:
    """The names of the models inside this one that a text does not reach, such as the one of the images."""
    inner = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, PreTrainedModel) and module not in (model, model.base_model)
    }
    reached = {id(module) for module in _in_order(model)} if inner else set()
    return tuple(name for name, module in inner.items() if id(module) not in reached)


def _in_order(model: PreTrainedModel) -> list[nn.Module]:
    """The modules as they begin to run, each as often as it does."""
    ran: list[nn.Module] = []

    def note(module: nn.Module, *_: Any) -> None:
        ran.append(module)

    hooks = [module.register_forward_pre_hook(note) for module in model.modules()]
    try:
        run_a_row(model)
    finally:
        for hook in hooks:
            hook.remove()
    return ran


def _lists_that_run(body: nn.Module, ran: list[nn.Module]) -> list[list[nn.Module]]:
    """Lists whose members run, outside of each other, and are more than tables."""
    seen = {id(module) for module in ran}
    lists: list[list[nn.Module]] = []

    def look(module: nn.Module) -> None:
        for child in module.children():
            if not isinstance(child, nn.ModuleList) or any(isinstance(member, nn.ModuleList) for member in child):
                look(child)
            elif len(child) and all(_is_layer(member) and _ran(member, seen) for member in child):
                lists.append(list(child))

    look(body)
    return lists


def _ran(module: nn.Module, seen: set[int]) -> bool:
    """Whether a module ran, or a part of it: SqueezeBERT calls the forward of its layers by name."""
    return any(id(part) in seen for part in module.modules())


def _is_layer(module: nn.Module) -> bool:
    return not isinstance(module, nn.Embedding) and any(True for _ in module.parameters())


def _layers(lists: list[list[nn.Module]], ran: list[nn.Module]) -> list[list[nn.Module]]:
    """Lists that take turns zipped, others one after the other."""
    places = {id(module): place for place, module in reversed(list(enumerate(ran)))}  # the first of each

    def start(modules: list[nn.Module]) -> int:
        return min(places[id(part)] for part in modules[0].modules() if id(part) in places)

    def end(modules: list[nn.Module]) -> int:
        return max(places[id(part)] for part in modules[-1].modules() if id(part) in places)

    layers: list[list[nn.Module]] = []
    until = -1
    for modules in sorted(lists, key=start):
        if layers and start(modules) < until and len(modules) <= len(layers):
            for layer, module in zip(layers[-len(modules) :], modules, strict=True):
                layer.append(module)
        else:
            layers += [[module] for module in modules]
        until = max(until, end(modules))
    return layers
