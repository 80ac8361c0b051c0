"""The commands that start from a config: prepare, train, validate."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

import typer

from finetune_cli import cli_options as options
from finetune_cli.allocator import keep_freed_memory
from finetune_cli.cli_setup import (
    check_places,
    read_config,
    refuse_with_dry_run,
    show_training,
    shown_when_failed,
    start,
    train_on_several,
    train_seeds_on_several,
    with_output_dir,
    with_seeds,
)
from finetune_cli.errors import ConfigError, ExitCode
from finetune_cli.lean_imports import lean_imports, without_collections
from finetune_cli.signals import end_if_stopped
from finetune_cli.terminal import silence_model_loading

if TYPE_CHECKING:
    from finetune_cli.config import RunConfig


def prepare(
    ctx: typer.Context,
    *,
    config: options.Config,
    overrides: options.Overrides,
    offline: options.Offline = False,
    show: options.Show = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Check the data, tokenise it once, report on it.

    What is tokenised is kept: a second prepare, and train after it, find it by its content.
    """
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json)
    run_config = read_config(config, overrides)
    from finetune_cli.commands.prepare import prepare as run_prepare
    from finetune_cli.commands.prepare import show_examples
    from finetune_cli.tables.prepare import prepare_result

    end_if_stopped()
    prepared = run_prepare(run_config, offline=offline, quiet=True)  # the table says it all
    examples = show_examples(prepared, show) if show else []
    prepare_result(out, prepared.directory, prepared.label_names, prepared.report, examples)


def train(
    ctx: typer.Context,
    *,
    config: options.Config,
    overrides: options.Overrides,
    output_dir: options.OutputDir = None,
    resume: options.Resume = "auto",
    overwrite: options.Overwrite = False,
    num_processes: options.NumProcesses = 1,
    seeds: options.Seeds = None,
    dry_run: options.DryRun = False,
    push: options.Push = False,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> int:
    """Fine-tune; the best model, its scores and its history land in the run directory.

    The same command again goes on where an unfinished run stopped. With --seeds (or training.seeds) the run directory
    gets a run for each, seed-1 and so on, and a summary of their scores.
    """
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json, every_process=True)
    run_config = read_config(config, with_seeds(with_output_dir(overrides, output_dir), seeds))
    if dry_run:
        refuse_with_dry_run(resume=resume, overwrite=overwrite, push=push, num_processes=num_processes)
    from finetune_cli.commands.requirements import require_tools

    require_tools(run_config, push=push)
    if dry_run:
        with _imports_for(run_config):
            from finetune_cli.commands.dry_run import dry_run as run_dry
        from finetune_cli.tables.dry_run import dry_run_result

        end_if_stopped()
        silence_model_loading()
        keep_freed_memory()
        dry_run_result(out, run_dry(run_config, offline=offline))
        return ExitCode.DONE
    show = partial(show_training, out, pair=len(run_config.data.text) == 2)
    if num_processes > 1 and run_config.training.seeds is None:
        return train_on_several(run_config, num_processes, offline=offline)
    if num_processes > 1:
        with shown_when_failed(show):
            show(train_seeds_on_several(run_config, num_processes, overwrite=overwrite, offline=offline))
        return ExitCode.DONE
    check_places(run_config)
    with _imports_for(run_config):
        from finetune_cli.commands.train import train as run_train

        if run_config.training.loop == "trainer":
            from finetune_cli.training import trainer_loop  # noqa: F401 - here, where imports are quick
    from finetune_cli.progress import training_display

    end_if_stopped()
    silence_model_loading()
    keep_freed_memory()
    display = training_display(run_config.evaluation.metric_for_best, shown=out.enabled and not quiet)
    with shown_when_failed(show):
        with display as listen:
            report = run_train(
                run_config, resume=resume, overwrite=overwrite, push=push, offline=offline, listen=listen
            )
        show(report)
    return ExitCode.DONE


def validate(
    ctx: typer.Context,
    *,
    config: options.Config,
    overrides: options.Overrides,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Show every mistake in a config at once, in a moment."""
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json)
    from finetune_cli.commands.validate import validate as run_validate
    from finetune_cli.tables.validate import validate_result

    try:
        checked = run_validate(config, overrides)
    except ConfigError as err:
        if json:
            validate_result(out, config, None, err.problems)
        raise
    validate_result(out, config, checked, ())


def _imports_for(config: RunConfig) -> AbstractContextManager[None]:
    """Lean, unless settings hand the run to parts of Trainer, or to code, that may ask for any library."""
    if config.training.trainer_args or config.model.trust_remote_code:
        return without_collections()
    return lean_imports(adapters=config.model.lora is not None, compiler=bool(config.training.compile))
