"""Rules about the sweep: what can be searched, and how."""

from collections.abc import Iterator
from typing import Any

from finetune_cli.config.rules.mistake import Get, Mistake
from finetune_cli.config.search import choice_problems, seconds, setting_problem


def _parameters(get: Get) -> dict[str, Any]:
    """What is searched, also where other keys of the section are wrong; empty without a search."""
    parameters = get("sweep.parameters")
    return parameters if isinstance(parameters, dict) else {}


def searched_settings_can_be(get: Get) -> Iterator[Mistake]:
    parameters = _parameters(get)
    for key, choice in parameters.items():
        path = ("sweep", "parameters", key)
        if problem := setting_problem(key):
            yield Mistake(path, problem, at_key=True)
            continue
        for place, problem in choice_problems(key, choice):
            yield Mistake((*path, *place), problem)
        if outer := [other for other in parameters if key.startswith(f"{other}.")]:
            yield Mistake(path, f"is part of {outer[0]}, which is searched too. Keep one of the two", at_key=True)


def searched_settings_act(get: Get) -> Iterator[Mistake]:
    parameters = _parameters(get)
    if "training.num_epochs" in parameters and (
        "training.max_steps" in parameters or get("training.max_steps") is not None
    ):
        message = "training.max_steps takes its place, so it changes nothing. Keep one of the two"
        yield Mistake(("sweep", "parameters", "training.num_epochs"), message, at_key=True)
    if "model.name_or_path" in parameters and get("model.from_scratch") is not None:
        message = "model.from_scratch makes a new model. Take that out to search among pretrained ones"
        yield Mistake(("sweep", "parameters", "model.name_or_path"), message, at_key=True)


def sweep_ends(get: Get) -> Iterator[Mistake]:
    if get("sweep") is None:
        return
    trials, time, sampler = get("sweep.trials"), get("sweep.time"), get("sweep.sampler")
    if trials is None and time is None and sampler != "grid":
        yield Mistake(("sweep",), "says not when to end. Set sweep.trials: 20, or sweep.time: 2h", at_key=True)
    if time is not None and seconds(time) is None:
        yield Mistake(("sweep", "time"), f"{time!r} is no time. Allowed: such as 2h, 90m or 1h30m")
    if get("sweep.seeds") and trials is not None and get("sweep.finalists") > trials:
        message = f"{get('sweep.finalists')} is more than sweep.trials ({trials})"
        yield Mistake(("sweep", "finalists"), message)
    seeds = get("sweep.seeds") or []
    for index, seed in enumerate(seeds):
        if seed in seeds[:index]:
            yield Mistake(("sweep", "seeds", index), f"{seed} is in the list twice: it would be the same run again")


def grid_is_finite(get: Get) -> Iterator[Mistake]:
    parameters = _parameters(get)
    if not parameters or get("sweep.sampler") != "grid":
        return
    for key, choice in parameters.items():
        if isinstance(choice, dict) and choice.get("step") is None:
            message = "a grid takes a list of values, or a range with a step"
            yield Mistake(("sweep", "parameters", key), message)


def pruner_can_act(get: Get) -> Iterator[Mistake]:
    if get("sweep") is None or get("sweep.pruner") == "none":
        return
    every, max_steps = get("evaluation.every"), get("training.max_steps")
    one_epoch = every == "epoch" and max_steps is None and get("training.num_epochs") <= 1
    one_round = every != "epoch" and max_steps is not None and every >= max_steps
    if get("data.folds") is not None:
        yield Mistake(("sweep", "pruner"), "trials with data.folds are judged when all folds are done. Write none")
    elif one_epoch or one_round:
        message = "needs evaluations to compare, and a trial has one, at its end. Set evaluation.every to fewer updates"
        yield Mistake(("sweep", "pruner"), message)


def sweep_goes_without(get: Get) -> Iterator[Mistake]:
    if get("sweep") is None:
        return
    if get("training.seeds"):
        message = "a sweep trains each setting once, and the best of them with sweep.seeds. Take it out"
        yield Mistake(("training", "seeds"), message)
    folds = get("data.folds")
    if folds is not None and get("sweep.seeds"):
        message = "does not go with data.folds, which trains each setting several times. Set data.folds.repeats instead"
        yield Mistake(("sweep", "seeds"), message)
    if isinstance(folds, dict) and folds.get("fold") == "final":
        yield Mistake(("data", "folds", "fold"), "a final model has no scores of its own to search by. Take it out")
