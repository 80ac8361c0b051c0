"""The arguments of run_glue.py and TrainingArguments in the words of our config, each with the flag it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_cli.config.fields import TRACKERS
from finetune_cli.config.sections.training import SCHEDULES
from finetune_cli.config.text import SECRET
from finetune_cli.config.trainer_args import MANAGED, PASSED, argument_problem
from finetune_cli.errors import ConfigError
from finetune_cli.tasks import METRICS, TASKS

# run_glue.py: huggingface/transformers, examples/pytorch/text-classification; its defaults where they differ from ours.
DEFAULT_MAX_LENGTH, DEFAULT_STEPS = 128, 500
SECRETS = ("token", "hub_token", "use_auth_token")
NOTHING: tuple[Any, ...] = (None, False, "", "no", "none", -1, [], {})

RENAMED = {  # flags whose value is ours as it stands
    "ddp_timeout": "training.ddp_timeout",
    "model_name_or_path": "model.name_or_path",
    "model_revision": "model.revision",
    "trust_remote_code": "model.trust_remote_code",
    "dataset_name": "data.path",
    "dataset_config_name": "data.name",
    "label_column_name": "data.label",
    "max_seq_length": "data.max_length",
    "learning_rate": "training.learning_rate",
    "num_train_epochs": "training.num_epochs",
    "weight_decay": "training.weight_decay",
    "label_smoothing_factor": "training.label_smoothing",
    "gradient_checkpointing": "training.gradient_checkpointing",
    "activation_checkpointing": "training.gradient_checkpointing",
    "torch_compile": "training.compile",
    "save_total_limit": "checkpointing.keep",
    "output_dir": "output_dir",
    "seed": "seed",
}
FILES = {"train_file": "train", "validation_file": "validation", "test_file": "test"}
HUB_SPLITS = {"train_split_name": "train", "validation_split_name": "validation", "test_split_name": "test"}
METRIC_NAMES = {"matthews_correlation": "matthews", "spearmanr": "spearman", "pearsonr": "pearson"}
WHY_NOT = {
    **dict.fromkeys(("do_train", "do_eval", "do_predict"), "the commands train, evaluate and predict are these"),
    "overwrite_output_dir": "the option --overwrite does this",
    "overwrite_cache": "rows are found again by their content",
    "cache_dir": "the environment variables FINETUNE_CACHE and HF_HOME decide this",
    "use_fast_tokenizer": "the fast tokenizer is always used",
    "ignore_mismatched_sizes": "a head of another shape is replaced by a new one",
    "load_best_model_at_end": "the best model is always kept",
    "greater_is_better": "the direction belongs to the metric",
    "auto_find_batch_size": "training.micro_batch_size: auto, the default, does this",
    "logging_nan_inf_filter": "training.on_nonfinite says what a NaN does",
    "data_seed": "seed decides the order of rows as well",
    **dict.fromkeys(SECRETS, "a config is no place for a token; it is read from HF_TOKEN or `hf auth login`"),
    **dict.fromkeys(("config_name", "tokenizer_name"), "configuration and tokenizer come with the model"),
    **dict.fromkeys(("max_eval_samples", "max_predict_samples"), "data.limit holds for every split"),
    "shuffle_train_dataset": "rows are shuffled in each epoch",
}


@dataclass
class Translation:
    """values: dotted key -> (value, the flags it comes from). left: flags without a place here, with the reason."""

    values: dict[str, tuple[Any, str]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)

    def put(self, key: str, value: Any, *flags: str) -> None:
        self.values[key] = (value, f"from {' and '.join(flags)}")


def read_arguments(path: Path) -> dict[str, Any]:
    """The arguments in a JSON file. Raises ConfigError when it is not one object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as err:
        raise ConfigError(f"--from {path}: cannot be read ({err.strerror or err}).") from err
    except ValueError as err:
        raise ConfigError(f"--from {path}: expected JSON with the arguments of run_glue.py: {err}.") from err
    if not isinstance(found, dict):
        raise ConfigError(f'--from {path}: expected one JSON object, such as {{"task_name": "mrpc", ...}}.')
    return found


def translated(given: Mapping[str, Any]) -> Translation:
    """Every flag in the words of our config, or with the reason why it has no place in one."""
    flags = {name.lstrip("-").replace("-", "_"): value for name, value in given.items()}
    result = Translation()
    for step in (_task, _data, _batch, _training, _evaluation, _saving, _hub):
        step(flags, result)
    for name, value in flags.items():
        if name in RENAMED:
            if value is not None:
                result.put(RENAMED[name], value, name)
        elif name in PASSED and value not in NOTHING:
            if problem := argument_problem(name, value):
                result.left[name] = problem
            else:
                result.put(f"training.trainer_args.{name}", value, name)
        elif name in SECRETS or value not in NOTHING:
            reason = WHY_NOT.get(name) or MANAGED.get(name) or "not a flag of run_glue.py or TrainingArguments"
            result.left[name] = reason
    for key, (value, _) in list(result.values.items()):
        if isinstance(value, str) and SECRET.search(value):
            del result.values[key]
            result.left[key] = WHY_NOT["token"]
    if "data.max_length" not in result.values:
        result.values["data.max_length"] = (DEFAULT_MAX_LENGTH, "run_glue.py's own, where --max_seq_length is silent")
    return result


Flags = dict[str, Any]  # each of the functions below takes out those that it translates


def _task(flags: Flags, result: Translation) -> None:
    name, regression = flags.pop("task_name", None), flags.pop("do_regression", None)
    if isinstance(name, str) and name.lower() in TASKS:
        result.put("task", name.lower(), "task_name")
    elif regression:
        result.put("task", "regression", "do_regression")
    else:
        why = "task_name is not given, so the labels are classes or numbers of yours"
        result.values["task"] = ("classification", why)
        result.questions["task"] = "are the labels numbers to predict? Then write regression"


def _data(flags: Flags, result: Translation) -> None:
    files = {flag: file for flag in FILES if (file := flags.pop(flag, None))}
    theirs = {flag: name for flag in HUB_SPLITS if (name := flags.pop(flag, None))}
    if "train_file" in files:
        result.put("data.path", files.pop("train_file"), "train_file")
        if files:
            result.put("data.splits", {FILES[flag]: file for flag, file in files.items()}, *files)
    elif theirs:
        result.put("data.splits", {HUB_SPLITS[flag]: name for flag, name in theirs.items()}, *theirs)
    if columns := flags.pop("text_column_names", None):
        listed = columns.split(",") if isinstance(columns, str) else list(columns)
        result.put("data.text", [name.strip() for name in listed], "text_column_names")
    if (pads := flags.pop("pad_to_max_length", None)) is not None:
        result.put("data.padding", "max_length" if pads else "dynamic", "pad_to_max_length")
    if rows := flags.pop("max_train_samples", None):
        result.put("data.limit", rows, "max_train_samples")
        result.questions["data.limit"] = "this cuts the validation rows as well; is that what you want?"


def _batch(flags: Flags, result: Translation) -> None:
    names = ("per_device_train_batch_size", "gradient_accumulation_steps")
    used = [name for name in names if flags.get(name)]
    rows, steps = (flags.pop(name, None) or default for name, default in zip(names, (8, 1), strict=True))
    if used and isinstance(steps, int) and isinstance(rows, int):
        result.put("training.batch_size", rows * steps, *used)
        result.questions["training.batch_size"] = (
            "rows of an update over all devices together: on how many devices did it run? Multiply by their number"
        )
        if steps > 1:
            result.put("training.micro_batch_size", rows, "per_device_train_batch_size")


def _training(flags: Flags, result: Translation) -> None:
    if (steps := flags.pop("max_steps", None)) and steps > 0:
        result.put("training.max_steps", steps, "max_steps")
    warmup, ratio = flags.pop("warmup_steps", None), flags.pop("warmup_ratio", None)
    if warmup or ratio:
        result.put("training.warmup_steps", warmup or ratio, "warmup_steps" if warmup else "warmup_ratio")
    if (norm := flags.pop("max_grad_norm", None)) is not None:
        result.put("training.max_grad_norm", norm or None, "max_grad_norm")
    schedule = flags.pop("lr_scheduler_type", None)
    if schedule in SCHEDULES:
        result.put("training.lr_scheduler", schedule, "lr_scheduler_type")
    elif schedule:
        result.left["lr_scheduler_type"] = f"{schedule}: training.lr_scheduler takes {', '.join(SCHEDULES)}"
    for flag in ("bf16", "fp16"):
        if flags.pop(flag, None):
            result.put("training.precision", flag, flag)
    order, by_length = flags.pop("train_sampling_strategy", None), flags.pop("group_by_length", None)
    if order in ("group_by_length", "random"):
        result.put("training.batching", "random" if order == "random" else "length", "train_sampling_strategy")
    elif by_length and not order:
        result.put("training.batching", "length", "group_by_length")
    if flags.get("optim") in ("adamw_torch", "adamw_torch_fused", "adamw_hf"):
        del flags["optim"]  # that is ours


def _every(flags: Flags, strategy: str, steps: str, key: str, result: Translation) -> None:
    used = [name for name in (strategy, steps) if flags.get(name)]
    when, number = flags.pop(strategy, None), flags.pop(steps, None)
    if when == "epoch":
        result.put(key, "epoch", strategy)
    elif isinstance(number, float) and 0 < number < 1 and when in ("steps", None):
        result.left[steps] = "a share of all updates; write a number of updates"
    elif when == "steps" or (when is None and number):
        result.put(key, int(number or DEFAULT_STEPS), *used)


def _evaluation(flags: Flags, result: Translation) -> None:
    strategy = "evaluation_strategy" if flags.get("evaluation_strategy") else "eval_strategy"
    _every(flags, strategy, "eval_steps", "evaluation.every", result)
    for name in ("evaluation_strategy", "eval_strategy"):
        flags.pop(name, None)
    flag = "metric_for_best_model" if flags.get("metric_for_best_model") else "metric_name"
    named = [flags.pop(name, None) for name in ("metric_for_best_model", "metric_name")]
    best = str(named[0] or named[1] or "").removeprefix("eval_")
    best = METRIC_NAMES.get(best, best)
    if best in METRICS:
        task = TASKS[result.values["task"][0]]
        if best not in (*task.metrics, "loss"):
            result.put("evaluation.metrics", [*task.metrics, best], flag)
        result.put("evaluation.metric_for_best", best, flag)
    elif best:
        result.left[flag] = f"{best} is not a metric here; evaluation.metric_for_best takes one of {', '.join(METRICS)}"


def _saving(flags: Flags, result: Translation) -> None:
    _every(flags, "save_strategy", "save_steps", "checkpointing.every", result)
    trackers = flags.pop("report_to", None)
    names = [trackers] if isinstance(trackers, str) else list(trackers or ())
    ours = [name for name in names if name in TRACKERS]
    if ours:
        result.put("tracking", ours, "report_to")
    if others := [str(name) for name in names if name not in ours and name not in NOTHING]:
        result.left["report_to"] = f"{', '.join(others)}: tracking takes {', '.join(TRACKERS)}"


def _hub(flags: Flags, result: Translation) -> None:
    repo_id, private = flags.pop("hub_model_id", None), flags.pop("hub_private_repo", None)
    push = flags.pop("push_to_hub", True if repo_id else None)
    if repo_id and push:
        result.put("hub.repo_id", repo_id, "hub_model_id")
        if private is not None:
            result.put("hub.private", private, "hub_private_repo")
    elif push:
        result.left["push_to_hub"] = "hub.repo_id has to say where to: user/name"
