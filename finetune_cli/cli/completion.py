"""What a shell offers after TAB: runs, configs, keys of the config, names of splits and metrics.

Only files are looked at and only the config's fields are imported, so that an answer takes about as long as --help.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from finetune_cli.config.shipped import YAML_ENDINGS, shipped_configs
from finetune_cli.tasks import METRICS, TASKS

VARIABLE = "_FINETUNE_COMPLETE"  # set by the scripts that --install-completion writes
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
    with ExitStack() as stack:
        for holder, name, function in lighter:
            if hasattr(holder, name):  # names of Typer's own, which it may change
                stack.callback(setattr, holder, name, getattr(holder, name))
                setattr(holder, name, function)
        yield


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


def _config_keys(word: str) -> list[str]:
    """`training.batch_size=` and the like; with a single key left, its values, or its default."""
    from finetune_cli.config.fields import RunConfig
    from finetune_cli.config.types import fields_below, section_of

    keys = {".".join(path): info for path, info in fields_below(RunConfig) if section_of(info) is None}
    typed_key, equals, _ = word.partition("=")
    fitting = [key for key in keys if (key == typed_key if equals else key.startswith(typed_key))]
    if len(fitting) == 1:
        return [f"{fitting[0]}={value}" for value in _values(fitting[0], keys[fitting[0]]) or [""]]
    return [f"{key}=" for key in fitting]


def _values(key: str, info: Any) -> list[str]:
    from finetune_cli.config.types import short_number

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
    return values or ([short_number(default)] if isinstance(default, int | float) else [])


def _configs(word: str) -> list[str]:
    """YAML files and folders, and the configs inside the package."""
    return [*_files(word), *shipped_configs()]


def _runs(word: str) -> list[str]:
    """Run directories in runs/, and those below what is typed; of several seeds, each."""
    typed = Path(word).parent if "/" in word else Path()
    runs = {
        str(record.parent)
        for place in (Path("runs"), typed)
        for pattern in ("run.json", "*/run.json", "*/seed-*/run.json")
        for record in islice(place.glob(pattern), MAX_RUNS)
    }
    return sorted(runs)


def _files(word: str) -> Iterator[str]:
    typed, name = os.path.split(word)
    try:
        entries = sorted(os.scandir(os.path.expanduser(typed) or "."), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        path = os.path.join(typed, entry.name)
        if entry.name.startswith(".") and not name.startswith("."):
            continue
        if entry.name.endswith(YAML_ENDINGS):
            yield path
        elif entry.is_dir():
            yield f"{path}/"


def _splits(ctx: Any) -> list[str]:
    """The usual names, and those that the named run has been scored on."""
    named = [ctx.params.get("target"), *ctx.args]  # the parser leaves words in args while an option has no value yet
    runs = [Path(str(name)) for name in named if name]
    scored = [path.parent.name for run in runs for path in sorted(run.glob("eval/*/metrics.json"))]
    return list(dict.fromkeys(["validation", "test", "train", *scored]))


def _gates() -> list[str]:
    """The beginning of a test, in the direction of the metric."""
    return [f"{name}{'>=' if spec.greater_is_better else '<='}" for name, spec in METRICS.items()]


# By the option's long name, or what an argument is called in the help; one name means one thing in all commands. Each
# gives what could stand there, from the command's context and the word as far as it is typed.
CANDIDATES: dict[str, Callable[[Any, str], Iterable[str]]] = {
    "--set": lambda ctx, word: _config_keys(word),
    "--split": lambda ctx, word: _splits(ctx),
    "--gate": lambda ctx, word: _gates(),
    "--max-drop": lambda ctx, word: [f"{name}=" for name in METRICS],
    **dict.fromkeys(("--fail-if-worse", "--metric", "--for"), lambda ctx, word: METRICS),
    "--task": lambda ctx, word: TASKS,
    **dict.fromkeys(("CONFIG", "CONFIG..."), lambda ctx, word: _configs(word)),
    **dict.fromkeys(("RUN", "RUN RUN...", "--baseline"), lambda ctx, word: _runs(word)),
    "CONFIG|RUN|MODEL": lambda ctx, word: [*_runs(word), *_configs(word)],
}


def completer_for(*names: str) -> Callable[[Any, str], list[str]] | None:
    """What completes an option or argument; None: the shell's own files."""
    candidates = next((CANDIDATES[name] for name in names if name in CANDIDATES), None)
    if candidates is None:
        return None

    def complete(ctx: Any, incomplete: str) -> list[str]:
        """The candidates that begin with the whole word, each without what bash has already."""
        word = _typed + incomplete
        return [candidate[len(_typed) :] for candidate in candidates(ctx, word) if candidate.startswith(word)]

    return complete
