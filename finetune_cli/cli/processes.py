"""`--num-processes`: run this command line again in several processes that work together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from finetune_cli.errors import ConfigError, ExitCode, error_of
from finetune_cli.system.devices import require_a_device_for_each
from finetune_cli.system.launching import launched_processes

if TYPE_CHECKING:
    from finetune_cli.config.fields import RunConfig
    from finetune_cli.records.folds import FoldsReport
    from finetune_cli.records.training import Listener, SeedsReport, TrainReport
    from finetune_cli.runs.sweeps.trials import Train


def train_on_several(config: RunConfig, num_processes: int, *, offline: bool) -> int:
    """Prepare the data once here, then run this command line in `num_processes` processes.

    When another run uses the run directory, the error comes here, before any process is started.
    """
    _require_processes(num_processes)
    from finetune_cli.runs.rows import prepare_rows
    from finetune_cli.runs.run_dir import RunDir
    from finetune_cli.runs.session import locked, note_failed_launch
    from finetune_cli.system.launching import launch

    run = RunDir(config.output_dir)
    with locked(run):
        # Each process finds these rows; the main one reports them.
        prepare_rows(config, offline=offline, quiet=True)
    code = launch(without_option(sys.argv[1:], "--num-processes"), num_processes)
    if code != ExitCode.DONE:
        note_failed_launch(run, code)
    return code


def holds_several_runs(config: RunConfig) -> bool:
    """Whether training this config makes a run for each seed, or for each fold."""
    folds = config.data.folds
    return config.training.seeds is not None or (folds is not None and folds.fold is None)


def train_each_on_several(
    config: RunConfig, num_processes: int, *, final: bool, overwrite: bool, offline: bool, switches: Sequence[str]
) -> SeedsReport | FoldsReport:
    """Train each seed or fold in new processes, so that the failure of one does not stop the others.

    switches: options of `finetune train` for each of them.
    """
    _require_processes(num_processes)
    from finetune_cli.runs.folds import require_folds_to_come

    if final:
        require_folds_to_come(config)
    train_one = _in_a_group(num_processes, offline=offline, switches=switches)
    return _train_members(config, train_one, final=final, overwrite=overwrite, offline=offline)


def sweep_on_several(num_processes: int, *, offline: bool) -> Train:
    """Each trial of a sweep in a group of processes of its own."""
    _require_processes(num_processes)
    train_group = _in_a_group(num_processes, offline=offline, switches=["--quiet"])

    def train_trial(trial: RunConfig, listen: Listener) -> TrainReport | SeedsReport | FoldsReport:
        return _train_members(trial, train_group, offline=offline) if holds_several_runs(trial) else train_group(trial)

    return train_trial


def _train_members(
    config: RunConfig,
    train_one: Callable[[RunConfig], TrainReport],
    *,
    final: bool = False,
    overwrite: bool = False,
    offline: bool,
) -> SeedsReport | FoldsReport:
    from finetune_cli.commands.folds import train_folds
    from finetune_cli.commands.seeds import train_seeds

    if config.training.seeds is not None:
        return train_seeds(config, train_one, overwrite=overwrite)
    return train_folds(config, train_one, final=final, overwrite=overwrite, offline=offline)


def _in_a_group(num_processes: int, *, offline: bool, switches: Sequence[str]) -> Callable[[RunConfig], TrainReport]:
    """Trains a config in a group of processes of its own, from the file that is put into its directory."""
    import subprocess

    from finetune_cli.config.dump import to_yaml
    from finetune_cli.config.load import load_config
    from finetune_cli.runs.rows import prepare_rows
    from finetune_cli.runs.run_dir import RunDir
    from finetune_cli.runs.session import note_failed_launch, read_report
    from finetune_cli.system.files import write_text
    from finetune_cli.system.launching import launch

    def train_one(config: RunConfig) -> TrainReport:
        run = RunDir(config.output_dir)
        finished = run.read_record().is_finished
        prepare_rows(config, offline=offline, quiet=True)  # once, and not in each process
        if not run.config.is_file() or load_config(run.config) != config:
            write_text(run.config, to_yaml(config))
        words = ["train", str(run.config), *switches, *(["--offline"] if offline else [])]
        code = launch(words, num_processes, stdout=subprocess.DEVNULL)
        if code != ExitCode.DONE:
            note_failed_launch(run, code)
            raise error_of(code, f"{run.path}: training ended with exit code {code}; the reason is above.")
        return read_report(run, already_finished=finished)

    return train_one


def sweep_with_workers(workers: int, config: RunConfig, *, overwrite: bool) -> int:
    """This command line in so many processes, each with a GPU of its own where there are any; the exit code."""
    from finetune_cli.system.launching import launch_workers

    arguments = without_option(sys.argv[1:], "--workers")
    if overwrite:
        from finetune_cli.runs.run_dir import RunDir
        from finetune_cli.runs.sweeps.claims import require_nobody_works

        run = RunDir(config.output_dir)
        require_nobody_works(run.path, run.sweep)
        run.clear()
    return launch_workers([word for word in arguments if word not in ("--overwrite", "--json")], workers)


def _require_processes(count: int) -> None:
    if launched_processes() > 1:
        raise ConfigError(
            "--num-processes starts processes of its own: leave it out under accelerate launch and torchrun."
        )
    require_a_device_for_each(count)


def without_option(arguments: list[str], option: str) -> list[str]:
    """The arguments without `OPTION VALUE` and `OPTION=VALUE`."""
    kept: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == option:
            next(remaining, None)
        elif not argument.startswith(f"{option}="):
            kept.append(argument)
    return kept
