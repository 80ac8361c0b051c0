"""Rules between fields, and rules that a type cannot say. Each yields (key path, message) for what it finds wrong.

The rules run on the plain values, also when other fields are wrong: `get` ends a rule, without a word, when a value it
asks for is among those already reported.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from finetune_cli.config_messages import did_you_mean
from finetune_cli.tasks import EVALUATE_PREFIX, METRICS, TASKS, metric_problem, metrics_for
from finetune_cli.trainer_args import PASSED, argument_problem
from finetune_cli.yaml_source import KeyPath

Get = Callable[[str], Any]

SAMPLES = Path(__file__).parent / "samples"
SPLIT_NAME = re.compile(r"train|(validation|test)(_\w+)?")


class Finding(NamedTuple):
    """A mistake: where, in words, and whether the key itself is wrong rather than its value."""

    path: KeyPath
    message: str
    at_key: bool = False


class Unusable(Exception):
    """A rule asked for a value that is reported as wrong already."""


def _columns(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def micro_batch_fits(get: Get) -> Iterator[Finding]:
    micro, batch = get("training.micro_batch_size"), get("training.batch_size")
    if micro != "auto" and micro > batch:
        message = f"{micro} is more than training.batch_size ({batch}). Allowed: auto, or at most the batch size"
        yield Finding(("training", "micro_batch_size"), message)


def warmup_is_used(get: Get) -> Iterator[Finding]:
    warmup, scheduler = get("training.warmup_steps"), get("training.lr_scheduler")
    if warmup and scheduler == "constant":
        message = "the constant schedule has no warm-up. Use training.lr_scheduler: constant_with_warmup, or 0"
        yield Finding(("training", "warmup_steps"), message)
    max_steps = get("training.max_steps")
    if max_steps is not None and warmup >= max_steps:
        message = f"{warmup} is not below training.max_steps ({max_steps}), so the learning rate never gets there"
        yield Finding(("training", "warmup_steps"), message)


def early_stopping_can_act(get: Get) -> Iterator[Finding]:
    stopping, every, max_steps = get("training.early_stopping"), get("evaluation.every"), get("training.max_steps")
    if stopping is None:
        return
    one_epoch = every == "epoch" and max_steps is None and get("training.num_epochs") <= 1
    one_round = every != "epoch" and max_steps is not None and every >= max_steps
    if one_epoch or one_round:
        message = (
            "needs evaluations to compare, and this run has one, at its end. Set evaluation.every to fewer updates"
        )
        yield Finding(("training", "early_stopping"), message)


def trainer_args_are_honoured(get: Get) -> Iterator[Finding]:
    arguments, loop = get("training.trainer_args"), get("training.loop")
    if arguments and loop == "accelerate":
        message = "only training.loop: trainer can honour these. Take them out, or use that loop"
        yield Finding(("training", "trainer_args"), message)


def trainer_args_are_right(get: Get) -> Iterator[Finding]:
    for name, value in get("training.trainer_args").items():
        message = argument_problem(name, value)
        if message:
            yield Finding(("training", "trainer_args", name), message, at_key=name not in PASSED)


def loss_fits_task(get: Get) -> Iterator[Finding]:
    if TASKS[get("task")].kind != "regression":
        return
    for key in ("label_smoothing", "class_weights"):
        if get(f"training.{key}"):
            yield Finding(("training", key), "a regression has no classes. Take it out")
    if get("data.labels"):
        yield Finding(("data", "labels"), "a regression has no classes. Take it out")


def class_weights_name_classes(get: Get) -> Iterator[Finding]:
    weights, labels = get("training.class_weights"), get("data.labels")
    if isinstance(weights, dict) and labels:
        for name in weights:
            if name not in labels:
                yield Finding(
                    ("training", "class_weights", name), f"is not a class. Allowed: {', '.join(labels)}", at_key=True
                )


def class_names_are_unique(get: Get) -> Iterator[Finding]:
    labels = get("data.labels") or []
    for index, name in enumerate(labels):
        if name in labels[:index]:
            yield Finding(("data", "labels", index), f"{name!r} is in the list twice. Each class has one name")


def metrics_fit_task(get: Get) -> Iterator[Finding]:
    kind, names = TASKS[get("task")].kind, get("evaluation.metrics")
    labels = get("data.labels")
    num_classes = len(labels) if labels else None
    for index, name in enumerate(names):
        problem = metric_problem(name, kind, num_classes)
        if problem:
            yield Finding(("evaluation", "metrics", index), _with_choice(problem, name, metrics_for(kind, num_classes)))
        elif name in names[:index]:
            yield Finding(("evaluation", "metrics", index), f"{name} is in the list twice")


def best_metric_is_computed(get: Get) -> Iterator[Finding]:
    names, best = get("evaluation.metrics"), get("evaluation.metric_for_best")
    if best.startswith(EVALUATE_PREFIX):
        message = "whether more is better is not known of this one. Allowed: a metric of the package, or loss"
        yield Finding(("evaluation", "metric_for_best"), message)
    elif best not in (*names, "loss"):
        problem = f"{best!r} is not among evaluation.metrics"
        yield Finding(("evaluation", "metric_for_best"), _with_choice(problem, best, [*names, "loss"]))


def _with_choice(problem: str, name: str, allowed: list[str]) -> str:
    hint = "" if name in METRICS else did_you_mean(name, allowed)
    return f"{problem}. Allowed: {', '.join(allowed)}{hint}"


def columns_fit_task(get: Get) -> Iterator[Finding]:
    task, columns = TASKS[get("task")], _columns(get("data.text"))
    if task.text and len(columns) != len(task.text):
        count = "a pair: two columns" if len(task.text) == 2 else "one column"
        yield Finding(
            ("data", "text"), f"found {len(columns)}, and task {task.name} takes {count}, such as {list(task.text)}"
        )
    if get("data.label") in columns:
        yield Finding(("data", "label"), f"{get('data.label')} is a text column too: the model would read the answer")
    if len(columns) == 2 and columns[0] == columns[1]:
        yield Finding(("data", "text"), "a pair takes two different columns")


def truncation_fits_columns(get: Get) -> Iterator[Finding]:
    if get("data.truncation") == "only_second" and len(_columns(get("data.text"))) == 1:
        message = "only_second needs two text columns, and data.text has one. Allowed: longest_first, error"
        yield Finding(("data", "truncation"), message)


def splits_are_right(get: Get) -> Iterator[Finding]:
    splits = get("data.splits") or {}
    fractions = 0.0
    for name, value in splits.items():
        path = ("data", "splits", name)
        if not SPLIT_NAME.fullmatch(name):
            hint = ". Write validation" if name in ("valid", "val", "dev", "eval") else ""
            message = f"is not a split. Allowed: train, validation, test, and names such as test_news{hint}"
            yield Finding(path, message, at_key=True)
        elif isinstance(value, str):
            continue
        elif name == "train":
            yield Finding(
                path, "found a number. Allowed: a file; the fractions of the other splits are taken from train"
            )
        elif not 0 < value < 1:
            yield Finding(path, f"{value} is out of range. Allowed: a file, or a fraction of train between 0 and 1")
        else:
            fractions += value
    if fractions >= 1:
        yield Finding(("data", "splits"), f"the fractions add up to {fractions:g}, which leaves nothing of train")


def model_is_named_once(get: Get) -> Iterator[Finding]:
    name, from_scratch = get("model.name_or_path"), get("model.from_scratch")
    if name is None and from_scratch is None:
        message = "is missing. Allowed: a Hub id such as bert-base-uncased, a directory, or package:NAME/FOLDER"
        yield Finding(("model", "name_or_path"), message)
    if name is not None and from_scratch is not None:
        message = "model.name_or_path is there too. Keep one of the two (-s model.from_scratch=null drops this one)"
        yield Finding(("model", "from_scratch"), message)
    if from_scratch is not None and get("model.revision") is not None:
        yield Finding(("model", "revision"), "model.from_scratch has no revision. Take it out")


def from_scratch_sizes_fit(get: Get) -> Iterator[Finding]:
    if get("model.from_scratch") is None:
        return
    hidden, heads = get("model.from_scratch.hidden_size"), get("model.from_scratch.num_attention_heads")
    if hidden % heads:
        yield Finding(
            ("model", "from_scratch", "hidden_size"), f"{hidden} is not a multiple of num_attention_heads ({heads})"
        )
    longest, positions = get("data.max_length"), get("model.from_scratch.max_position_embeddings")
    if longest is not None and longest > positions:
        message = f"{longest} is more than model.from_scratch.max_position_embeddings ({positions})"
        yield Finding(("data", "max_length"), message)


def places_are_written_right(get: Get) -> Iterator[Finding]:
    name = get("model.name_or_path")
    if name is not None and name.startswith("package:") and not re.fullmatch(r"package:[A-Za-z_][\w.]*/[^/].*", name):
        yield Finding(("model", "name_or_path"), f"{name!r} is not of the form package:NAME/FOLDER")
    if name is not None and name.startswith("builtin:"):
        yield Finding(
            ("model", "name_or_path"),
            "builtin: names data, not a model. Use model.from_scratch, or package:NAME/FOLDER",
        )


def builtin_data_exists(get: Get) -> Iterator[Finding]:
    path = get("data.path")
    if path.startswith("package:"):
        yield Finding(
            ("data", "path"), "package: names a model, not data. Allowed: Hub id, directory, file, builtin:NAME"
        )
    if path.startswith("builtin:"):
        names = sorted(f"builtin:{sample.name}" for sample in SAMPLES.glob("[!_.]*") if sample.is_dir())
        if path not in names:
            yield Finding(("data", "path"), _with_choice(f"{path!r} is not a sample", path, names))


RULES = (
    micro_batch_fits,
    warmup_is_used,
    early_stopping_can_act,
    trainer_args_are_honoured,
    trainer_args_are_right,
    loss_fits_task,
    class_weights_name_classes,
    class_names_are_unique,
    metrics_fit_task,
    best_metric_is_computed,
    columns_fit_task,
    truncation_fits_columns,
    splits_are_right,
    model_is_named_once,
    from_scratch_sizes_fit,
    places_are_written_right,
    builtin_data_exists,
)
