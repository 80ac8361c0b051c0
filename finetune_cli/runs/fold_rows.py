"""The rows of a cross-validation, each as the fold answered it that had not trained on it, as one evaluation.

Dimensions: N rows, C classes.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from finetune_cli.config.fields import RunConfig
from finetune_cli.data.folds import Folds, folds_of_rows
from finetune_cli.data.prepared import PreparedData
from finetune_cli.errors import MissingError
from finetune_cli.evaluation.scoring import predictions, score_split, write_evaluation
from finetune_cli.records.evaluation import EvalReport
from finetune_cli.runs.answers import read_answers
from finetune_cli.runs.candidates import write_only_candidate
from finetune_cli.runs.rows import data_sources
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.scoring import scoring_rules

SPLIT = "validation"
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


def read_pooled(run: RunDir) -> EvalReport:
    """The scores that `pool_folds` has written."""
    return EvalReport.from_json(json.loads((run.evaluation(SPLIT) / "metrics.json").read_text(encoding="utf-8")))


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
        one, rows = run.member("fold", fold + 1), np.flatnonzero(dealt == fold)
        answers = read_answers(one.evaluation(SPLIT) / "predictions.jsonl")
        if len(dealt) != len(ids) or answers.ids != ids[rows].tolist() or answers.classes != prepared.label_names:
            raise MissingError(
                f"{one.path}: its predictions are not about the rows that the config names. Start anew with "
                "--overwrite."
            )
        if answers.probabilities is None:
            logits[rows] = answers.predictions[:, None]
        else:
            probabilities = np.clip(answers.probabilities, LEAST, 1)
            rest = np.clip(1 - answers.probabilities, LEAST, 1) if prepared.kind == "multilabel" else 1.0
            logits[rows] = np.log(probabilities / rest)
    return logits
