"""In which number format the frozen weights of a body are kept: fp32, bf16, or nf4 (4 bits, of QLoRA).

What is trained (adapters, head, pooler) is kept in fp32 always: an update of AdamW is often less than the 1/256 of a
weight that bf16 can tell apart, and would be lost. The body computes in the format of its weights, nf4 in bf16.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from finetune_cli.errors import ConfigError
from finetune_cli.models import four_bit
from finetune_cli.models.freezing import belongs_to_body

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "nf4": torch.bfloat16}


def loading_options(config: PreTrainedConfig, dtype: str, device: torch.device) -> tuple[Any, dict[str, Any]]:
    """The class to load a classifier with, and the options for its `from_pretrained`; `dtype` is that of the body.

    Raises ConfigError for a model with code of its own in another format than fp32: its class is not known here.
    """
    if dtype == "fp32":
        return AutoModelForSequenceClassification, {"dtype": torch.float32}  # otherwise a bf16 checkpoint loads as bf16
    classes = AutoModelForSequenceClassification._model_mapping
    if type(config) not in classes:
        raise ConfigError(
            f"model.dtype: {dtype} is not possible for a model of type {config.model_type!r}, which brings code of its "
            f"own. Set it to fp32."
        )
    options: dict[str, Any] = {"dtype": DTYPES[dtype]}
    if dtype == "nf4":
        options |= four_bit.loading_options(config, device)
    return _with_head_in_fp32(classes[type(config)]), options


def _with_head_in_fp32(model_class: Any) -> Any:
    """The class under its own name, built with a head in fp32. What is loaded takes the type of its place."""

    def build(self: Any, *args: Any, **options: Any) -> None:
        model_class.__init__(self, *args, **options)
        for module in _head(self):
            module.float()

    # Its module is named, too: transformers draws heads otherwise for classes that are not its own.
    return type(model_class.__name__, (model_class,), {"__init__": build, "__module__": model_class.__module__})


def restore_class(model: PreTrainedModel) -> None:
    """Give a freshly loaded model its plain class back, and let its head take what a body of another type hands it."""
    model.__class__ = type(model).__bases__[0]
    for module in _head(model):
        module.register_forward_pre_hook(_cast_inputs)
    four_bit.forget_the_loader(model)


def _head(model: PreTrainedModel) -> list[nn.Module]:
    """The modules with weights of their own that are not of the body; a pooler counts as head, see models.freezing."""
    return [
        module
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False)) and not belongs_to_body(model, f"{name}.")
    ]


def _cast_inputs(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_as_float(value) for value in args)


def _as_float(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


@contextmanager
def computing_in_fp32(model: nn.Module) -> Iterator[None]:
    """Let a model compute in fp32, whatever its weights are kept in: one layer's weights after the other are widened.

    In bf16 the answers to a row alone and in company differ by 1e-2 anyway, which hides what padding does. Nothing is
    changed in a model that is fp32 throughout.
    """
    hooks = [hook for part, owners in _parts(model, [model]) for hook in _widening(part, owners)]
    hooks += [
        module.register_forward_hook(four_bit.exact_output)
        for module in model.modules()
        if four_bit.is_quantized(module)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _parts(module: nn.Module, owners: list[nn.Module]) -> Iterator[tuple[nn.Module, list[nn.Module]]]:
    """What is widened at once, each with the modules whose weights it has: layers, and what is not in a layer.

    A layer as a whole, because parts of T5's look at the type of one another's weights.
    """
    yield module, owners
    if len(owners) == 1:
        for child in module.children():
            yield from _parts(child, list(child.modules()) if isinstance(module, nn.ModuleList) else [child])


def _widening(part: nn.Module, owners: list[nn.Module]) -> list[Any]:
    """The hooks, if any are needed, that widen the weights of these modules while the part runs."""
    narrow = [
        (owner, name, weight)
        for owner in owners
        for name, weight in owner._parameters.items()
        if weight is not None and weight.dtype == torch.bfloat16
    ]
    if not narrow:
        return []
    if isinstance(part, nn.Embedding):  # a lookup: its table, the largest of all, need not be widened for that
        return [part.register_forward_hook(lambda module, args, output: output.float())]

    def widen(module: nn.Module, args: Any, options: Any) -> Any:
        for owner, name, weight in narrow:
            owner._parameters[name] = nn.Parameter(weight.detach().float(), requires_grad=False)
        return _cast_inputs(module, args), {name: _as_float(value) for name, value in options.items()}

    def put_back(module: nn.Module, args: Any, output: Any) -> None:
        for owner, name, weight in narrow:
            owner._parameters[name] = weight

    return [
        part.register_forward_pre_hook(widen, with_kwargs=True),
        part.register_forward_hook(put_back, always_call=True),
    ]
