"""`--num-processes`: run this command line again in several processes that work together."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from finetune_cli.errors import ConfigError, ExitCode, error_of
from finetune_cli.system.devices import require_a_device_for_each
from finetune_cli.system.launching import launched_processes

if TYPE_CHECKING:
    from finetune_cli.config.fields import RunConfig
    from finetune_cli.records.training import SeedsReport, TrainReport


def train_on_several(config: RunConfig, num_processes: int, *, offline: bool) -> int:
    """Prepare the data once here, then run this command line in `num_processes` processes.

    When another run uses the run directory, the error comes here, before any process is started.
    """
    _refuse_under_a_launcher()
    require_a_device_for_each(num_processes)
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


def train_seeds_on_several(config: RunConfig, num_processes: int, *, overwrite: bool, offline: bool) -> SeedsReport:
    """Train each of `training.seeds` in new processes, so that the failure of one seed does not stop the others."""
    _refuse_under_a_launcher()
    require_a_device_for_each(num_processes)
    import subprocess

    from finetune_cli.commands.seeds import seed_config, train_seeds
    from finetune_cli.config.load import config_diff
    from finetune_cli.runs.rows import prepare_rows
    from finetune_cli.runs.run_dir import RunDir
    from finetune_cli.runs.session import note_failed_launch, read_report
    from finetune_cli.system.launching import launch

    arguments = sys.argv[1:]
    for option in ("--num-processes", "--seeds", "--output-dir"):
        arguments = without_option(arguments, option)

    def train_one(config_of_seed: RunConfig) -> TrainReport:
        run = RunDir(config_of_seed.output_dir)
        finished = run.read_record().is_finished
        changes = [f"--set={key}={json.dumps(value)}" for key, _, value in config_diff(config, config_of_seed)]
        code = launch(
            [argument for argument in arguments if argument != "--overwrite"] + changes,
            num_processes,
            stdout=subprocess.DEVNULL,
        )
        if code != ExitCode.DONE:
            note_failed_launch(run, code)
            raise error_of(code, f"{run.path}: training ended with exit code {code}; the reason is above.")
        return read_report(run, already_finished=finished)

    prepare_rows(seed_config(config, (config.training.seeds or ())[0]), offline=offline)
    return train_seeds(config, train_one, overwrite=overwrite)


def _refuse_under_a_launcher() -> None:
    if launched_processes() > 1:
        raise ConfigError(
            "--num-processes starts processes of its own: leave it out under accelerate launch and torchrun."
        )


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
