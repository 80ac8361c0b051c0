"""What commands do between reading their options and their work: set up streams, read the config, check paths."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

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
    from finetune_cli.records.folds import FoldsReport
    from finetune_cli.records.learning_curve import CurveReport
    from finetune_cli.records.training import SeedsReport, TrainReport


NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?")


@dataclass
class Switches:
    """What `main` must know of the options when a command has failed."""

    debug: bool = False


def start(
    ctx: typer.Context, *, quiet: bool, verbose: bool, debug: bool, as_json: bool = False, every_process: bool = False
) -> Output:
    """Set up the streams for one command.

    every_process: all processes that were launched together work; otherwise only the main one, and the others end.
    """
    if not (every_process or is_main_process()):
        raise typer.Exit
    ctx.ensure_object(Switches).debug = debug
    limit_threads()
    start_logging(quiet=quiet, verbose=verbose, enabled=is_main_process())
    return Output(as_json=as_json, enabled=is_main_process())


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


def show_training(out: Output, report: TrainReport | SeedsReport | FoldsReport | CurveReport, *, pair: bool) -> None:
    from finetune_cli.display.tables.folds import folds_result
    from finetune_cli.display.tables.learning_curve import curve_result
    from finetune_cli.display.tables.seeds import seeds_result
    from finetune_cli.display.tables.train import train_result
    from finetune_cli.records.folds import FoldsReport
    from finetune_cli.records.learning_curve import CurveReport
    from finetune_cli.records.training import TrainReport

    if isinstance(report, TrainReport):
        train_result(out, report, pair=pair)
    elif isinstance(report, FoldsReport):
        folds_result(out, report)
    elif isinstance(report, CurveReport):
        curve_result(out, report)
    else:
        seeds_result(out, report)


def with_seeds(overrides: list[str], seeds: str | None) -> list[str]:
    """`--seeds 1,2,3` as a `--set`. Raises ConfigError for anything but whole numbers with commas between them."""
    if seeds is None:
        return overrides
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", seeds):
        raise ConfigError(f"--seeds {seeds!r}: expected whole numbers with commas between them, such as 1,2,3.")
    return [*overrides, f"training.seeds=[{', '.join(str(int(seed)) for seed in seeds.split(','))}]"]


def with_shares(overrides: list[str], shares: str | None) -> list[str]:
    """`--learning-curve 0.1,0.4,1` as a `--set`. Raises ConfigError for anything but numbers and commas."""
    if shares is None:
        return overrides
    words = [word.strip() for word in shares.split(",")]
    if not all(NUMBER.fullmatch(word) for word in words):
        raise ConfigError(
            f"--learning-curve {shares!r}: expected rising shares of train with commas between them, such as "
            "0.1,0.2,0.4,0.7,1."
        )
    return [*overrides, f"training.learning_curve=[{', '.join(str(float(word)) for word in words)}]"]


def refuse_with_dry_run(*, resume: str, overwrite: bool, push: bool, final: bool, num_processes: int) -> None:
    if num_processes > 1:
        raise ConfigError("--dry-run measures one process. Leave out --num-processes.")
    if overwrite or resume != "auto":
        raise ConfigError("--dry-run leaves the run directory alone. Leave out --overwrite and --resume.")
    if final:
        raise ConfigError("--dry-run measures one of the folds. Leave out --final.")
    if push:
        raise ConfigError("--dry-run trains nothing to upload. Leave out --push.")


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
