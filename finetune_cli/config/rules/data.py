"""Rules about the data: columns, classes, splits."""

import os.path
from collections.abc import Iterator
from typing import Any

from finetune_cli.config.rules.mistake import Get, Mistake, column_list, mistake, repeats, with_choice
from finetune_cli.config.sections.data import WindowsConfig, as_long_texts
from finetune_cli.tasks import KIND_SPECS, SAMPLES, SPLIT_NAME, TASKS


def label_columns_fit_task(get: Get) -> Iterator[Mistake]:
    kind, columns = TASKS[get("task")].kind, get("data.label")
    if isinstance(columns, str):
        return
    if not KIND_SPECS[kind].several_labels:
        message = f"a list of columns is for task: multilabel, and this task is {kind}. Name one column"
        yield mistake("data.label", message)
    yield from repeats("data.label", columns)
    if get("data.labels"):
        yield mistake("data.labels", "the columns of data.label are the classes, in their order. Take this list out")


def class_names_are_unique(get: Get) -> Iterator[Mistake]:
    yield from repeats("data.labels", get("data.labels") or [], ". Each class has one name")


def columns_fit_task(get: Get) -> Iterator[Mistake]:
    task, columns = TASKS[get("task")], column_list(get("data.text"))
    if task.text and len(columns) != len(task.text):
        count = "a pair: two columns" if len(task.text) == 2 else "one column"
        yield mistake(
            "data.text", f"found {len(columns)}, and task {task.name} takes {count}, such as {list(task.text)}"
        )
    for label in column_list(get("data.label")):
        if label in columns:
            yield mistake("data.label", f"{label} is a text column too: the model would read the answer")
    if len(columns) == 2 and columns[0] == columns[1]:
        yield mistake("data.text", "a pair takes two different columns")


def truncation_fits_columns(get: Get) -> Iterator[Mistake]:
    if get("data.truncation") == "only_second" and len(column_list(get("data.text"))) == 1:
        message = "only_second needs two text columns, and data.text has one. Allowed: longest_first, error"
        yield mistake("data.truncation", message)


def long_texts_are_kept_in_one_way(get: Get) -> Iterator[Mistake]:
    chosen = as_long_texts(get("data.long_texts"))
    if not isinstance(chosen, dict):
        return
    named = [name for name in ("head_tail", "windows") if chosen.get(name) is not None]
    if len(named) != 1:
        found = "has head_tail and windows" if named else "has neither head_tail nor windows"
        yield mistake("data.long_texts", f"{found}. Name one of the two, such as {{windows: {{stride: 64}}}}")
    if (truncation := get("data.truncation")) != "longest_first":
        message = f"{truncation} is about rows that are cut, and data.long_texts says otherwise. Keep one of the two"
        yield mistake("data.truncation", message)


def windows_move_on(get: Get) -> Iterator[Mistake]:
    chosen, max_length = as_long_texts(get("data.long_texts")), get("data.max_length")
    if not isinstance(chosen, dict) or chosen.get("windows") is None or max_length is None:
        return
    stride = chosen["windows"].get("stride", WindowsConfig().stride)
    room = max_length - 1 - len(column_list(get("data.text")))  # most tokenizers add one token, and one for each text
    if stride >= room:
        found = f"neighbouring windows share {stride} tokens, and one has room for {room}: none would move on"
        command = f"-s 'data.long_texts={{windows: {{stride: {max(0, room // 2)}}}}}'"
        yield mistake("data.long_texts.windows.stride", f"{found}. Allowed: 0 to {room - 1}, such as {command}")


def splits_are_right(get: Get) -> Iterator[Mistake]:
    splits = get("data.splits") or {}
    fractions = 0.0
    for name, value in splits.items():
        if not SPLIT_NAME.fullmatch(name):
            hint = ". Write validation" if name in ("valid", "val", "dev", "eval") else ""
            message = f"is not a split. Allowed: train, validation, test, and names such as test_news{hint}"
            yield mistake("data.splits", message, name, at_key=True)
        elif isinstance(value, str | list | tuple):
            continue
        elif name == "train":
            message = "found a number. Allowed: a file; the fractions of the other splits are taken from train"
            yield mistake("data.splits", message, name)
        elif not 0 < value < 1:
            message = f"{value} is out of range. Allowed: a file, or a fraction of train between 0 and 1"
            yield mistake("data.splits", message, name)
        else:
            fractions += value
    if fractions >= 1:
        yield mistake("data.splits", f"the fractions add up to {fractions:g}, which leaves nothing of train")


def columns_are_named(get: Get) -> Iterator[Mistake]:
    """data.columns has what the other fields name."""
    columns = get("data.columns")
    if columns is None:
        return
    yield from repeats("data.columns", columns, ". Each column has one name")
    named = [
        *(("data.text", name, ()) for name in column_list(get("data.text"))),
        *(("data.label", name, ()) for name in column_list(get("data.label"))),
        *(("data.id", name, ()) for name in column_list(get("data.id") or [])),
        *(("evaluation.slices", name, (index,)) for index, name in enumerate(get("evaluation.slices"))),
    ]
    for key, name, inside in named:
        if name not in columns:
            yield mistake(key, with_choice(f"{name!r} is not in data.columns", name, list(columns)), *inside)


def homes_are_known(get: Get) -> Iterator[Mistake]:
    """A path that starts with ~ can be resolved."""
    splits = get("data.splits") or {}
    places = [
        *((key, get(key), ()) for key in ("output_dir", "model.name_or_path", "data.path")),
        *(("data.splits", place, (split,)) for split, value in splits.items() for place in _places(value)),
    ]
    for key, place, inside in places:
        if isinstance(place, str) and place.partition("/")[0] == "~" and os.path.expanduser(place) == place:
            message = f"{place}: HOME is not set. Write the whole path, or ./~ for a directory of that name"
            yield mistake(key, message, *inside)


def _places(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def split_seed_has_effect(get: Get) -> Iterator[Mistake]:
    splits = get("data.splits") or {}
    if get("data.split_seed") is not None and not any(isinstance(value, float) for value in splits.values()):
        yield mistake("data.split_seed", "nothing is drawn: data.splits has no fraction. Take it out")


def builtin_data_exists(get: Get) -> Iterator[Mistake]:
    path = get("data.path")
    if path.startswith("package:"):
        yield mistake("data.path", "package: names a model, not data. Allowed: Hub id, directory, file, builtin:NAME")
    if path.startswith("builtin:"):
        names = sorted(f"builtin:{sample.name}" for sample in SAMPLES.glob("[!_.]*") if sample.is_dir())
        if path not in names:
            yield mistake("data.path", with_choice(f"{path!r} is not a sample", path, names))
