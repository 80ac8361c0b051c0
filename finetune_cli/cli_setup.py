"""What lies between the options of a command and its work: streams, the config, what to label, several processes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from finetune_cli.errors import ConfigError, ExitCode, GateFailedError, SeedsFailedError, error_of
from finetune_cli.launching import is_main_process, launched_processes
from finetune_cli.terminal import Output, start_logging

if TYPE_CHECKING:
    from finetune_cli.config import RunConfig
    from finetune_cli.records.training import SeedsReport, TrainReport


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


@contextmanager
def shown_when_failed(show: Callable[[Any], None]) -> Iterator[None]:
    """A command that fails after its work was done has a result all the same."""
    try:
        yield
    except (GateFailedError, SeedsFailedError) as err:
        show(err.report)
        raise


def show_training(out: Output, report: TrainReport | SeedsReport, *, pair: bool) -> None:
    from finetune_cli.records.training import TrainReport
    from finetune_cli.tables.seeds import seeds_result
    from finetune_cli.tables.train import train_result

    if isinstance(report, TrainReport):
        train_result(out, report, pair=pair)
    else:
        seeds_result(out, report)


def with_seeds(overrides: list[str], seeds: str | None) -> list[str]:
    """`--seeds 1,2,3` as a `--set`. Raises ConfigError for what is no list of whole numbers."""
    if seeds is None:
        return overrides
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", seeds):
        raise ConfigError(f"--seeds {seeds!r}: expected whole numbers with commas between them, such as 1,2,3.")
    return [*overrides, f"training.seeds=[{', '.join(str(int(seed)) for seed in seeds.split(','))}]"]


def refuse_with_dry_run(*, resume: str, overwrite: bool, push: bool, num_processes: int) -> None:
    if num_processes > 1:
        raise ConfigError("--dry-run measures one process. Leave out --num-processes.")
    if overwrite or resume != "auto":
        raise ConfigError("--dry-run leaves the run directory alone. Leave out --overwrite and --resume.")
    if push:
        raise ConfigError("--dry-run trains nothing to upload. Leave out --push.")


def check_target(target: str, overrides: list[str], output_dir: str | None) -> None:
    """Find the run, model or config that an argument names, so that mistakes show before the heavy imports."""
    from finetune_cli.commands.target import is_local, open_target

    path = Path(target)
    if output_dir is not None and not (path.suffix in (".yaml", ".yml") or path.is_file()):
        raise ConfigError(f"--output-dir goes with a config, and {target} is a run or a model. Name that run instead.")
    if is_local(target):
        open_target(target, overrides, output_dir=output_dir)


def check_places(config: RunConfig) -> None:
    """Refuse data that are not there and a run directory that cannot be written, before the heavy imports."""
    from finetune_cli.data.sources import require_present
    from finetune_cli.run_dir import require_writable

    if is_main_process():
        require_writable(Path(config.output_dir))
    require_present(config.data.path)


def check_data_file(path: Path | None) -> None:
    """Raise DataError when the labelled file to score is not there, before the heavy imports."""
    from finetune_cli.commands.prediction_input import require_data_file

    if path is not None:
        require_data_file(path)


def output_format(output: Path | None, requested: str | None) -> str:
    """The form of the predictions. Raises ConfigError when it has none, or when the file cannot be written."""
    from finetune_cli.commands.prediction_files import choose_format, require_writable

    chosen = choose_format(output, requested)
    if output is not None:
        require_writable(output)
    return chosen


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
    from finetune_cli.commands.prediction_input import require_data_file

    path = Path(str(source))
    require_data_file(path, plain_text=True)
    if output is not None and output.exists() and output.samefile(path):
        raise ConfigError(f"-o {output} is the file that is labelled: its rows would be lost. Name another file.")
    return path


def train_on_several(config: RunConfig, num_processes: int, *, offline: bool) -> int:
    """Prepare the data once here, then run this command line in `num_processes` processes.

    A run directory that another run holds is refused here, before there are processes that would have to be ended.
    """
    if launched_processes() > 1:
        raise ConfigError(
            "--num-processes starts processes of its own: leave it out under accelerate launch and torchrun."
        )
    from finetune_cli.commands.prepare import prepare as run_prepare
    from finetune_cli.commands.session import locked, note_failed_launch
    from finetune_cli.launching import launch
    from finetune_cli.run_dir import RunDir

    run = RunDir(config.output_dir)
    with locked(run):
        run_prepare(config, offline=offline, quiet=True)  # each process finds it again, and the main one says so
    code = launch(without_option(sys.argv[1:], "--num-processes"), num_processes)
    if code != ExitCode.DONE:
        note_failed_launch(run, code)
    return code


def train_seeds_on_several(config: RunConfig, num_processes: int, *, overwrite: bool, offline: bool) -> SeedsReport:
    """Each of `training.seeds` in a group of processes of its own, so that one that fails leaves the others alone."""
    if launched_processes() > 1:
        raise ConfigError(
            "--num-processes starts processes of its own: leave it out under accelerate launch and torchrun."
        )
    import subprocess

    from finetune_cli.commands.prepare import prepare as run_prepare
    from finetune_cli.commands.seeds import seed_config, train_seeds
    from finetune_cli.commands.session import note_failed_launch, read_report
    from finetune_cli.config import config_diff
    from finetune_cli.launching import launch
    from finetune_cli.run_dir import RunDir

    arguments = sys.argv[1:]
    for option in ("--num-processes", "--seeds", "--output-dir"):
        arguments = without_option(arguments, option)

    def train_one(one: RunConfig) -> TrainReport:
        run = RunDir(one.output_dir)
        finished = run.read_record().get("status") == "finished"
        changes = [f"--set={key}={json.dumps(value)}" for key, _, value in config_diff(config, one)]
        code = launch(
            [argument for argument in arguments if argument != "--overwrite"] + changes,
            num_processes,
            stdout=subprocess.DEVNULL,
        )
        if code != ExitCode.DONE:
            note_failed_launch(run, code)
            raise error_of(code, f"{run.path}: training ended with exit code {code}; the reason is above.")
        return read_report(run, already_finished=finished)

    run_prepare(seed_config(config, (config.training.seeds or ())[0]), offline=offline)
    return train_seeds(config, train_one, overwrite=overwrite)


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
