"""What lies between the options of a command and its work: streams, the config, what to label, several processes."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from finetune_cli.errors import ConfigError, ExitCode
from finetune_cli.launching import is_main_process, launched_processes
from finetune_cli.terminal import Output, start_logging

if TYPE_CHECKING:
    from finetune_cli.config import RunConfig


@dataclass
class Switches:
    """What `main` has to know of the command line when a command has failed."""

    debug: bool = False


def start(
    ctx: typer.Context, *, quiet: bool, verbose: bool, debug: bool, as_json: bool = False, every_process: bool = False
) -> Output:
    """Set up the streams for one command.

    every_process: whether all processes of a launched group work; otherwise the main one works and the rest end here.
    """
    if not (every_process or is_main_process()):
        raise typer.Exit
    ctx.ensure_object(Switches).debug = debug
    start_logging(quiet=quiet, verbose=verbose, enabled=is_main_process())
    return Output(as_json=as_json, enabled=is_main_process())


def read_config(path: Path, overrides: list[str]) -> RunConfig:
    from finetune_cli.config import load_config

    return load_config(path, overrides)


def with_output_dir(overrides: list[str], output_dir: str | None) -> list[str]:
    """`--output-dir` as the last `--set`, quoted so that any name stays a text."""
    quoted = json.dumps(output_dir, ensure_ascii=False)
    return overrides if output_dir is None else [*overrides, f"output_dir={quoted}"]


def check_target(target: str, overrides: list[str], output_dir: str | None) -> None:
    """Read the config that an argument names, so that its mistakes show before the heavy imports."""
    path = Path(target)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        read_config(path, with_output_dir(overrides, output_dir))
    elif output_dir is not None:
        raise ConfigError(f"--output-dir goes with a config, and {target} is a run or a model. Name that run instead.")


def rows_to_label(source: str | None, texts: list[str], pairs: list[str], output: Path | None) -> Any:
    """A path, the byte stream of standard input, or tuples of texts. Refuses an output that would replace the input."""
    given = [*([source] if source else []), *(["--text"] if texts else [])]
    if len(given) != 1:
        found = " and ".join(given) or "nothing"
        raise ConfigError(f"Nothing to label: expected one of a file, - for standard input, and --text; found {found}.")
    if pairs and len(pairs) != len(texts):
        raise ConfigError(f"--text-pair: expected one for each --text ({len(texts)}), found {len(pairs)}.")
    if texts:
        return list(zip(texts, pairs, strict=True)) if pairs else [(text,) for text in texts]
    if source == "-":
        return sys.stdin.buffer
    path = Path(str(source))
    if output is not None and output.exists() and path.exists() and output.samefile(path):
        raise ConfigError(f"-o {output} is the file that is labelled: its rows would be lost. Name another file.")
    return path


def train_on_several(config: RunConfig, num_processes: int, *, offline: bool) -> int:
    """Prepare the data once here, then run this command line in `num_processes` processes."""
    if launched_processes() > 1:
        raise ConfigError(
            "--num-processes starts processes of its own: leave it out under accelerate launch and torchrun."
        )
    from finetune_cli.commands.prepare import prepare as run_prepare
    from finetune_cli.commands.session import note_failed_launch
    from finetune_cli.launching import launch
    from finetune_cli.run_dir import RunDir

    run_prepare(config, offline=offline)
    code = launch(without_option(sys.argv[1:], "--num-processes"), num_processes)
    if code != ExitCode.DONE:
        note_failed_launch(RunDir(config.output_dir), code)
    return code


def without_option(arguments: list[str], option: str) -> list[str]:
    """The arguments without `OPTION VALUE` and `OPTION=VALUE`."""
    kept: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == option:
            next(waiting, None)
        elif not argument.startswith(f"{option}="):
            kept.append(argument)
    return kept
