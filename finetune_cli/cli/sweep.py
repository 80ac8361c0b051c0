"""`finetune sweep`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from finetune_cli.cli import options
from finetune_cli.cli.processes import sweep_on_several, sweep_with_workers
from finetune_cli.cli.start import (
    before_computing,
    check_places,
    command,
    read_config,
    shown_when_failed,
    with_output_dir,
)
from finetune_cli.display.terminal import Output
from finetune_cli.errors import ConfigError, ExitCode
from finetune_cli.system.launching import launched_processes
from finetune_cli.system.lean_imports import without_garbage_collection
from finetune_cli.system.signals import end_if_stopped

if TYPE_CHECKING:
    from finetune_cli.config.fields import RunConfig

EXAMPLES = """\
finetune sweep my_sweep.yaml
finetune sweep my_sweep.yaml -s sweep.trials=40
finetune sweep configs/mrpc.yaml --search search.yaml
finetune sweep my_sweep.yaml --workers 2"""

SearchFile = Annotated[
    Path | None,
    options.input_option(
        "--search FILE",
        "A file with the section sweep, in place of one in CONFIG.",
        callback=options.in_home_or_none,
    ),
]
Overwrite = Annotated[bool, options.run_option("--overwrite", "Delete the trials that are there, and start anew.")]
Workers = Annotated[int, options.run_option("--workers N", "Train N trials side by side, one GPU each.", min=1)]


@command()
def sweep(
    out: Output,
    *,
    config: options.Config,
    overrides: options.Overrides,
    search: SearchFile = None,
    output_dir: options.OutputDir = None,
    overwrite: Overwrite = False,
    workers: Workers = 1,
    num_processes: options.NumProcesses = 1,
    offline: options.Offline = False,
) -> int:
    """Search settings; each trial is an ordinary run in the run directory, trial-0 and so on.

    The section sweep of the config, or a file named with --search, says what is searched. The same command again goes
    on where a stopped or killed sweep was; started on several machines with one file system, they share the trials.
    """
    run_config = read_config(config, with_output_dir(overrides, output_dir), search=search)
    _require_sense(run_config, workers=workers, num_processes=num_processes)
    from finetune_cli.runs.requirements import require_search, require_tools

    require_search(run_config)
    require_tools(run_config, push=False)
    check_places(run_config)
    end_if_stopped()
    if workers > 1:
        code = sweep_with_workers(workers, run_config, overwrite=overwrite)
        overwrite = False
        if code in (ExitCode.NOT_FINISHED, ExitCode.INTERRUPTED):
            return code
    train_one = sweep_on_several(num_processes, offline=offline) if num_processes > 1 else None
    with without_garbage_collection():
        from finetune_cli.commands.sweep import sweep as run_sweep
    from finetune_cli.display.progress import training_display
    from finetune_cli.display.tables.sweep import sweep_result

    before_computing()
    show = partial(out.result, table=sweep_result)
    with shown_when_failed(show):
        with training_display(shown=out.enabled and not out.quiet) as listen:
            report = run_sweep(run_config, overwrite=overwrite, offline=offline, listen=listen, train_one=train_one)
        show(report)
    return ExitCode.DONE


def _require_sense(config: RunConfig, *, workers: int, num_processes: int) -> None:
    if launched_processes() > 1:
        raise ConfigError(
            "Start finetune sweep without a launcher: --num-processes N trains each trial on N processes."
        )
    if config.sweep is not None and config.sweep.pruner != "none" and num_processes > 1:
        raise ConfigError("--num-processes: sweep.pruner follows trials in this process alone. Set it to none.")
    if workers > 1 and num_processes > 1:
        raise ConfigError("--workers and --num-processes share the same GPUs. Choose one.")
