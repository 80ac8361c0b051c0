"""The options and arguments that several commands share: name, value, and the text in `--help`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from finetune_cli import __version__

RUN_GROUP, INPUT_GROUP, OUTPUT_GROUP = "Run", "Input", "Output"  # headings of the help pages


def argument(metavar: str, text: str) -> Any:
    return typer.Argument(metavar=metavar, help=text, show_default=False)


def option(names: str, text: str, *, group: str | None = None, metavar: str | None = None, **more: Any) -> Any:
    return typer.Option(*names.split(), metavar=metavar, help=text, rich_help_panel=group, **more)


def repeatable(names: str, text: str, *, metavar: str, group: str) -> Any:
    return option(names, text, group=group, metavar=metavar, default_factory=list, show_default=False)


Config = Annotated[Path, argument("CONFIG", "The YAML file that describes the run.")]
Target = Annotated[
    str, argument("CONFIG|RUN|MODEL", "What was trained: a config, a run directory, or a model (directory or Hub id).")
]

Overrides = Annotated[
    list[str],
    repeatable(
        "--set -s",
        "Change a value of the config, such as training.batch_size=16. Repeatable.",
        metavar="KEY=VALUE",
        group=RUN_GROUP,
    ),
]
OutputDir = Annotated[
    str | None,
    option("--output-dir", "The run directory, in place of the config's output_dir.", metavar="DIR", group=RUN_GROUP),
]
Offline = Annotated[bool, option("--offline", "Use only what is on this machine.", group=RUN_GROUP)]


Json = Annotated[bool, option("--json", "Print the result as one JSON document.", group=OUTPUT_GROUP)]
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
