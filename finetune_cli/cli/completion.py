"""What a shell offers after TAB: runs, configs, keys of the config, names of splits and metrics.

Only files are looked at and only the config's fields are imported, so that an answer takes about as long as --help.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from finetune_cli.tasks import METRICS, TASKS

Completer = Callable[[Any, str], list[str]]

VARIABLE = "_FINETUNE_COMPLETE"  # set by the scripts that --install-completion writes
YAML_ENDINGS = (".yaml", ".yml")
MARKS = ("=", ":")  # among the characters at which bash breaks words
MAX_RUNS = 200


_typed = ""  # of the word at the cursor, the part that bash takes for words of its own


@contextmanager
def answering(environ: MutableMapping[str, str]) -> Iterator[None]:
    """When a shell asks what could follow: its words as Typer expects them, and an answer without heavy imports."""
    if VARIABLE not in environ:
        yield
        return
    if environ[VARIABLE] == "complete_bash" and "COMP_WORDS" in environ:
        _rejoin_words(environ)
    from typer import _completion_classes, core

    # Nothing will run, so words need not become values, which takes pydantic; and our help has no markup for rich to
    # take out. Either takes longer to load than the answer to find.
    lighter: list[tuple[Any, str, Callable[..., Any]]] = [
        (getattr(core, "_TyperParameter", None), "process_value", lambda self, ctx, value: value),
        (_completion_classes, "_sanitize_help_text", str),
    ]
    lighter = [one for one in lighter if hasattr(one[0], one[1])]  # names of Typer's own, which it may change
    usual = [(holder, name, getattr(holder, name)) for holder, name, _ in lighter]
    try:
        for holder, name, function in lighter:
            setattr(holder, name, function)
        yield
    finally:
        for holder, name, function in usual:
            setattr(holder, name, function)


def _rejoin_words(environ: MutableMapping[str, str]) -> None:
    """Undo that bash takes `key=value` and `builtin:name` for three words each; other shells hand on whole words.

    The word at the cursor keeps its last part alone: it is what bash will replace.
    """
    global _typed
    words, current = environ["COMP_WORDS"].split("\n"), int(environ.get("COMP_CWORD", "0"))
    words += [""] * (current + 1 - len(words))
    joined: list[str] = []
    for number, word in enumerate(words[: current + 1]):
        if number > 1 and joined[-1] and (word in MARKS or words[number - 1] in MARKS):
            joined[-1] += word
        else:
            joined.append(word)
    last = joined[-1]
    cut = max(last.rfind(mark) for mark in MARKS) + 1 if set(MARKS) & set(words) else 0
    _typed, joined[-1] = last[:cut], last[cut:]
    environ["COMP_WORDS"], environ["COMP_CWORD"] = "\n".join(joined), str(len(joined) - 1)


def _answer(candidates: list[str], word: str) -> list[str]:
    """The candidates that begin with the whole word, each without what bash has already."""
    return [candidate[len(_typed) :] for candidate in candidates if candidate.startswith(word)]


def config_keys(ctx: Any, incomplete: str) -> list[str]:
    """`training.batch_size=` and the like; with a single key left, its values, or its default."""
    word, keys = _typed + incomplete, dict(_keys())
    typed_key, equals, _ = word.partition("=")
    fitting = [key for key in keys if (key == typed_key if equals else key.startswith(typed_key))]
    if len(fitting) == 1:
        return _answer([f"{fitting[0]}={value}" for value in keys[fitting[0]] or [""]], word)
    return _answer([f"{key}=" for key in fitting], word)


def _keys(section: Any = None, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Each dotted key with the values to offer."""
    from finetune_cli.config.fields import RunConfig
    from finetune_cli.config.types import section_classes

    for name, info in (section or RunConfig).model_fields.items():
        inner = next(section_classes(info.annotation), None)
        if inner is not None:
            yield from _keys(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _values(f"{prefix}{name}", info)


def _values(key: str, info: Any) -> list[str]:
    if key == "task":
        return list(TASKS)
    if key == "evaluation.metric_for_best":
        return list(METRICS)
    values: list[str] = []
    for choice in (info.annotation, *get_args(info.annotation)):
        if get_origin(choice) is Literal:
            values += map(str, get_args(choice))
        elif choice is bool:
            values += ["true", "false"]
    default = info.get_default(call_default_factory=True)
    if not values and isinstance(default, int | float):
        values = [f"{default:g}".replace("e-0", "e-")]
    return values


def configs(ctx: Any, incomplete: str) -> list[str]:
    """YAML files and folders, and the configs inside the package."""
    word = _typed + incomplete
    return _answer([*_files(word), *_builtin()], word)


def runs(ctx: Any, incomplete: str) -> list[str]:
    """Run directories."""
    word = _typed + incomplete
    return _answer(_run_directories(word), word)


def targets(ctx: Any, incomplete: str) -> list[str]:
    """Run directories, and configs."""
    word = _typed + incomplete
    return _answer([*_run_directories(word), *_files(word), *_builtin()], word)


def _run_directories(incomplete: str) -> list[str]:
    """Those in runs/, and those below what is typed; of several seeds, each."""
    typed = Path(incomplete).parent if "/" in incomplete else Path()
    places = [Path("runs"), *([typed] if typed != Path() else [Path()])]
    found = [
        str(record.parent)
        for place in places
        for pattern in ("run.json", "*/run.json", "*/seed-*/run.json")
        for record in islice(place.glob(pattern), MAX_RUNS)
    ]
    return sorted(dict.fromkeys(found))


def _files(incomplete: str) -> list[str]:
    typed, name = os.path.split(incomplete)
    try:
        entries = sorted(os.scandir(os.path.expanduser(typed) or "."), key=lambda entry: entry.name)
    except OSError:
        return []
    found = []
    for entry in entries:
        if entry.name.startswith(".") and not name.startswith("."):
            continue
        path = os.path.join(typed, entry.name)
        if entry.name.endswith(YAML_ENDINGS):
            found.append(path)
        elif entry.is_dir():
            found.append(f"{path}/")
    return found


def _builtin() -> list[str]:
    from finetune_cli.config.shipped import shipped_configs

    return list(shipped_configs())


def splits(ctx: Any, incomplete: str) -> list[str]:
    """The usual names, and those that the named run has been scored on."""
    named = [ctx.params.get("target"), *ctx.args]  # the parser leaves words in args while an option has no value yet
    runs = [Path(str(name)) for name in named if name]
    scored = [path.parent.name for run in runs for path in sorted(run.glob("eval/*/metrics.json"))]
    return _answer(list(dict.fromkeys(["validation", "test", "train", *scored])), _typed + incomplete)


def metrics(ctx: Any, incomplete: str) -> list[str]:
    """Names of metrics."""
    return _answer(list(METRICS), _typed + incomplete)


def gates(ctx: Any, incomplete: str) -> list[str]:
    """The beginning of a test, in the direction of the metric."""
    return _answer(
        [f"{name}{'>=' if spec.greater_is_better else '<='}" for name, spec in METRICS.items()], _typed + incomplete
    )


def drops(ctx: Any, incomplete: str) -> list[str]:
    """The beginning of `f1=0.01`."""
    return _answer([f"{name}=" for name in METRICS], _typed + incomplete)


def tasks(ctx: Any, incomplete: str) -> list[str]:
    """Names of tasks."""
    return _answer(list(TASKS), _typed + incomplete)


# By the option's long name, or what an argument is called in the help; one name means one thing in all commands.
COMPLETERS: dict[str, Completer] = {
    "--set": config_keys,
    "--split": splits,
    "--gate": gates,
    "--max-drop": drops,
    "--fail-if-worse": metrics,
    "--metric": metrics,
    "--for": metrics,
    "--baseline": runs,
    "--task": tasks,
    "CONFIG": configs,
    "CONFIG...": configs,
    "CONFIG|RUN|MODEL": targets,
    "RUN": runs,
    "RUN RUN...": runs,
}


def completer_for(*names: str) -> Callable[[Any, str], list[str]] | None:
    """What completes an option or argument; None: the shell's own files."""
    return next((COMPLETERS[name] for name in names if name in COMPLETERS), None)
