"""A cross-validation's rows, each as the fold answered it that had not trained on it, and the final model of all rows.

No row is left to score the final model on, nor to choose among its evaluations. So it makes no choice: it takes as many
passes over the rows as the folds' kept models had taken, and keeps the last update. What its training gives was
measured by the folds, on rows that they had not seen.

Dimensions: N rows, C classes.
"""

from __future__ import annotations

import shutil
import statistics
from dataclasses import replace

import numpy as np

from finetune_cli.config.changes import changed
from finetune_cli.config.fields import RunConfig
from finetune_cli.data.folds import Folds, folds_of_rows
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import ConfigError, MissingError
from finetune_cli.evaluation.scoring import predictions, score_split, write_evaluation
from finetune_cli.records.evaluation import EvalReport, of_split
from finetune_cli.records.folds import FoldsReport
from finetune_cli.runs.answers import read_answers
from finetune_cli.runs.candidates import SPLIT, write_only_candidate
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.scoring import scoring_rules
from finetune_cli.runs.sources import data_sources

LEAST = 1e-15  # the nearest to 0 and 1 that a probability counts as, so that its logit is finite


def pool_folds(config: RunConfig, prepared: PreparedData, *, offline: bool) -> EvalReport:
    """Write eval/validation/ of the directory of all folds, with the first repeat's answer to every row.

    config: with all folds. prepared: its rows, of which the split "validation" has all. Raises MissingError when the
    folds' predictions are not those of these rows.
    """
    run, rules, rows = RunDir(config.output_dir), scoring_rules(config, prepared), prepared.splits[SPLIT]
    logits, labels = _pooled_logits(config, prepared, run, offline=offline), rows.known_labels()
    assert config.data.folds is not None, "there are folds to pool"
    report = replace(score_split(SPLIT, logits, labels, rules, train_labels=labels), folds=config.data.folds.n)
    answers = predictions(rows.ids, logits, kind=rules.kind, label_names=rules.label_names, labels=labels)
    write_evaluation(run.evaluation(SPLIT), report, answers)
    write_only_candidate(run, config, prepared, logits)
    return report


def _pooled_logits(config: RunConfig, prepared: PreparedData, run: RunDir, *, offline: bool) -> np.ndarray:
    """Logits (N, C) that give the probabilities which the folds have written."""
    assert config.data.folds is not None, "there are folds to pool"
    folds = Folds(**config.data.folds.model_dump())
    train = data_sources(config, offline=offline)["train"]
    dealt = folds_of_rows(train, folds, label=config.data.label, kind=prepared.kind)
    dealt = dealt[dealt >= 0]
    ids = np.array(prepared.splits[SPLIT].ids[:], dtype=object)
    logits = np.empty((len(ids), len(prepared.label_names or ("value",))))
    for fold in range(folds.n):
        member, rows = run.member("fold", fold + 1), np.flatnonzero(dealt == fold)
        answers = read_answers(member.predictions(SPLIT))
        if len(dealt) != len(ids) or answers.ids != ids[rows].tolist() or answers.classes != prepared.label_names:
            raise MissingError(
                f"{member.path}: its predictions are not about the rows that the config names. Start anew with "
                "--overwrite."
            )
        if answers.probabilities is None:
            logits[rows] = answers.predictions[:, None]
        else:
            probabilities = np.clip(answers.probabilities, LEAST, 1)
            rest = np.clip(1 - answers.probabilities, LEAST, 1) if prepared.kind == "multilabel" else 1.0
            logits[rows] = np.log(probabilities / rest)
    return logits


def require_folds_to_come(config: RunConfig) -> None:
    """Raise ConfigError when --final has no folds to follow."""
    folds = config.data.folds
    if folds is None or config.training.seeds is not None:
        raise ConfigError("--final trains one model on all rows after the folds. Set data.folds, such as data.folds=5.")
    if folds.fold is not None:
        raise ConfigError(f"--final comes after all folds, and data.folds.fold is {folds.fold}. Take that out.")


def final_config(config: RunConfig, report: FoldsReport) -> RunConfig:
    """The config of the final model, which repeats its training.

    Its length is the median, over the folds, of the passes over the rows that the kept model had taken: with
    metric_for_best null that of the config. The schedule of the learning rate is over that length.
    """
    return changed(
        config,
        {
            "training.num_epochs": _kept_epochs(config, report),
            "training.max_steps": None,
            "training.early_stopping": None,
            "evaluation.metric_for_best": None,
            "evaluation.gates": (),
            "output_dir": str(RunDir(config.output_dir).final.path),
            "sweep": None,
            "data.folds.fold": "final",
        },
    )


def _kept_epochs(config: RunConfig, report: FoldsReport) -> float:
    """The median over the folds of the passes over its rows after which a fold's kept model was reached."""
    assert report.pooled is not None, "all folds are finished"
    epochs = []
    for run in report.runs.values():
        train_rows = report.pooled.n - of_split(run.evaluations).n
        epochs.append(run.best_step / -(-train_rows // config.training.batch_size))
    return statistics.median(epochs)


def take_scores_of_folds(run: RunDir) -> EvalReport:
    """Put the folds' scores, with each row's answer, beside a final model's. Raises MissingError without them."""
    folds = RunDir(run.path.parent)
    require_folds(run)
    shutil.copytree(folds.evaluation(SPLIT), run.evaluation(SPLIT), dirs_exist_ok=True)
    return run.read_scores(SPLIT)


def require_folds(run: RunDir) -> None:
    """Raise MissingError when the folds whose scores are to be those of a final model are not beside it."""
    folds = RunDir(run.path.parent)
    if not (folds.evaluation(SPLIT) / "metrics.json").is_file() or not folds.members("fold"):
        raise MissingError(
            f"{run.path}: data.folds.fold is final, and the folds whose scores are those of the final model are not in "
            f"{folds.path}. Train both from the folds' own config: finetune train CONFIG --final"
        )
