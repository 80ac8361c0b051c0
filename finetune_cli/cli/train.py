"""`finetune train`."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from finetune_cli.cli import options
from finetune_cli.cli.processes import holds_several_runs, train_each_on_several, train_on_several
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
from finetune_cli.system.group import leaving_group
from finetune_cli.system.lean_imports import lean_imports, without_garbage_collection

if TYPE_CHECKING:
    from finetune_cli.config.fields import RunConfig
    from finetune_cli.records.folds import FoldsReport
    from finetune_cli.records.learning_curve import CurveReport
    from finetune_cli.records.training import SeedsReport, TrainReport

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
    options.run_option("--resume auto|never|PATH", "Go on from the newest checkpoint, never, or from this one."),
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
Seeds = Annotated[
    str | None,
    options.run_option(
        "--seeds N,N,...", "Train once with each of these seeds, such as 1,2,3, and report mean and spread."
    ),
]
LearningCurve = Annotated[
    str | None,
    options.run_option(
        "--learning-curve S,S,...",
        "Train once with each of these shares of train, such as 0.1,0.2,0.4,0.7,1, and say what more data would bring.",
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

SHARES = "rising shares of train with commas between them, such as 0.1,0.2,0.4,0.7,1"
WHOLE, DECIMAL = r"\d+", r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?"


@command(every_process=True)
def train(
    out: Output,
    *,
    config: options.Config,
    overrides: options.Overrides,
    output_dir: options.OutputDir = None,
    resume: Resume = "auto",
    overwrite: Overwrite = False,
    num_processes: options.NumProcesses = 1,
    seeds: Seeds = None,
    learning_curve: LearningCurve = None,
    final: Final = False,
    dry_run: DryRun = False,
    push: Push = False,
    offline: options.Offline = False,
) -> int:
    """Fine-tune; the best model, its scores and its history land in the run directory.

    The same command again goes on where an unfinished run stopped. With --seeds (or training.seeds) the run directory
    gets a run for each, seed-1 and so on, and a summary of their scores; with data.folds one for each fold, fold-1 and
    so on, and the scores of all rows (--final adds a model of all rows); with --learning-curve (or
    training.learning_curve) one for each share of train, share-0.1 and so on, and what twice the rows would bring.
    """
    changes = [
        *with_output_dir(overrides, output_dir),
        *_numbers("seeds", seeds, WHOLE, int, "whole numbers with commas between them, such as 1,2,3"),
        *_numbers("learning-curve", learning_curve, DECIMAL, float, SHARES),
    ]
    run_config = read_config(config, changes)
    if run_config.training.learning_curve and num_processes > 1:
        raise ConfigError("A learning curve trains in one process. Leave out --num-processes.")
    if dry_run:
        _refuse_with_dry_run(resume=resume, overwrite=overwrite, push=push, final=final, num_processes=num_processes)
    from finetune_cli.runs.requirements import require_tools

    require_tools(run_config, push=push)
    if dry_run:
        _dry_run(out, run_config, offline=offline)
        return ExitCode.DONE
    if num_processes > 1 and not holds_several_runs(run_config):
        return train_on_several(run_config, num_processes, offline=offline)
    show = partial(_show, out, pair=len(run_config.data.text) == 2)
    given: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "final": final, "offline": offline}
    if num_processes > 1:
        with shown_when_failed(show):
            show(_train_in_groups(out, run_config, num_processes, **given))
    else:
        with leaving_group(), shown_when_failed(show):
            show(_train_here(out, run_config, push=push, **given))
    return ExitCode.DONE


def _numbers(option: str, text: str | None, form: str, number: type[float], expected: str) -> list[str]:
    """`--seeds 1,2,3` and the like as a `--set`. Raises ConfigError for other than numbers of this form and commas."""
    if text is None:
        return []
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(form, word) for word in words):
        raise ConfigError(f"--{option} {text!r}: expected {expected}.")
    return [f"training.{option.replace('-', '_')}=[{', '.join(str(number(word)) for word in words)}]"]


def _refuse_with_dry_run(*, resume: str, overwrite: bool, push: bool, final: bool, num_processes: int) -> None:
    if num_processes > 1:
        raise ConfigError("--dry-run measures one process. Leave out --num-processes.")
    if overwrite or resume != "auto":
        raise ConfigError("--dry-run leaves the run directory alone. Leave out --overwrite and --resume.")
    if final:
        raise ConfigError("--dry-run measures one of the folds. Leave out --final.")
    if push:
        raise ConfigError("--dry-run trains nothing to upload. Leave out --push.")


def _dry_run(out: Output, config: RunConfig, *, offline: bool) -> None:
    with _imports_for(config):
        from finetune_cli.commands.dry_run import dry_run
    from finetune_cli.display.tables.dry_run import dry_run_result

    before_computing()
    dry_run_result(out, dry_run(config, offline=offline))


def _train_here(out: Output, config: RunConfig, **given: Any) -> TrainReport | SeedsReport | FoldsReport | CurveReport:
    """Train in this process, or in those that a launcher started. given: further arguments of `commands.train`."""
    check_places(config)
    with _imports_for(config):
        from finetune_cli.commands.train import train

        if config.training.loop == "trainer":
            from finetune_cli.training import trainer_loop  # noqa: F401 - here, where imports are quick
    from finetune_cli.display.progress import training_display

    before_computing()
    with training_display(shown=out.enabled and not out.quiet) as listen:
        return train(config, listen=listen, **given)


def _train_in_groups(
    out: Output, config: RunConfig, num_processes: int, *, resume: str, **given: bool
) -> SeedsReport | FoldsReport:
    """Train each seed or fold in processes of its own, which are told the same options."""
    words = {"--quiet": out.quiet, "--verbose": out.verbose, f"--resume={resume}": resume != "auto"}
    switches = [word for word, is_given in words.items() if is_given]
    return train_each_on_several(config, num_processes, switches=switches, **given)


def _imports_for(config: RunConfig) -> AbstractContextManager[None]:
    """Lean imports; all of torch and transformers when a setting runs code that may need any part of them."""
    if config.training.trainer_args or config.model.trust_remote_code:
        return without_garbage_collection()
    return lean_imports(adapters=config.model.lora is not None, compiler=bool(config.training.compile))


def _show(out: Output, report: TrainReport | SeedsReport | FoldsReport | CurveReport, *, pair: bool) -> None:
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
