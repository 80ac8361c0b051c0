"""The final model of a cross-validation: trained on all rows, with the folds' scores as its own.

No row is left to score it on, nor to choose among its evaluations. So it makes no choice: it takes as many passes over
the rows as the folds' kept models had taken, and keeps the last update. What its training gives was measured by the
folds, on rows that they had not seen.
"""

from __future__ import annotations

import shutil
import statistics

from finetune_cli.config.fields import RunConfig
from finetune_cli.config.sections.data import Fold
from finetune_cli.errors import ConfigError, MissingError
from finetune_cli.records.evaluation import EvalReport
from finetune_cli.records.folds import FoldsReport
from finetune_cli.runs.fold_rows import SPLIT, read_pooled
from finetune_cli.runs.run_dir import RunDir


def require_folds_to_come(config: RunConfig) -> None:
    """Raise ConfigError when --final has no folds to follow."""
    folds = config.data.folds
    if folds is None or config.training.seeds is not None:
        raise ConfigError("--final trains one model on all rows after the folds. Set data.folds, such as data.folds=5.")
    if folds.fold is not None:
        raise ConfigError(f"--final comes after all folds, and data.folds.fold is {folds.fold}. Take that out.")


def with_fold(config: RunConfig, fold: Fold) -> RunConfig:
    """The config of one of the folds, or of the final model."""
    assert config.data.folds is not None, "called for a config with folds"
    folds = config.data.folds.model_copy(update={"fold": fold})
    return config.model_copy(update={"data": config.data.model_copy(update={"folds": folds})})


def final_config(config: RunConfig, report: FoldsReport) -> RunConfig:
    """The config of the final model, which repeats its training.

    Its length is the median, over the folds, of the passes over the rows that the kept model had taken: with
    metric_for_best null that of the config. The schedule of the learning rate is over that length.
    """
    training = config.training.model_copy(
        update={"num_epochs": kept_epochs(config, report), "max_steps": None, "early_stopping": None}
    )
    evaluation = config.evaluation.model_copy(update={"metric_for_best": None, "gates": ()})
    place = str(RunDir(config.output_dir).final.path)
    update = {"training": training, "evaluation": evaluation, "output_dir": place, "sweep": None}
    return with_fold(config.model_copy(update=update), "final")


def kept_epochs(config: RunConfig, report: FoldsReport) -> float:
    """The median over the folds of the passes over its rows after which a fold's kept model was reached."""
    assert report.pooled is not None, "all folds are finished"
    tested = {
        fold: scored.n for fold, run in report.runs.items() for scored in run.evaluations if scored.split == SPLIT
    }
    per_epoch = {fold: -(-(report.pooled.n - n) // config.training.batch_size) for fold, n in tested.items()}
    return statistics.median(run.best_step / per_epoch[fold] for fold, run in report.runs.items())


def take_scores_of_folds(run: RunDir) -> EvalReport:
    """Put the folds' scores, with each row's answer, beside a final model's. Raises MissingError without them."""
    folds = RunDir(run.path.parent)
    require_folds(run)
    shutil.copytree(folds.evaluation(SPLIT), run.evaluation(SPLIT), dirs_exist_ok=True)
    return read_pooled(run)


def require_folds(run: RunDir) -> None:
    """Raise MissingError when the folds whose scores are to be those of a final model are not beside it."""
    folds = RunDir(run.path.parent)
    if not (folds.evaluation(SPLIT) / "metrics.json").is_file() or not folds.members("fold"):
        raise MissingError(
            f"{run.path}: data.folds.fold is final, and the folds whose scores are those of the final model are not in "
            f"{folds.path}. Train both from the folds' own config: finetune train CONFIG --final"
        )
