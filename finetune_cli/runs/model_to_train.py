"""The model that a run trains, as its config describes it."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from finetune_cli.config.fields import RunConfig
from finetune_cli.data.batching import used_tokens
from finetune_cli.errors import ConfigError
from finetune_cli.models import building, freezing, lora, resolving, tokenizer
from finetune_cli.models.last_layer import use_first_token_only
from finetune_cli.models.on_cpu import use_attention_for_cpu, use_fast_dropout
from finetune_cli.models.packing import pack_rows
from finetune_cli.models.padding_independence import require_one_pass
from finetune_cli.models.used_rows import train_used_rows_only
from finetune_cli.runs.context import RunContext
from finetune_cli.runs.sharding import is_sharded
from finetune_cli.training.device_settings import COMPILED_BY_SHAPE


def build_model(context: RunContext, device: torch.device) -> PreTrainedModel:
    """The classifier to train: its weights, and which of them are trained; adapters and recomputation as configured.

    device: where a model in 4 bits is loaded to; the others are moved there by their loop.
    """
    config = context.config
    model = _load_or_create(context, device)
    freezing.freeze(model, config.model.freeze)
    if config.model.lora is not None:
        lora.add_lora(model, **config.model.lora.model_dump())
    if config.training.gradient_checkpointing:
        building.recompute_activations(model)
    return model


def _load_or_create(context: RunContext, device: torch.device) -> PreTrainedModel:
    """The classifier of this config: pretrained, or new with the sizes of `model.from_scratch`."""
    config, prepared = context.config, context.prepared
    options: dict[str, Any] = {
        "kind": config.spec.kind,
        "label_names": prepared.label_names,
        "dropout": config.model.dropout,
        "attention_dropout": config.model.attention_dropout,
    }
    if config.model.from_scratch is not None:
        return building.build_from_scratch(
            config.model.from_scratch.model_dump(),
            vocab_size=tokenizer.vocabulary_size(prepared.tokenizer_dir),
            pad_token_id=prepared.pad_token_id,
            **options,
        )
    assert config.model.name_or_path is not None, "the config requires one of the two"
    code = config.model.trust_remote_code
    directory = resolving.resolve_model(
        config.model.name_or_path, revision=config.model.revision, offline=context.offline, code=code
    )
    return building.build_classifier(
        directory, trust_remote_code=code, dtype=config.model.dtype, device=device, **options
    )


def require_supported_on(device: torch.device, config: RunConfig) -> None:
    """Raise ConfigError for what a device that compiles each shape by itself cannot do."""
    settings = config.training
    if device.type not in COMPILED_BY_SHAPE:
        return
    wanted = {
        "packing": (settings.packing, "packed rows have ever new shapes, and each is compiled anew"),
        "micro_batch_tokens": (settings.micro_batch_tokens is not None, "its micro-batches have ever new shapes"),
        "compile": (settings.compile is True, "this device compiles by itself"),
        "gradient_checkpointing": (settings.gradient_checkpointing, "the compiler takes the repetition out again"),
    }
    refused = [f"training.{name}: {why}" for name, (is_wanted, why) in wanted.items() if is_wanted]
    if refused:
        raise ConfigError(f"{'; '.join(refused)}. Leave it out on {device.type}.")


def make_cheaper(model: PreTrainedModel, context: RunContext, device: torch.device) -> None:
    """What saves time and memory and trains the same model."""
    prepared, settings = context.prepared, context.config.training
    sharded = is_sharded(context.config)
    if sharded:
        require_one_pass(model, [(split.input_ids, split.offsets) for split in prepared.splits.values()])
    if device.type == "cpu" and not settings.compile:
        use_attention_for_cpu(model)
        use_fast_dropout(model)
    if settings.packing:
        pack_rows(model)
    elif not sharded:
        use_first_token_only(model)
    leaves_zero_gradients_alone = str(settings.trainer_args.get("optim", "adamw_torch")).startswith("adamw_torch")
    if leaves_zero_gradients_alone and not settings.weight_decay and not sharded:
        train_used_rows_only(model, used_tokens(prepared.splits["train"], prepared.pad_token_id))
