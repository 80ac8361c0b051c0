"""The message for a wrong key or value: what was found, what is allowed, and what was probably meant."""

import re
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from finetune_cli.config.fields import HubConfig, RunConfig
from finetune_cli.config.text import shorten
from finetune_cli.config.trainer_args import MANAGED, OURS, PASSED
from finetune_cli.config.types import Allowed, Section, fields_below, section_of
from finetune_cli.config.yaml_source import KeyPath
from finetune_cli.errors import did_you_mean

# Names of other tools and scripts -> our key, or a sentence (a value with a blank in it). The names of
# TrainingArguments are in trainer_args.
COMMON_NAMES: dict[str, str] = {
    **dict.fromkeys(("lr", "learning_rates"), "training.learning_rate"),
    **dict.fromkeys(("epochs", "n_epochs", "num_epoch", "max_epochs", "train_epochs"), "training.num_epochs"),
    **dict.fromkeys(("train_batch_size", "bs", "batch", "per_gpu_train_batch_size"), "training.batch_size"),
    **dict.fromkeys(("accumulation_steps", "accumulate_grad_batches"), "training.micro_batch_size"),
    **dict.fromkeys(("scheduler", "scheduler_type", "lr_schedule"), "training.lr_scheduler"),
    **dict.fromkeys(("warmup", "warmup_ratio", "warmup_proportion", "num_warmup_steps"), "training.warmup_steps"),
    **dict.fromkeys(
        ("gradient_clipping", "clip_grad_norm", "gradient_clip_val", "grad_clip"), "training.max_grad_norm"
    ),
    **dict.fromkeys(("mixed_precision", "dtype", "torch_dtype"), "training.precision"),
    **dict.fromkeys(("optimizer", "optimizer_type"), "training.trainer_args.optim"),
    **dict.fromkeys(("focal_loss", "focal", "gamma"), "training.focal_gamma"),
    **dict.fromkeys(("pos_weight", "class_weight"), "training.class_weights"),
    "group_by_length": "training.batching",
    "early_stopping_patience": "training.early_stopping.patience",
    "early_stopping_threshold": "training.early_stopping.min_delta",
    **dict.fromkeys(("task_name", "task_type", "problem_type"), "task"),
    **dict.fromkeys(
        (
            "model_name_or_path",
            "model_name",
            "pretrained_model_name_or_path",
            "model_id",
            "checkpoint",
            "tokenizer_name",
        ),
        "model.name_or_path",
    ),
    **dict.fromkeys(("model_revision",), "model.revision"),
    **dict.fromkeys(("hidden_dropout_prob", "hidden_dropout", "dropout_rate"), "model.dropout"),
    "attention_probs_dropout_prob": "model.attention_dropout",
    **dict.fromkeys(("peft", "lora_config", "peft_config", "adapter", "use_lora", "use_peft"), "model.lora"),
    **dict.fromkeys(("rank", "lora_r", "lora_rank"), "model.lora.r"),
    "alpha": "model.lora.lora_alpha",
    **dict.fromkeys(("targets", "lora_target", "lora_target_modules"), "model.lora.target_modules"),
    **dict.fromkeys(
        ("freeze_layers", "frozen_layers", "num_frozen_layers", "freeze_embeddings", "freeze_encoder", "freeze_body"),
        "model.freeze",
    ),
    **dict.fromkeys(
        ("torch_dtype", "load_in_4bit", "quantize", "quantization", "quantization_config", "bnb_config", "qlora"),
        "model.dtype",
    ),
    **dict.fromkeys(("packed", "pack", "padding_free", "sequence_packing", "sample_packing"), "training.packing"),
    **dict.fromkeys(
        ("gradient_checkpoint", "grad_checkpointing", "checkpoint_activations"), "training.gradient_checkpointing"
    ),
    **dict.fromkeys(("dataset", "dataset_name", "dataset_path", "data_dir", "data_path", "data_files"), "data.path"),
    **dict.fromkeys(("dataset_config_name", "dataset_config", "subset", "config_name"), "data.name"),
    **dict.fromkeys(("train_file", "train_path"), "data.splits.train"),
    **dict.fromkeys(("validation_file", "valid_file", "dev_file", "eval_file"), "data.splits.validation"),
    "test_file": "data.splits.test",
    **dict.fromkeys(("text_column", "text_column_name", "text_columns", "text_field", "sentence_keys"), "data.text"),
    **dict.fromkeys(("label_column", "label_column_name", "label_columns", "label_field", "target"), "data.label"),
    **dict.fromkeys(("label_names", "class_names", "classes", "num_labels", "id2label", "label2id"), "data.labels"),
    **dict.fromkeys(("max_seq_length", "max_seq_len", "max_len", "model_max_length", "block_size"), "data.max_length"),
    "pad_to_max_length": "data.padding",
    **dict.fromkeys(("doc_stride", "window_stride"), "data.long_texts.windows.stride"),
    **dict.fromkeys(("sliding_window", "chunking", "long_text"), "data.long_texts"),
    **dict.fromkeys(("max_tokens", "batch_tokens", "tokens_per_batch"), "training.micro_batch_tokens"),
    **dict.fromkeys(("max_train_samples", "max_eval_samples", "max_samples"), "data.limit"),
    **dict.fromkeys(("evaluation_strategy", "eval_every", "evaluate_every"), "evaluation.every"),
    **dict.fromkeys(("metric", "compute_metrics", "eval_metrics"), "evaluation.metrics"),
    "bootstrap_samples": "evaluation.bootstrap.samples",
    **dict.fromkeys(("trackers", "log_with", "logger", "loggers"), "tracking"),
    **dict.fromkeys(("hub_repo", "hub_repo_id", "repository"), "hub.repo_id"),
    **dict.fromkeys(("save_every", "checkpoint_every"), "checkpointing.every"),
    **dict.fromkeys(("random_seed", "manual_seed"), "seed"),
    **dict.fromkeys(("run_dir", "out_dir", "save_dir"), "output_dir"),
    "overwrite_output_dir": "the option --overwrite does this",
    **dict.fromkeys(("num_processes", "nproc_per_node", "devices", "num_gpus"), "the option --num-processes does this"),
    "no_cuda": MANAGED["use_cpu"],
    "cache_dir": "the environment variables FINETUNE_CACHE and HF_HOME decide this",
}

# (section, name) -> our key, for names that mean different things in different sections.
BY_SECTION = {
    ("model", "name"): "model.name_or_path",
    ("model", "path"): "model.name_or_path",
    ("training", "metrics"): "evaluation.metrics",
    ("training", "dropout"): "model.dropout",
    ("model.lora", "dropout"): "model.lora.lora_dropout",
}


def unknown_key(section: KeyPath, key: str) -> str:
    """The message for a key that `section` does not have."""
    name = ".".join(map(str, section))
    info = field_at(section)
    fields = sorted(((info and section_of(info)) or RunConfig).model_fields)
    paths = [path for path, _ in fields_below(RunConfig)]
    our_key = BY_SECTION.get((name, key)) or OURS.get(key) or COMMON_NAMES.get(key)
    places = [".".join(path) for path in sorted(paths, key=len) if path[-1] == key]
    if (name, key) not in BY_SECTION and places:
        return f"does not belong {f'to {name}' if name else 'at the top'}. Write {' or '.join(places)}"
    if our_key:
        return f"is called {our_key} here" if " " not in our_key else f"is not a key here: {our_key}"
    if key in PASSED:
        return f"belongs under training.trainer_args. Write training.trainer_args.{key}"
    if key in MANAGED:
        return f"cannot be set: {MANAGED[key]}. Take it out"
    close = did_you_mean(key, fields, before=". ") or did_you_mean(key, {path[-1] for path in paths}, before=". ")
    return f"unknown key. Allowed{f' in {name}' if name else ''}: {', '.join(fields)}{close}"


def field_at(path: KeyPath) -> FieldInfo | None:
    """The field at a key path. For an item of a list, the field of the list; None for the empty path."""
    section: type[Section] = RunConfig
    info: FieldInfo | None = None
    for part in path:
        info = section.model_fields.get(str(part), info)
        inner = section_of(info) if info else None
        if inner is None:
            break
        section = inner
    return info


def allowed(info: FieldInfo) -> str:
    """What a field allows, in words, from its type."""
    notes = [note.text for note in info.metadata if isinstance(note, Allowed)]
    return notes[-1] if notes else _allowed(info.annotation)


def _allowed(annotation: Any) -> str:
    if annotation is NoneType:
        return "null"
    if annotation is bool:
        return "true or false"
    if annotation is float:
        return "a number"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        notes = [note.text for note in arguments[1:] if isinstance(note, Allowed)]
        return notes[-1] if notes else _allowed(arguments[0])
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return ", or ".join(_allowed(argument) for argument in arguments)
    if origin is dict:
        return f"a section of name: {_allowed(arguments[1])}"
    return "a section with keys"


def wrong_value(value: Any, written: str | None, kinds: set[str], info: FieldInfo) -> str:
    """The message for a value that a field does not take.

    written: the scalar as it stands in the source. kinds: the types of pydantic's errors for it.
    """
    words = [word for word in allowed(info).replace(", or ", ", ").split(", ") if " " not in word]
    hint = did_you_mean(value, words, before=". ") if isinstance(value, str) and "literal_error" in kinds else ""
    if not hint and isinstance(value, str) and value:
        hint = _as_section_or_list(value, info)
    return f"{_describe(value, written, kinds)}. Allowed: {allowed(info)}{hint}"


def _as_section_or_list(value: str, info: FieldInfo) -> str:
    """How to write the text when a list of texts, or the section of the Hub, is expected."""
    if section_of(info) is HubConfig:
        return f". Write {{repo_id: {shorten(value)}}}"
    return f". Write [{shorten(value)!r}]" if allowed(info) == "a list of texts" else ""


def _describe(value: Any, written: str | None, kinds: set[str]) -> str:
    """What was found, in words."""
    shown = shorten(str(value) if written is None else written)
    wants_text = "string_type" in kinds
    if value is None:
        return "has no value"
    if isinstance(value, dict):
        return "found a section with keys"
    if isinstance(value, list | tuple):
        return f"found a list of {len(value)}"
    if isinstance(value, bool):
        return f'{shown} is read as a flag; quote it if it is a text: "{shown}"' if wants_text else f"{shown} is a flag"
    if isinstance(value, int | float):
        if wants_text and "float_type" not in kinds:
            return f'{shown} is read as a number; quote it if it is a text: "{shown}"'
        if kinds & {"int_from_float", "int_type"} and isinstance(value, float):
            return (
                f"{shown} is not a whole number" if value != int(value) else f"{shown} is not written as a whole number"
            )
        return f"{shown} is out of range" if kinds & _RANGE else f"{shown} is a number"
    if value == "":
        return "found an empty text"
    if "bool_type" in kinds and value.lower() in _FLAGS:
        return f"{shown} is text in YAML 1.2; write {_FLAGS[value.lower()]}"
    if kinds & {"int_type", "float_type"} and any(character.isdigit() for character in value):
        return _not_a_number(value, shown)
    return f"{shown!r} is not known" if "literal_error" in kinds else f"{shown!r} is text"


_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}
_FLAGS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def _not_a_number(value: str, shown: str) -> str:
    """Why a text with digits in it is not read as a number, and how to write that number."""
    if re.fullmatch(r"[-+]?0\d+", value):
        return f"{shown} is text: a number has no leading zero. Write {int(value)}"
    if re.fullmatch(r"[-+]?\d[\d_]*_[\d_]*", value):
        return f"{shown} is text: a number has no underscores. Write {value.replace('_', '')}"
    if re.fullmatch(r"0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+", value):
        return f"{shown} is text: numbers are decimal. Write {int(value, 0)}"
    if re.fullmatch(r"[-+]?\d+,\d+\S*", value):
        return f"{shown} is text: a number has a decimal point, not a comma. Write {value.replace(',', '.')}"
    if re.fullmatch(r"\d+(\.\d+)?\s*%", value):
        return f"{shown} is text: a share is written as a number. Write {float(value.rstrip('% ')) / 100:g}"
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value):
        return f"{shown!r} is text because of the quotes. Take them off"
    return f"{shown!r} is text"
