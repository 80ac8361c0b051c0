"""Rules about the training: its updates, its loss, its loop, its seeds, trackers and learning curve."""

from collections.abc import Iterator
from itertools import pairwise

from finetune_cli.config.rules.mistake import SAME_RUN, Get, Mistake, evaluates_once, mistake, repeats
from finetune_cli.config.trainer_args import PASSED, argument_problem
from finetune_cli.tasks import KIND_SPECS, TASKS


def micro_batch_fits(get: Get) -> Iterator[Mistake]:
    micro, batch = get("training.micro_batch_size"), get("training.batch_size")
    if micro != "auto" and micro > batch:
        message = f"{micro} is more than training.batch_size ({batch}). Allowed: auto, or at most the batch size"
        yield mistake("training.micro_batch_size", message)


def micro_batch_tokens_fit(get: Get) -> Iterator[Mistake]:
    key = "training.micro_batch_tokens"
    tokens = get(key)
    if tokens is None:
        return
    if get("training.micro_batch_size") != "auto":
        yield mistake(key, "training.micro_batch_size says so by rows. Keep one of the two")
    if get("training.compile"):
        yield mistake(key, "does not go with training.compile: shapes would be ever new. Keep one of the two")
    longest = get("data.max_length")
    if longest is not None and tokens < longest:
        message = f"{tokens} is less than one row may have (data.max_length: {longest}). Allowed: from {longest}"
        yield mistake(key, message)


def packing_has_effect(get: Get) -> Iterator[Mistake]:
    if not get("training.packing"):
        return
    if get("training.compile"):
        message = "does not go with training.compile: packed rows have ever new shapes. Keep one of the two"
        yield mistake("training.packing", message)
    if get("data.padding") == "max_length":
        message = "takes out the padding that data.padding: max_length asks for. Keep one of the two"
        yield mistake("training.packing", message)


def warmup_is_used(get: Get) -> Iterator[Mistake]:
    warmup, scheduler = get("training.warmup_steps"), get("training.lr_scheduler")
    if warmup and scheduler == "constant":
        message = "the constant schedule has no warm-up. Use training.lr_scheduler: constant_with_warmup, or 0"
        yield mistake("training.warmup_steps", message)
    max_steps = get("training.max_steps")
    if max_steps is not None and warmup >= max_steps:
        message = f"{warmup} is not below training.max_steps ({max_steps}), so the learning rate never gets there"
        yield mistake("training.warmup_steps", message)


def early_stopping_has_effect(get: Get) -> Iterator[Mistake]:
    if get("training.early_stopping") is None:
        return
    if get("evaluation.metric_for_best") is None:
        message = (
            "needs a metric that can get worse, and evaluation.metric_for_best is null. Name one, or leave this out"
        )
        yield mistake("training.early_stopping", message)
    if evaluates_once(get):
        message = (
            "needs evaluations to compare, and this run has one, at its end. Set evaluation.every to fewer updates, or "
            "take it out: training.early_stopping=null"
        )
        yield mistake("training.early_stopping", message)


def trainer_args_have_effect(get: Get) -> Iterator[Mistake]:
    arguments, loop = get("training.trainer_args"), get("training.loop")
    if arguments and loop == "accelerate":
        message = "only training.loop: trainer can honour these. Take them out, or use that loop"
        yield mistake("training.trainer_args", message)


def trainer_args_are_right(get: Get) -> Iterator[Mistake]:
    for name, value in get("training.trainer_args").items():
        message = argument_problem(name, value)
        if message:
            yield mistake("training.trainer_args", message, name, at_key=name not in PASSED)


def loss_fits_task(get: Get) -> Iterator[Mistake]:
    if KIND_SPECS[TASKS[get("task")].kind].has_classes:
        if get("training.focal_gamma") and get("training.label_smoothing"):
            message = "does not go with training.focal_gamma, which is about one true class. Keep one of the two"
            yield mistake("training.label_smoothing", message)
        return
    for key in ("training.label_smoothing", "training.class_weights", "training.focal_gamma", "data.labels"):
        if get(key):
            yield mistake(key, "a regression has no classes. Take it out")


def _named_classes(get: Get) -> list[str] | None:
    """The classes as the config names them; None where the data tell."""
    columns = get("data.label")
    return get("data.labels") or (None if isinstance(columns, str) else list(columns))


def class_weights_name_classes(get: Get) -> Iterator[Mistake]:
    weights, labels = get("training.class_weights"), _named_classes(get)
    if isinstance(weights, dict) and labels:
        for name in weights:
            if name not in labels:
                yield mistake(
                    "training.class_weights", f"is not a class. Allowed: {', '.join(labels)}", name, at_key=True
                )


def seeds_differ(get: Get) -> Iterator[Mistake]:
    yield from repeats("training.seeds", get("training.seeds") or [], SAME_RUN)


def trackers_differ(get: Get) -> Iterator[Mistake]:
    yield from repeats("tracking", get("tracking"), shown=str)


def shares_rise(get: Get) -> Iterator[Mistake]:
    shares = get("training.learning_curve") or []
    for index, (share, next_share) in enumerate(pairwise(shares), start=1):
        if next_share <= share:
            problem = "is there twice" if next_share == share else f"comes after {share:g}"
            message = f"{next_share:g} {problem}. Write the shares in rising order, such as [0.1, 0.2, 0.4, 0.7, 1]"
            yield mistake("training.learning_curve", message, index)


def learning_curve_goes_without(get: Get) -> Iterator[Mistake]:
    if not get("training.learning_curve"):
        return
    folds = get("data.folds")
    if folds is not None and (isinstance(folds, int) or not isinstance(folds.get("fold"), int)):
        message = "all runs of training.learning_curve are scored on the same rows. Take one fold: data.folds.fold: 1"
        yield mistake("data.folds", message, at_key=True)
    if get("data.share") is not None:
        yield mistake("data.share", "training.learning_curve sets it for each run. Take it out", at_key=True)
    if get("sweep") is not None:
        message = "a sweep trains each setting on all rows. Take this out, or the section sweep"
        yield mistake("training.learning_curve", message)
    if get("hub") is not None:
        message = (
            "training.learning_curve makes several models, and a repository holds one. Take it out; upload the run of "
            "your choice later: finetune train OUTPUT_DIR/share-1/config.yaml -s hub.repo_id=user/name"
        )
        yield mistake("hub", message, at_key=True)
