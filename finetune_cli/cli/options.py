"""The options and arguments that several commands share: name, value, and the text in `--help`."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from finetune_cli import __version__
from finetune_cli.cli.completion import completer_for
from finetune_cli.errors import ConfigError
from finetune_cli.system.places import in_home


def argument(metavar: str, text: str, **more: Any) -> Any:
    return typer.Argument(metavar=metavar, help=text, show_default=False, autocompletion=completer_for(metavar), **more)


def option(usage: str, text: str, *, group: str | None = None, **more: Any) -> Any:
    """usage: the option's names and what its value is called, such as `--output -o FILE`; a flag has names alone."""
    words = usage.split()
    names = [word for word in words if word.startswith("-")]
    metavar = words[-1] if len(names) < len(words) else None
    if metavar and len(names[-1]) == 2:
        more["callback"] = _without_equals(names[0], names[-1], more.get("callback"))
    return typer.Option(
        *names, metavar=metavar, help=text, rich_help_panel=group, autocompletion=completer_for(*names), **more
    )


def _without_equals(long: str, short: str, callback: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Refuses `-o=FILE`, which is read as a file called =FILE. callback: what the value goes through afterwards."""

    def checked(value: Any) -> Any:
        for text in value if isinstance(value, list | tuple) else [value]:
            if str(text).startswith("="):
                meant = shlex.quote(str(text)[1:]) if "~" not in str(text) else str(text)[1:]
                raise ConfigError(f"{short}{text}: a short option takes no =. Write {short} {meant} or {long}={meant}.")
        return callback(value) if callback is not None else value

    return checked


def repeatable(usage: str, text: str, **more: Any) -> Any:
    return option(usage, text, default_factory=list, show_default=False, **more)


run_option, run_list = partial(option, group="Run"), partial(repeatable, group="Run")
input_option, input_list = partial(option, group="Input"), partial(repeatable, group="Input")
output_option, output_list = partial(option, group="Output"), partial(repeatable, group="Output")


ALL_PROBABILITIES = "--all-probabilities"  # what `--probabilities all` is read as: a flag has no value


def with_flags_alone(arguments: Sequence[str]) -> list[str]:
    """The command line with `--probabilities all` and `--probabilities=all` as one flag."""
    text = "\0".join(arguments)
    return re.sub(r"(?:^|(?<=\0))--probabilities[\0=]all(?=\0|$)", ALL_PROBABILITIES, text).split("\0") if text else []


def as_text(argument: str) -> str:
    """An argument as text, also where the locale's encoding could not show it. Raises ConfigError when it is none."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        try:
            return os.fsencode(argument).decode()
        except UnicodeDecodeError as err:
            raise ConfigError(f"{argument!r} is not UTF-8 text. Type it as UTF-8, or rename what it names.") from err
    return argument


def all_as_text(arguments: list[str]) -> list[str]:
    return [as_text(argument) for argument in arguments]


def in_home_or_none(path: str | Path | None) -> Path | None:
    """A path from the command line; the shell leaves the ~ of --option=~/file to us."""
    return None if path is None else in_home(path)


Config = Annotated[Path, argument("CONFIG", "The YAML file that describes the run.", callback=in_home_or_none)]
Target = Annotated[
    str,
    argument(
        "CONFIG|RUN|MODEL", "What was trained: a config, a run directory, a model (directory or Hub id), or an export."
    ),
]

Overrides = Annotated[
    list[str],
    run_list(
        "--set -s KEY=VALUE",
        "Change a value of the config, such as training.batch_size=16. Repeatable.",
        callback=all_as_text,
    ),
]
OutputDir = Annotated[
    str | None, run_option("--output-dir DIR", "The run directory, in place of the config's output_dir.")
]
NumProcesses = Annotated[
    int, run_option("--num-processes N", "Train on N processes of this machine, one for each GPU.", min=1)
]
Offline = Annotated[bool, run_option("--offline", "Use only what is on this machine.")]
AllProbabilities = Annotated[
    bool, output_option(ALL_PROBABILITIES, "The probability of every class, also of more than 100.", hidden=True)
]
Json = Annotated[bool, output_option("--json", "Print the result as one JSON document.")]
Quiet = Annotated[bool, option("--quiet -q", "Only the result, warnings and errors.")]
Verbose = Annotated[bool, option("--verbose -v", "Say more, and show the libraries' own warnings.")]
Debug = Annotated[bool, option("--debug", "Show the traceback of every error.")]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"finetune {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
]
