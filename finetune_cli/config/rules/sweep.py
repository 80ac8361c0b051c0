"""Rules about the sweep: what can be searched, and how."""

from collections.abc import Iterator
from typing import Any

from finetune_cli.config.rules.mistake import SAME_RUN, Get, Mistake, evaluates_once, mistake, repeats
from finetune_cli.config.search import choice_problems, seconds, setting_problem


def _parameters(get: Get) -> dict[str, Any]:
    """What is searched, also where other keys of the section are wrong; empty without a search."""
    parameters = get("sweep.parameters")
    return parameters if isinstance(parameters, dict) else {}


def searched_settings_can_be(get: Get) -> Iterator[Mistake]:
    parameters = _parameters(get)
    for key, choice in parameters.items():
        if problem := setting_problem(key):
            yield mistake("sweep.parameters", problem, key, at_key=True)
            continue
        for place, problem in choice_problems(key, choice):
            yield mistake("sweep.parameters", problem, key, *place)
        if outer := [other for other in parameters if key.startswith(f"{other}.")]:
            message = f"is part of {outer[0]}, which is searched too. Keep one of the two"
            yield mistake("sweep.parameters", message, key, at_key=True)


def searched_settings_act(get: Get) -> Iterator[Mistake]:
    parameters = _parameters(get)
    if "training.num_epochs" in parameters and (
        "training.max_steps" in parameters or get("training.max_steps") is not None
    ):
        message = "training.max_steps takes its place, so it changes nothing. Keep one of the two"
        yield mistake("sweep.parameters", message, "training.num_epochs", at_key=True)
    if "model.name_or_path" in parameters and get("model.from_scratch") is not None:
        message = "model.from_scratch makes a new model. Take that out to search among pretrained ones"
        yield mistake("sweep.parameters", message, "model.name_or_path", at_key=True)


def sweep_ends(get: Get) -> Iterator[Mistake]:
    if get("sweep") is None:
        return
    trials, time, sampler = get("sweep.trials"), get("sweep.time"), get("sweep.sampler")
    if trials is None and time is None and sampler != "grid":
        yield mistake("sweep", "says not when to end. Set sweep.trials: 20, or sweep.time: 2h", at_key=True)
    if time is not None and seconds(time) is None:
        yield mistake("sweep.time", f"{time!r} is no time. Allowed: such as 2h, 90m or 1h30m")
    if get("sweep.seeds") and trials is not None and get("sweep.finalists") > trials:
        yield mistake("sweep.finalists", f"{get('sweep.finalists')} is more than sweep.trials ({trials})")
    yield from repeats("sweep.seeds", get("sweep.seeds") or [], SAME_RUN)


def grid_is_finite(get: Get) -> Iterator[Mistake]:
    parameters = _parameters(get)
    if not parameters or get("sweep.sampler") != "grid":
        return
    for key, choice in parameters.items():
        if isinstance(choice, dict) and choice.get("step") is None:
            yield mistake("sweep.parameters", "a grid takes a list of values, or a range with a step", key)


def pruner_can_act(get: Get) -> Iterator[Mistake]:
    if get("sweep") is None or get("sweep.pruner") == "none":
        return
    if get("data.folds") is not None:
        yield mistake("sweep.pruner", "trials with data.folds are judged when all folds are done. Write none")
    elif evaluates_once(get):
        message = "needs evaluations to compare, and a trial has one, at its end. Set evaluation.every to fewer updates"
        yield mistake("sweep.pruner", message)


def sweep_goes_without(get: Get) -> Iterator[Mistake]:
    if get("sweep") is None:
        return
    if get("training.seeds"):
        message = "a sweep trains each setting once, and the best of them with sweep.seeds. Take it out"
        yield mistake("training.seeds", message)
    folds = get("data.folds")
    if folds is not None and get("sweep.seeds"):
        message = "does not go with data.folds, which trains each setting several times. Set data.folds.repeats instead"
        yield mistake("sweep.seeds", message)
    if isinstance(folds, dict) and folds.get("fold") == "final":
        yield mistake("data.folds.fold", "a final model has no scores of its own to search by. Take it out")
