"""`training.trainer_args`: every field of `TrainingArguments` (transformers 5.23), and how it is treated here.

A field is in one of three groups: OURS have a key of their own in the config; MANAGED are decided by the tool or would
have no effect; PASSED are handed on. `TrainingArguments` itself checks almost nothing and takes seconds to import, so
names and values are checked here. A test compares the three groups with the installed version.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_cli.config.text import by_word, shorten
from finetune_cli.errors import did_you_mean


@dataclass(frozen=True, slots=True)
class Value:
    """What a passed field allows: in words, as JSON Schema, and as a check of a YAML value."""

    text: str
    schema: dict[str, Any]
    accepts: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


FLAG = Value("true or false", {"type": "boolean"}, lambda value: isinstance(value, bool))
TEXT = Value("text", {"type": "string", "minLength": 1}, lambda value: isinstance(value, str) and bool(value))
COUNT = Value(
    "a whole number from 1", {"type": "integer", "minimum": 1}, lambda value: type(value) is int and value >= 1
)
POSITIVE = Value(
    "a number above 0", {"type": "number", "exclusiveMinimum": 0}, lambda value: _is_number(value) and value > 0
)
BETA = Value(
    "a number from 0 up to below 1",
    {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
    lambda value: _is_number(value) and 0 <= value < 1,
)
KEYS = Value("a section with keys", {"type": "object"}, lambda value: isinstance(value, dict))
KEYS_OR_FILE = Value(
    "a section with keys, or a JSON file",
    {"type": ["object", "string"]},
    lambda value: KEYS.accepts(value) or TEXT.accepts(value),
)
FLAG_OR_TEXT = Value(
    "true, false or text", {"type": ["boolean", "string"]}, lambda value: FLAG.accepts(value) or TEXT.accepts(value)
)

OPTIMIZERS = tuple(
    """
    adamw_torch adamw_torch_fused adamw_torch_xla adamw_torch_npu_fused adafactor adamw_anyprecision
    adamw_torch_4bit adamw_torch_8bit ademamix sgd adagrad adamw_bnb_8bit adamw_8bit ademamix_8bit lion_8bit
    lion_32bit paged_adamw_32bit paged_adamw_8bit paged_ademamix_32bit paged_ademamix_8bit paged_lion_32bit
    paged_lion_8bit rmsprop rmsprop_bnb rmsprop_bnb_8bit rmsprop_bnb_32bit galore_adamw galore_adamw_8bit
    galore_adafactor galore_adamw_layerwise galore_adamw_8bit_layerwise galore_adafactor_layerwise lomo adalomo
    grokadamw schedule_free_radam schedule_free_adamw schedule_free_sgd apollo_adamw apollo_adamw_layerwise
    stable_adamw
    """.split()
)
OPTIMIZER = Value(
    "an optimizer of transformers, such as adamw_torch, adafactor, sgd",
    {"enum": list(OPTIMIZERS)},
    lambda value: value in OPTIMIZERS,
)

PASSED: dict[str, Value] = {
    "optim": OPTIMIZER,
    "adam_beta1": BETA,
    "adam_beta2": BETA,
    "adam_epsilon": POSITIVE,
    "lr_scheduler_kwargs": KEYS,
    "neftune_noise_alpha": POSITIVE,
    "torch_empty_cache_steps": COUNT,
    "ddp_find_unused_parameters": FLAG,
    "ddp_bucket_cap_mb": COUNT,
    "ddp_broadcast_buffers": FLAG,
    "fsdp": FLAG_OR_TEXT,
    "fsdp_config": KEYS_OR_FILE,
    "deepspeed": KEYS_OR_FILE,
    "tf32": FLAG,
    "use_liger_kernel": FLAG,
    "torch_compile_backend": TEXT,
    "torch_compile_mode": TEXT,
    "full_determinism": FLAG,
}

# Name -> our key.
OURS = by_word(
    {
        "output_dir": "output_dir",
        "seed": "seed data_seed",
        "training.batch_size": "per_device_train_batch_size",
        "training.micro_batch_size": "gradient_accumulation_steps auto_find_batch_size",
        "training.num_epochs": "num_train_epochs",
        "training.max_steps": "max_steps",
        "training.learning_rate": "learning_rate",
        "training.lr_scheduler": "lr_scheduler_type",
        "training.warmup_steps": "warmup_steps",
        "training.weight_decay": "weight_decay",
        "training.gradient_checkpointing": "gradient_checkpointing activation_checkpointing",
        "training.max_grad_norm": "max_grad_norm",
        "training.ddp_timeout": "ddp_timeout",
        "training.label_smoothing": "label_smoothing_factor",
        "training.precision": "bf16 fp16",
        "training.compile": "torch_compile",
        "training.batching": "train_sampling_strategy",
        "training.on_nonfinite": "logging_nan_inf_filter",
        "evaluation.every": "eval_strategy eval_steps",
        "evaluation.metric_for_best": "metric_for_best_model greater_is_better load_best_model_at_end",
        "checkpointing.every": "save_strategy save_steps",
        "checkpointing.keep": "save_total_limit",
        "tracking": "report_to",
        "hub.repo_id": "hub_model_id",
        "hub.private": "hub_private_repo",
    }
)

# Name -> why it cannot be set.
MANAGED = by_word(
    {
        "every update is written to history.jsonl, and the terminal shows it": (
            "logging_strategy logging_steps logging_first_step log_on_each_node include_num_input_tokens_seen"
        ),
        "most optimizers do not read it": "optim_args",
        "the options -v and -q decide this": "log_level log_level_replica disable_tqdm",
        "the tool feeds the batches itself, the same ones to both loops": (
            "dataloader_drop_last dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers "
            "dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order remove_unused_columns "
            "label_names length_column_name accelerator_config"
        ),
        "the tool runs evaluation itself, the same way for both loops": (
            "per_device_eval_batch_size eval_delay eval_on_start eval_do_concat_batches eval_use_gather_object "
            "eval_accumulation_steps include_for_metrics batch_eval_metrics prediction_loss_only bf16_full_eval "
            "fp16_full_eval"
        ),
        "the tool writes the checkpoints itself, complete or not at all": (
            "save_only_model save_on_each_node enable_jit_checkpoint ignore_data_skip "
            "restore_callback_states_from_checkpoint"
        ),
        "the option --resume decides this": "resume_from_checkpoint",
        "hub.repo_id names the repository, and the best model is uploaded once, after training": (
            "push_to_hub hub_strategy hub_always_push hub_revision"
        ),
        "a token is read from HF_TOKEN or from `hf auth login`": "hub_token",
        "a tracker's run is called as output_dir; projects are named by the trackers' own environment variables": (
            "run_name project trackio_space_id trackio_bucket_id trackio_static_space_id"
        ),
        "the command decides this: finetune train, evaluate or predict": "do_train do_eval do_predict",
        "training.gradient_checkpointing takes the form that works with every option (non-reentrant)": (
            "activation_checkpointing_kwargs gradient_checkpointing_kwargs"
        ),
        "the loss is divided by the rows of the whole update, on any number of devices": (
            "average_tokens_across_devices"
        ),
        "only the optimizers that train a projection need it; this version has no layer selection": (
            "optim_target_modules"
        ),
        "use_liger_kernel alone is supported": "liger_kernel_config",
        "a classifier has no cache of keys and values": "use_cache",
        "the launcher decides this: ACCELERATE_USE_CPU=true finetune train CONFIG": "use_cpu",
        "`accelerate config` decides this": "parallelism_config ddp_static_graph",
        "the device decides this: nccl on CUDA, gloo on CPU": "ddp_backend",
        "the launcher decides this": "local_rank",
        "it changes what the Trainer prints, not what it does; the option --debug shows tracebacks": "debug",
        "peak memory is always in run.json": "skip_memory_metrics",
    }
)


def argument_problem(name: str, value: Any) -> str | None:
    """What is wrong with one entry of `training.trainer_args`, as a message; None when it can be handed on."""
    if name in OURS:
        return f"has a key of its own here. Write {OURS[name]}"
    if name in MANAGED:
        return f"cannot be set: {MANAGED[name]}. Take it out"
    if name not in PASSED:
        return f"is not a field of TrainingArguments. Allowed: {', '.join(PASSED)}{_similar(name, tuple(PASSED))}"
    expected = PASSED[name]
    if value is None or expected.accepts(value):
        return None
    hint = _similar(str(value), OPTIMIZERS) if expected is OPTIMIZER else ""
    return f"{shorten(repr(value))} is not what this takes. Allowed: {expected.text}{hint}"


def _similar(name: str, choices: Sequence[str]) -> str:
    """`. Did you mean x?`: a choice that begins with the name, else the nearest one, else nothing."""
    meant = next((choice for choice in choices if choice.startswith(name)), name)
    return did_you_mean(meant, choices, before=". ")
