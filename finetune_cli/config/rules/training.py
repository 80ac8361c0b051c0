"""Rules about the training: its updates, its loss, its loop, its seeds and trackers."""

from collections.abc import Iterator

from finetune_cli.config.rules.mistake import Get, Mistake
from finetune_cli.config.trainer_args import PASSED, argument_problem
from finetune_cli.tasks import KIND_SPECS, TASKS


def micro_batch_fits(get: Get) -> Iterator[Mistake]:
    micro, batch = get("training.micro_batch_size"), get("training.batch_size")
    if micro != "auto" and micro > batch:
        message = f"{micro} is more than training.batch_size ({batch}). Allowed: auto, or at most the batch size"
        yield Mistake(("training", "micro_batch_size"), message)


def micro_batch_tokens_fit(get: Get) -> Iterator[Mistake]:
    tokens, path = get("training.micro_batch_tokens"), ("training", "micro_batch_tokens")
    if tokens is None:
        return
    if get("training.micro_batch_size") != "auto":
        yield Mistake(path, "training.micro_batch_size says so by rows. Keep one of the two")
    if get("training.compile"):
        yield Mistake(path, "does not go with training.compile: shapes would be ever new. Keep one of the two")
    longest = get("data.max_length")
    if longest is not None and tokens < longest:
        message = f"{tokens} is less than one row may have (data.max_length: {longest}). Allowed: from {longest}"
        yield Mistake(path, message)


def packing_has_effect(get: Get) -> Iterator[Mistake]:
    if not get("training.packing"):
        return
    if get("training.compile"):
        message = "does not go with training.compile: packed rows have ever new shapes. Keep one of the two"
        yield Mistake(("training", "packing"), message)
    if get("data.padding") == "max_length":
        message = "takes out the padding that data.padding: max_length asks for. Keep one of the two"
        yield Mistake(("training", "packing"), message)


def warmup_is_used(get: Get) -> Iterator[Mistake]:
    warmup, scheduler = get("training.warmup_steps"), get("training.lr_scheduler")
    if warmup and scheduler == "constant":
        message = "the constant schedule has no warm-up. Use training.lr_scheduler: constant_with_warmup, or 0"
        yield Mistake(("training", "warmup_steps"), message)
    max_steps = get("training.max_steps")
    if max_steps is not None and warmup >= max_steps:
        message = f"{warmup} is not below training.max_steps ({max_steps}), so the learning rate never gets there"
        yield Mistake(("training", "warmup_steps"), message)


def early_stopping_has_effect(get: Get) -> Iterator[Mistake]:
    stopping, every, max_steps = get("training.early_stopping"), get("evaluation.every"), get("training.max_steps")
    if stopping is None:
        return
    if get("evaluation.metric_for_best") is None:
        message = (
            "needs a metric that can get worse, and evaluation.metric_for_best is null. Name one, or leave this out"
        )
        yield Mistake(("training", "early_stopping"), message)
    one_epoch = every == "epoch" and max_steps is None and get("training.num_epochs") <= 1
    one_round = every != "epoch" and max_steps is not None and every >= max_steps
    if one_epoch or one_round:
        message = (
            "needs evaluations to compare, and this run has one, at its end. Set evaluation.every to fewer updates, or "
            "take it out: training.early_stopping=null"
        )
        yield Mistake(("training", "early_stopping"), message)


def trainer_args_have_effect(get: Get) -> Iterator[Mistake]:
    arguments, loop = get("training.trainer_args"), get("training.loop")
    if arguments and loop == "accelerate":
        message = "only training.loop: trainer can honour these. Take them out, or use that loop"
        yield Mistake(("training", "trainer_args"), message)


def trainer_args_are_right(get: Get) -> Iterator[Mistake]:
    for name, value in get("training.trainer_args").items():
        message = argument_problem(name, value)
        if message:
            yield Mistake(("training", "trainer_args", name), message, at_key=name not in PASSED)


def loss_fits_task(get: Get) -> Iterator[Mistake]:
    if KIND_SPECS[TASKS[get("task")].kind].has_classes:
        if get("training.focal_gamma") and get("training.label_smoothing"):
            message = "does not go with training.focal_gamma, which is about one true class. Keep one of the two"
            yield Mistake(("training", "label_smoothing"), message)
        return
    for key in ("label_smoothing", "class_weights", "focal_gamma"):
        if get(f"training.{key}"):
            yield Mistake(("training", key), "a regression has no classes. Take it out")
    if get("data.labels"):
        yield Mistake(("data", "labels"), "a regression has no classes. Take it out")


def _named_classes(get: Get) -> list[str] | None:
    """The classes as the config names them; None where the data tell."""
    columns = get("data.label")
    return get("data.labels") or (None if isinstance(columns, str) else list(columns))


def class_weights_name_classes(get: Get) -> Iterator[Mistake]:
    weights, labels = get("training.class_weights"), _named_classes(get)
    if isinstance(weights, dict) and labels:
        for name in weights:
            if name not in labels:
                yield Mistake(
                    ("training", "class_weights", name), f"is not a class. Allowed: {', '.join(labels)}", at_key=True
                )


def seeds_differ(get: Get) -> Iterator[Mistake]:
    seeds = get("training.seeds") or []
    for index, seed in enumerate(seeds):
        if seed in seeds[:index]:
            yield Mistake(("training", "seeds", index), f"{seed} is in the list twice: it would be the same run again")


def trackers_differ(get: Get) -> Iterator[Mistake]:
    names = get("tracking")
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Mistake(("tracking", index), f"{name} is in the list twice")
