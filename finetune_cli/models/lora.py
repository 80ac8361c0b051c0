"""Low-rank adapters (LoRA, https://arxiv.org/abs/2106.09685): put into a classifier, and merged into its weights."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from finetune_cli.errors import ConfigError
from finetune_cli.models.freezing import belongs_to_body, describe_trained
from finetune_cli.system.machine import require_extra

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

# How the projections to queries and values are called in BERT, RoBERTa and ELECTRA; DistilBERT; DeBERTa v2; BART and
# most decoders; MPNet and T5; XLM; and, in one projection for queries, keys and values, in GPT-2, BLOOM and Falcon,
# Phi-3, ModernBERT, and DeBERTa.
QUERY_AND_VALUE = (
    ("query", "value"),
    ("q_lin", "v_lin"),
    ("query_proj", "value_proj"),
    ("q_proj", "v_proj"),
    ("q", "v"),
    ("c_attn",),
    ("query_key_value",),
    ("q_b_proj", "kv_b_proj"),
    ("q_proj", "kv_b_proj"),
    ("qkv_proj",),
    ("Wqkv",),
    ("in_proj",),
)
DOWN, UP, BASE = ".lora_A.default.weight", ".lora_B.default.weight", ".base_layer."


def add_lora(
    model: PreTrainedModel,
    *,
    r: int,
    lora_alpha: int,
    lora_dropout: float,
    target_modules: Sequence[str] | str | None,
) -> None:
    """Freeze the body and put adapters of rank `r` beside its target layers, in place; the head is trained in full.

    The model keeps its class and its forward pass (no PeftModel around it, for which Trainer has ways of its own).
    target_modules: names, or ends of names, of linear layers; "all-linear"; None: queries and values. The adapters
    are drawn from the global generator and start as zero. Raises MissingError without the library peft, ConfigError
    when a target is not there.
    """
    require_extra("peft", "lora", "model.lora")
    from peft import LoraConfig, inject_adapter_in_model

    targets = _targets(model, target_modules)
    settings = LoraConfig(
        r=r,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        target_modules=targets,
        fan_in_fan_out=bool(transposed_layers(model).intersection(targets)),
    )
    inject_adapter_in_model(settings, model)
    _require_matrices(model)
    for name, parameter in model.named_parameters():
        if not belongs_to_body(model, name):
            parameter.requires_grad_(True)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # peft draws adapters in the type of the weights beside them
    logger.info("LoRA adapters of rank %d: %s", r, describe_trained(model))


def _require_matrices(model: PreTrainedModel) -> None:
    """Raise ConfigError where an adapter has no matrix of its own to be merged into: peft puts one beside all experts
    of a layer at once, and Zamba's layers share their weights, which cannot take what each of two adapters adds."""
    names = {name for name, _ in model.named_parameters()}
    shared = {name for name, _ in model.named_parameters(remove_duplicate=False)} - names
    if beside := sorted(name for name in shared if name.endswith(f"{BASE}weight")):
        raise ConfigError(
            f"model.lora.target_modules: {beside[0].removesuffix(f'{BASE}weight')} shares its weights with another "
            f"layer, so that adapters are not possible there. Name other layers, or train less with model.freeze: body."
        )
    layers = [name.removesuffix(DOWN) for name in names if name.endswith(DOWN)]
    if experts := sorted(layer for layer in layers if f"{layer}.base_layer.weight" not in names):
        raise ConfigError(
            f"model.lora.target_modules: {experts[0]} holds the experts of a layer, beside which adapters are not "
            f"possible here. Name the layers of attention, such as [q_proj, v_proj]."
        )


def transposed_layers(model: PreTrainedModel) -> set[str]:
    """The names of linear layers that keep their weights as (in, out), as GPT-2's do; with adapters or without."""
    from transformers.pytorch_utils import Conv1D

    return {name.removesuffix(".base_layer") for name, module in model.named_modules() if isinstance(module, Conv1D)}


def merge_lora(
    weights: Mapping[str, Tensor], *, r: int, lora_alpha: int, transposed: Collection[str] = ()
) -> dict[str, Tensor]:
    """A model's weights with each adapter added to its layer, W + (lora_alpha / r) B A, under the plain model's names.

    transposed: layers whose W is (in, out). Weights without adapters come back as they are.
    """
    merged = {name.replace(BASE, "."): weight for name, weight in weights.items() if not name.endswith((DOWN, UP))}
    for name, down in weights.items():
        if name.endswith(DOWN):
            layer = name.removesuffix(DOWN)
            change = weights[layer + UP].double() @ down.double() * (lora_alpha / r)
            weight = merged[f"{layer}.weight"]
            added = change.T if layer in transposed else change
            merged[f"{layer}.weight"] = (weight.double() + added).to(weight.dtype)
    return merged


def _targets(model: PreTrainedModel, asked: Sequence[str] | str | None) -> list[str]:
    """The full names of the layers that get an adapter."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    from finetune_cli.models.anatomy import not_for_texts

    linear = [name for name, module in model.named_modules() if isinstance(module, Linear | Conv1D)]
    not_for_text = tuple(f"{name}." for name in not_for_texts(model))
    body = [name for name in linear if belongs_to_body(model, f"{name}.weight") and not name.startswith(not_for_text)]
    if not body:
        raise ConfigError(
            f"model.lora: the body of a model of type {model.config.model_type!r} has no linear layers that adapters "
            f"can be put beside. Remove the setting, or train less with model.freeze: body."
        )
    ends = _query_and_value(body) if asked is None else asked
    if not ends:
        logger.info("No layers of queries and values are known here: each linear layer of the body gets an adapter")
    if not ends or ends == "all-linear":
        return body
    missing = [end for end in ends if not any(_ends_with(name, end) for name in body)]
    if missing:
        names = ", ".join(sorted({name.rpartition(".")[2] for name in body}))
        raise ConfigError(
            f"model.lora.target_modules: the body has no linear layer {missing[0]!r}. Allowed here: {names}, or "
            f"all-linear."
        )
    return [name for name in body if any(_ends_with(name, end) for end in ends)]


def _query_and_value(names: Sequence[str]) -> tuple[str, ...]:
    last = {name.rpartition(".")[2] for name in names}
    return next((pair for pair in QUERY_AND_VALUE if last.issuperset(pair)), ())


def _ends_with(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")
