"""What commands share before their work: the options of all, streams and log, the config, checks of paths."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from finetune_cli.cli.options import Debug, Json, Quiet, Verbose
from finetune_cli.display.logs import silence_model_loading, start_logging
from finetune_cli.display.terminal import Output
from finetune_cli.errors import ConfigError, GateFailedError, MembersFailedError
from finetune_cli.system.allocator import keep_freed_memory
from finetune_cli.system.cpus import limit_threads
from finetune_cli.system.launching import is_main_process
from finetune_cli.system.places import in_home
from finetune_cli.system.signals import end_if_stopped

if TYPE_CHECKING:
    from finetune_cli.config.fields import RunConfig

T = TypeVar("T")


@dataclass
class Switches:
    """What `main` must know of the options when a command has failed."""

    debug: bool = False


def command(*, every_process: bool = False, with_json: bool = True) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Make a function a command: it gets an Output, and its options are followed by those that all commands have.

    every_process: all processes that were launched together work; otherwise only the main one, and the others end.
    """
    shared = {"json": Json} if with_json else {}
    shared |= {"quiet": Quiet, "verbose": Verbose, "debug": Debug}

    def as_command(function: Callable[..., T]) -> Callable[..., T]:
        @wraps(function)
        def run(ctx: typer.Context, *, quiet: bool, verbose: bool, debug: bool, json: bool = False, **own: Any) -> T:
            enabled = is_main_process()
            if not (every_process or enabled):
                raise typer.Exit
            ctx.ensure_object(Switches).debug = debug
            limit_threads()
            start_logging(quiet=quiet, verbose=verbose, enabled=enabled)
            return function(Output(as_json=json, enabled=enabled, quiet=quiet, verbose=verbose), **own)

        _, *own = inspect.signature(function, eval_str=True).parameters.values()
        context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        last = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
            for name, option in shared.items()
        ]
        run.__signature__ = inspect.Signature([context, *own, *last])  # type: ignore[attr-defined]
        return run

    return as_command


def before_computing() -> None:
    """After the heavy imports: end when a signal came meanwhile, hush the libraries, keep what they free."""
    end_if_stopped()
    silence_model_loading()
    keep_freed_memory()


def read_config(path: Path, overrides: list[str], *, search: Path | None = None) -> RunConfig:
    from finetune_cli.config.load import load_config

    return load_config(path, overrides, search=search)


def with_output_dir(overrides: list[str], output_dir: str | None) -> list[str]:
    """`--output-dir` as the last `--set`, quoted so that any name stays a text."""
    quoted = json.dumps(output_dir, ensure_ascii=False)
    return overrides if output_dir is None else [*overrides, f"output_dir={quoted}"]


@contextmanager
def shown_when_failed(show: Callable[[Any], None]) -> Iterator[None]:
    """When a gate or a seed fails, show the result before the error: the other work was done."""
    try:
        yield
    except (GateFailedError, MembersFailedError) as err:
        show(err.report)
        raise


def check_target(target: str, overrides: list[str], output_dir: str | None) -> None:
    """Find the run, model or config that an argument names, so that mistakes show before the heavy imports."""
    from finetune_cli.config.shipped import names_a_config
    from finetune_cli.runs.target import is_local, open_target

    if output_dir is not None and not names_a_config(target):
        raise ConfigError(f"--output-dir goes with a config, and {target} is a run or a model. Name that run instead.")
    if is_local(target):
        open_target(target, overrides, output_dir=output_dir)


def check_places(config: RunConfig) -> None:
    """Refuse data that are not there and a run directory that cannot be written, before the heavy imports."""
    from finetune_cli.data.apart import require_apart
    from finetune_cli.data.sources import require_present
    from finetune_cli.system.files import require_writable

    require_apart(config.output_dir, config.data.path, config.data.splits or {}, config.model.name_or_path)
    if is_main_process():
        require_writable(in_home(config.output_dir))
    require_present(config.data.path)


def check_data_file(path: Path | None) -> None:
    """Raise DataError when the labelled file to score is not there, before the heavy imports."""
    from finetune_cli.predictions.input import require_data_file

    if path is not None:
        require_data_file(path)
