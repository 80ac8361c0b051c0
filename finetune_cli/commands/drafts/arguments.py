"""The arguments of run_glue.py and TrainingArguments in the words of our config, each with the flag it comes from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt")
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
    done: set[str] = set()
    for step in (_task, _data, _batch, _training, _evaluation, _saving, _hub):
        done |= step(flags, result)
    for name, value in flags.items():
        if name in done or name in FILES:
            continue
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


Step = Callable[[Mapping[str, Any], Translation], set[str]]


def _task(flags: Mapping[str, Any], result: Translation) -> set[str]:
    name = flags.get("task_name")
    if isinstance(name, str) and name.lower() in TASKS:
        result.put("task", name.lower(), "task_name")
    elif flags.get("do_regression"):
        result.put("task", "regression", "do_regression")
    else:
        result.values["task"] = (
            "classification",
            "task_name is not given, so the labels are classes or numbers of yours",
        )
        result.questions["task"] = "are the labels numbers to predict? Then write regression"
    return {"task_name", "do_regression"}


def _data(flags: Mapping[str, Any], result: Translation) -> set[str]:
    named = {split: flags[flag] for flag, split in FILES.items() if flags.get(flag)}
    if named.get("train"):
        result.put("data.path", named["train"], "train_file")
        rest = {split: file for split, file in named.items() if split != "train"}
        if rest:
            result.put("data.splits", rest, *[flag for flag, split in FILES.items() if split in rest])
    elif theirs := {split: flags[flag] for flag, split in HUB_SPLITS.items() if flags.get(flag)}:
        result.put("data.splits", theirs, *[flag for flag in HUB_SPLITS if flags.get(flag)])
    if columns := flags.get("text_column_names"):
        listed = columns.split(",") if isinstance(columns, str) else list(columns)
        result.put("data.text", [name.strip() for name in listed], "text_column_names")
    if flags.get("pad_to_max_length") is not None:
        result.put("data.padding", "max_length" if flags["pad_to_max_length"] else "dynamic", "pad_to_max_length")
    if flags.get("max_train_samples"):
        result.put("data.limit", flags["max_train_samples"], "max_train_samples")
        result.questions["data.limit"] = "this cuts the validation rows as well; is that what you want?"
    return {*FILES, *HUB_SPLITS, "text_column_names", "pad_to_max_length", "max_train_samples"}


def _batch(flags: Mapping[str, Any], result: Translation) -> set[str]:
    rows, steps = flags.get("per_device_train_batch_size"), flags.get("gradient_accumulation_steps") or 1
    used = [name for name in ("per_device_train_batch_size", "gradient_accumulation_steps") if flags.get(name)]
    if used and isinstance(steps, int) and isinstance(rows or 8, int):
        result.put("training.batch_size", (rows or 8) * steps, *used)
        result.questions["training.batch_size"] = (
            "rows of an update over all devices together: on how many devices did it run? Multiply by their number"
        )
        if steps > 1:
            result.put("training.micro_batch_size", rows or 8, "per_device_train_batch_size")
    return {"per_device_train_batch_size", "gradient_accumulation_steps"}


def _training(flags: Mapping[str, Any], result: Translation) -> set[str]:
    if (steps := flags.get("max_steps")) and steps > 0:
        result.put("training.max_steps", steps, "max_steps")
    if flags.get("warmup_steps"):
        result.put("training.warmup_steps", flags["warmup_steps"], "warmup_steps")
    elif flags.get("warmup_ratio"):
        result.put("training.warmup_steps", flags["warmup_ratio"], "warmup_ratio")
    if (norm := flags.get("max_grad_norm")) is not None:
        result.put("training.max_grad_norm", norm or None, "max_grad_norm")
    schedule = flags.get("lr_scheduler_type")
    if schedule in SCHEDULES:
        result.put("training.lr_scheduler", schedule, "lr_scheduler_type")
    elif schedule:
        result.left["lr_scheduler_type"] = f"{schedule}: training.lr_scheduler takes {', '.join(SCHEDULES)}"
    for flag in ("bf16", "fp16"):
        if flags.get(flag):
            result.put("training.precision", flag, flag)
    order = flags.get("train_sampling_strategy") or ("group_by_length" if flags.get("group_by_length") else None)
    if order in ("group_by_length", "random"):
        flag = "train_sampling_strategy" if flags.get("train_sampling_strategy") else "group_by_length"
        result.put("training.batching", "length" if order == "group_by_length" else "random", flag)
    ours = {"adamw_torch", "adamw_torch_fused", "adamw_hf"}
    done = {"max_steps", "warmup_steps", "warmup_ratio", "max_grad_norm", "lr_scheduler_type", "bf16", "fp16"}
    done |= {"train_sampling_strategy", "group_by_length"}
    return done | ({"optim"} if flags.get("optim") in ours else set())


def _every(flags: Mapping[str, Any], strategy: str, steps: str, key: str, result: Translation) -> None:
    found = flags.get(strategy)
    if found == "epoch":
        result.put(key, "epoch", strategy)
    elif found == "steps" or (found is None and flags.get(steps)):
        number = flags.get(steps) or DEFAULT_STEPS
        if isinstance(number, float) and 0 < number < 1:
            result.left[steps] = "a share of all updates; write a number of updates"
        else:
            result.put(key, int(number), *[name for name in (strategy, steps) if flags.get(name)])


def _evaluation(flags: Mapping[str, Any], result: Translation) -> set[str]:
    strategy = "evaluation_strategy" if flags.get("evaluation_strategy") else "eval_strategy"
    _every(flags, strategy, "eval_steps", "evaluation.every", result)
    best = str(flags.get("metric_for_best_model") or flags.get("metric_name") or "").removeprefix("eval_")
    best = METRIC_NAMES.get(best, best)
    flag = "metric_for_best_model" if flags.get("metric_for_best_model") else "metric_name"
    if best in METRICS:
        task = TASKS[result.values["task"][0]]
        if best not in (*task.metrics, "loss"):
            result.put("evaluation.metrics", [*task.metrics, best], flag)
        result.put("evaluation.metric_for_best", best, flag)
    elif best:
        result.left[flag] = f"{best} is not a metric here; evaluation.metric_for_best takes one of {', '.join(METRICS)}"
    return {"evaluation_strategy", "eval_strategy", "eval_steps", "metric_for_best_model", "metric_name"}


def _saving(flags: Mapping[str, Any], result: Translation) -> set[str]:
    _every(flags, "save_strategy", "save_steps", "checkpointing.every", result)
    trackers = flags.get("report_to")
    names = [trackers] if isinstance(trackers, str) else list(trackers or ())
    known = [name for name in names if name in ("tensorboard", "wandb", "mlflow", "trackio")]
    if known:
        result.put("tracking", known, "report_to")
    if others := [str(name) for name in names if name not in known and name not in NOTHING]:
        result.left["report_to"] = f"{', '.join(others)}: tracking takes tensorboard, wandb, mlflow, trackio"
    return {"save_strategy", "save_steps", "report_to"}


def _hub(flags: Mapping[str, Any], result: Translation) -> set[str]:
    if flags.get("hub_model_id") and flags.get("push_to_hub", True):
        result.put("hub.repo_id", flags["hub_model_id"], "hub_model_id")
        if flags.get("hub_private_repo") is not None:
            result.put("hub.private", flags["hub_private_repo"], "hub_private_repo")
    elif flags.get("push_to_hub"):
        result.left["push_to_hub"] = "hub.repo_id has to say where to: user/name"
    return {"hub_model_id", "hub_private_repo", "push_to_hub"}
