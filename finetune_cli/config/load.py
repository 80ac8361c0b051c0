"""Reads a config: the task's preset, its base, the file, then `--set`; all mistakes at once, with line and column.

It imports only pydantic and PyYAML, so that `finetune validate` answers before torch is imported.
"""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune_cli.config.bases import BASE, read_document
from finetune_cli.config.checking import validate
from finetune_cli.config.fields import RunConfig
from finetune_cli.config.search_file import with_search
from finetune_cli.config.shipped import YAML_ENDINGS, config_file
from finetune_cli.config.text import read_text, shorten, similar_file, single_problem
from finetune_cli.config.yaml_source import Document, KeyPath, Place, Spot, parse_value
from finetune_cli.errors import ConfigError, Problem, counted
from finetune_cli.tasks import TASKS, TaskSpec

# Not .json: JSON is YAML, and a config may be written so.
DATA_NAME = re.compile(r".+\.(csv|tsv|tab|txt|jsonl|ndjson|parquet|xlsx?)(\.(gz|bz2|xz|zst))?", re.IGNORECASE)
SECTIONS = ("model", "data", "training", "evaluation", "checkpointing")


def load_config(path: Path | str, overrides: Sequence[str] = (), *, search: Path | str | None = None) -> RunConfig:
    """The config of a run, with the task's preset filled in and `--set` values on top.

    path: a YAML file, or builtin:NAME. overrides: `key=value` each, the value as YAML (`training.batch_size=16`,
    `data.text=[a, b]`); the last one wins. search: a file with the section `sweep`; see `with_search`.
    Raises ConfigError: one line for each mistake, in the order of the file, `problems` holding the same as data.
    """
    return check_text(_config_text(path), str(path), overrides, search=search)


def _config_text(name: Path | str) -> str:
    """Raises ConfigError; where data are named, or nothing is there, with the command that makes a config."""
    path, make = config_file(name), f"finetune init {shlex.quote(str(name))}"
    if DATA_NAME.fullmatch(path.name) and path.is_file():
        raise single_problem(name, f"is data, not a config. Make a config of it: {make}")
    if path.is_dir():
        inside = path / "config.yaml"
        hint = f", such as {inside}" if inside.is_file() else f". For data in it, make a config: {make}"
        raise single_problem(name, f"is a directory. Allowed: a YAML file{hint}")
    if not path.exists():
        place = f" -o {shlex.quote(str(name))}" if path.suffix in YAML_ENDINGS else ""
        hint = similar_file(path) or f" Make a config for your data: finetune init DATA{place}"
        raise single_problem(name, f"no such file.{hint}")
    return read_text(path)


def check_text(
    text: str,
    source: str,
    overrides: Sequence[str] = (),
    *,
    search: Path | str | None = None,
    environ: Mapping[str, str] | None = None,
) -> RunConfig:
    """The same for a config's text. source: its name, for messages and for `base`. environ: None: the process's own."""
    environ = os.environ if environ is None else environ
    document = read_document(text, source, environ)
    if search is not None:
        document = with_search(document, str(search), environ)
    for argument in overrides:
        apply_override(document, argument, environ)
    _fill_in_preset(document.data)
    config, problems = validate(document, source)
    problems += document.problems
    if problems or config is None:
        ordered = _in_order(problems, [*document.sources, *map(_set_source, overrides)])
        count = counted(len(ordered), "mistake")
        raise ConfigError("\n".join([f"{source}: {count}", *map(str, ordered)]), ordered)
    return config


def apply_override(document: Document, argument: str, environ: Mapping[str, str]) -> None:
    """Put one `--set key=value` into `document`; its mistakes are added to `document.problems`."""
    place = Place(_set_source(argument))
    key, equals, text = argument.partition("=")
    path: KeyPath = tuple(key.strip().split("."))

    def refuse(message: str, key: str = key.strip()) -> None:
        document.problems.append(place.problem(key, message))

    if not equals or not all(part and str(part).split() == [part] for part in path):
        message = "not of the form key=value. Allowed: a dotted key and a value, such as training.batch_size=16"
        return refuse(message, key="")
    if path[0] == BASE:
        return refuse("is read in a file alone. Write it there, or start from that file")
    holder: Any = document.data
    for depth, part in enumerate(path[:-1], start=1):
        if isinstance(holder.get(part), list):
            return refuse(f"{'.'.join(map(str, path[:depth]))} is a list. Give the whole list, such as [a, b]")
        if not isinstance(holder.get(part), dict):
            holder[part] = {}
            document.spots[path[:depth]] = Spot(place, place, None)
        holder = holder[part]
    new = parse_value(text, place.source, path, environ)
    document.forget(path)
    document.take(new)
    holder.pop(path[-1], None)
    holder.update(new.data)


def _set_source(argument: str) -> str:
    return f"--set {shorten(argument, 80)}"


def _fill_in_preset(data: dict[str, Any]) -> None:
    """Fill in the values of the task's preset where the file has none, or null."""
    for section in SECTIONS:
        if data.get(section) is None:
            data[section] = {}
    task = data.get("task")
    if not isinstance(task, str) or task not in TASKS:
        task = "mrpc"  # the task is reported; any preset avoids further mistakes that only follow from it
    preset = TASKS[task]
    if isinstance(data["data"], dict):
        _fill_in_data(data["data"], preset)
    evaluation = data["evaluation"]
    if isinstance(evaluation, dict):
        metrics = _default(evaluation, "metrics", list(preset.metrics))
        best = preset.metric_for_best
        if isinstance(metrics, list) and metrics and best not in metrics:
            best = metrics[0]
        evaluation.setdefault("metric_for_best", best)  # null is a choice of its own: the last model
    _default(data, "output_dir", f"runs/{task}")


def _fill_in_data(section: dict[str, Any], preset: TaskSpec) -> None:
    splits = section.get("splits")
    train = splits.get("train") if isinstance(splits, dict) else None
    path = _default(section, "path", train if isinstance(train, str) else preset.path)
    if path == preset.path:  # a Hub configuration means nothing to another path
        _default(section, "name", preset.config_name)
    _default(section, "text", list(preset.text) or None)
    _default(section, "label", preset.label)
    _default(section, "labels", list(preset.labels) if preset.labels else None)


def _default(section: dict[str, Any], key: str, value: Any) -> Any:
    """Set `key` when it is absent or null. Returns the value that it has afterwards."""
    if section.get(key) is None and value is not None:
        section[key] = value
    elif section.get(key, value) is None:
        section.pop(key, None)
    return section.get(key)


def _in_order(problems: list[Problem], sources: list[str]) -> tuple[Problem, ...]:
    """The problems of the file by line, then those of `--set` in the order of the arguments, each once."""
    unique = dict.fromkeys(problems)
    return tuple(
        sorted(unique, key=lambda problem: (sources.index(problem.source), problem.line or 0, problem.column or 0))
    )
