"""`finetune train`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from finetune_cli.cli import options
from finetune_cli.cli.processes import holds_several_runs, train_each_on_several, train_on_several
from finetune_cli.cli.start import (
    before_computing,
    check_places,
    read_config,
    refuse_with_dry_run,
    show_training,
    shown_when_failed,
    start,
    with_output_dir,
    with_seeds,
    with_shares,
)
from finetune_cli.errors import ConfigError, ExitCode
from finetune_cli.system.group import leaving_group
from finetune_cli.system.lean_imports import lean_imports, without_garbage_collection

if TYPE_CHECKING:
    from finetune_cli.config.fields import RunConfig

EXAMPLES = """\
finetune train configs/quickstart.yaml
finetune train configs/mrpc.yaml -s seed=1 --output-dir runs/mrpc-seed1
finetune train configs/mrpc.yaml --seeds 1,2,3,4,5
finetune train configs/mrpc.yaml --learning-curve 0.1,0.2,0.4,0.7,1
finetune train configs/mrpc.yaml -s data.folds=5 --final
finetune train configs/mrpc.yaml --num-processes 2
finetune train configs/mrpc.yaml --dry-run
finetune train configs/mrpc.yaml --push -s hub.repo_id=user/name"""

Resume = Annotated[
    str,
    options.run_option(
        "--resume", "Go on from the newest checkpoint, never, or from this one.", metavar="auto|never|PATH"
    ),
]

Overwrite = Annotated[bool, options.run_option("--overwrite", "Delete what the run directory holds, and start anew.")]

DryRun = Annotated[
    bool,
    options.run_option(
        "--dry-run",
        "Make a few updates on a model that is thrown away, and print time and memory of the whole run. Nothing is "
        "written but the tokenised rows, which train finds again.",
    ),
]

NumProcesses = Annotated[
    int,
    options.run_option(
        "--num-processes", "Train on N processes of this machine, one for each GPU.", metavar="N", min=1
    ),
]

Seeds = Annotated[
    str | None,
    options.run_option(
        "--seeds",
        "Train once with each of these seeds, such as 1,2,3, and report mean and spread.",
        metavar="N,N,...",
        show_default=False,
    ),
]

LearningCurve = Annotated[
    str | None,
    options.run_option(
        "--learning-curve",
        "Train once with each of these shares of train, such as 0.1,0.2,0.4,0.7,1, and say what more data would bring.",
        metavar="S,S,...",
        show_default=False,
    ),
]

Final = Annotated[
    bool,
    options.run_option(
        "--final", "After the folds of data.folds, train one model on all rows, into final/; the folds' scores are its."
    ),
]

Push = Annotated[
    bool,
    options.run_option("--push", "Upload the model to hub.repo_id after training, again if it was uploaded before."),
]


def train(
    ctx: typer.Context,
    *,
    config: options.Config,
    overrides: options.Overrides,
    output_dir: options.OutputDir = None,
    resume: Resume = "auto",
    overwrite: Overwrite = False,
    num_processes: NumProcesses = 1,
    seeds: Seeds = None,
    learning_curve: LearningCurve = None,
    final: Final = False,
    dry_run: DryRun = False,
    push: Push = False,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> int:
    """Fine-tune; the best model, its scores and its history land in the run directory.

    The same command again goes on where an unfinished run stopped. With --seeds (or training.seeds) the run directory
    gets a run for each, seed-1 and so on, and a summary of their scores; with data.folds one for each fold, fold-1 and
    so on, and the scores of all rows (--final adds a model of all rows); with --learning-curve (or
    training.learning_curve) one for each share of train, share-0.1 and so on, and what twice the rows would bring.
    """
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json, every_process=True)
    changes = with_shares(with_seeds(with_output_dir(overrides, output_dir), seeds), learning_curve)
    run_config = read_config(config, changes)
    if run_config.training.learning_curve and num_processes > 1:
        raise ConfigError("A learning curve trains in one process. Leave out --num-processes.")
    if dry_run:
        refuse_with_dry_run(resume=resume, overwrite=overwrite, push=push, final=final, num_processes=num_processes)
    from finetune_cli.runs.requirements import require_tools

    require_tools(run_config, push=push)
    if dry_run:
        with _imports_for(run_config):
            from finetune_cli.commands.dry_run import dry_run as run_dry
        from finetune_cli.display.tables.dry_run import dry_run_result

        before_computing()
        dry_run_result(out, run_dry(run_config, offline=offline))
        return ExitCode.DONE
    show = partial(show_training, out, pair=len(run_config.data.text) == 2)
    if num_processes > 1 and not holds_several_runs(run_config):
        return train_on_several(run_config, num_processes, offline=offline)
    if num_processes > 1:
        with shown_when_failed(show):
            words = {"--quiet": quiet, "--verbose": verbose, f"--resume={resume}": resume != "auto"}
            switches = [word for word, is_given in words.items() if is_given]
            show(
                train_each_on_several(
                    run_config, num_processes, final=final, overwrite=overwrite, offline=offline, switches=switches
                )
            )
        return ExitCode.DONE
    check_places(run_config)
    with _imports_for(run_config):
        from finetune_cli.commands.train import train as run_train

        if run_config.training.loop == "trainer":
            from finetune_cli.training import trainer_loop  # noqa: F401 - here, where imports are quick
    from finetune_cli.display.progress import training_display

    before_computing()
    display = training_display(shown=out.enabled and not quiet)
    with leaving_group(), shown_when_failed(show):
        with display as listen:
            report = run_train(
                run_config,
                resume=resume,
                overwrite=overwrite,
                push=push,
                offline=offline,
                listen=listen,
                final=final,
            )
        show(report)
    return ExitCode.DONE


def _imports_for(config: RunConfig) -> AbstractContextManager[None]:
    """Lean imports; all of torch and transformers when a setting runs code that may need any part of them."""
    if config.training.trainer_args or config.model.trust_remote_code:
        return without_garbage_collection()
    return lean_imports(adapters=config.model.lora is not None, compiler=bool(config.training.compile))
