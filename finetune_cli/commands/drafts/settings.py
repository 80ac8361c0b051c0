"""The sections of a config that `init` writes: each value from what the data show, with the reason beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune_cli.commands.drafts.lengths import Lengths
from finetune_cli.commands.drafts.usable_data import UsableData
from finetune_cli.config.draft import Draft
from finetune_cli.data.checks.labels import as_seen
from finetune_cli.data.survey.proof import CHECKS, Proof
from finetune_cli.data.survey.roles import Roles
from finetune_cli.errors import DataError, counted
from finetune_cli.tasks import TaskSpec

CLASSES_SHOWN = 8
IMBALANCE = 1.5  # times as many rows in the largest class: from here on accuracy favours it
SMALL, LARGE, HUGE = 1_000, 50_000, 300_000  # rows of train
UPDATES_BETWEEN = 1_000  # evaluations, where an epoch is long
ENOUGH_TO_SCORE = 10_000  # validation rows: more narrow the interval hardly


def with_validation(usable: UsableData, roles: Roles, proof: Proof) -> UsableData:
    """With a part of train for validation where the data have none. Raises DataError when that cannot be."""
    if "validation" in usable.present:
        return usable
    if proof.rows < 2 or (proof.classes and roles.kind == "classification" and max(proof.classes.values()) < 2):
        raise DataError(
            f"{usable.train.where}: {counted(proof.rows, 'row', form=',')}, and no class has two. Training "
            f"needs at least two rows of a class: one to learn from, one to score. Add rows."
        )
    return replace(usable, splits={**usable.splits, "validation": _share(proof.rows)})


def _share(rows: int) -> float:
    if rows < 100:
        return 0.3
    if rows < SMALL:
        return 0.2
    return float(f"{min(0.1, ENOUGH_TO_SCORE / rows):.1g}")


def data_section(draft: Draft, usable: UsableData, roles: Roles, proof: Proof, lengths: Lengths) -> None:
    draft.section("data")
    rows = counted(proof.rows, "row", form=",") + (" to train on" if len(usable.present) > 1 else "")
    draft.put("path", usable.path, rows, ask=usable.ask)
    if usable.name:
        draft.put("name", usable.name, "as --name says")
    _put_splits(draft, usable, roles, proof)
    text: Any = roles.text[0] if len(roles.text) == 1 else list(roles.text)
    draft.put("text", text, roles.why["text"], ask=roles.questions.get("text", ""))
    label: Any = roles.label if isinstance(roles.label, str) else list(roles.label)
    ask = "; ".join(filter(None, (roles.questions.get("label"), _same_twice(proof.classes))))
    draft.put("label", label, roles.why["label"] + _class_counts(proof.classes), ask=ask)
    if roles.labels:
        draft.put("labels", list(roles.labels), "in the order of their numbers", ask=roles.questions.get("labels", ""))
    if roles.unlabelled:
        draft.put("unlabelled", "drop", f"{counted(roles.unlabelled, 'row', form=',')} without a label to leave out")
    if roles.id:
        draft.put("id", roles.id, roles.why["id"])
    draft.put("max_length", lengths.max_length, lengths.why)
    _put_checks(draft, proof, len(usable.present) > 1)


def _put_splits(draft: Draft, usable: UsableData, roles: Roles, proof: Proof) -> None:
    if not usable.splits:
        return
    share = usable.splits.get("validation")
    why = "the files by their names"
    if isinstance(share, float):
        drawn = "stratified by class, drawn by the seed" if proof.classes else "drawn by the seed"
        why = f"about {counted(max(1, round(share * proof.rows)), 'row', form=',')} of train to score on: {drawn}"
    draft.put("splits", dict(usable.splits), why, ask=roles.questions.get("splits", ""))


def _class_counts(classes: Mapping[str, int]) -> str:
    if not classes:
        return ""
    shown = ", ".join(f"{name} {count:,}" for name, count in list(classes.items())[:CLASSES_SHOWN])
    more = f" ... ({len(classes)} classes)" if len(classes) > CLASSES_SHOWN else ""
    return f"; rows of each class: {shown}{more}"


def _same_twice(classes: Iterable[str]) -> str:
    """A question about class names that look alike: case, blanks and other ways to write one letter aside."""
    spellings: dict[str, list[str]] = {}
    for name in classes:
        spellings.setdefault(as_seen(name), []).append(name)
    alike = [" and ".join(map(repr, names)) for names in spellings.values() if len(names) > 1]
    return f"are {', '.join(alike)} one class? They are several now: write each in one way" if alike else ""


def _put_checks(draft: Draft, proof: Proof, several: bool) -> None:
    """What was found is a warning with its number; what is clean and should stay so stops a later run."""
    checks: dict[str, tuple[Any, str]] = {}
    for name, check in CHECKS.items():
        if count := proof.faulty[name]:
            checks[name] = ("warn", f"{counted(count, 'row', form=',')} {check.rows}")
        elif check.clean and not several:
            checks[name] = ("error", f"{check.clean} now; a later file with such rows is refused")
    if checks:
        draft.nested("checks", checks)


def batch_size(rows: int) -> int:
    """Rows an update for so many rows of train: few rows want many updates."""
    return 8 if rows < 2_000 else 16 if rows < LARGE else 32


def training_section(draft: Draft, roles: Roles, proof: Proof, *, rows: int) -> None:
    """rows: of train, which an epoch goes through."""
    batch = batch_size(rows)
    epochs = 10 if rows < 500 else 5 if rows < SMALL else 3 if rows < LARGE else 2 if rows < HUGE else 1
    updates = -(-rows // batch)
    draft.section("training")
    more = ": few rows want more" if rows < SMALL else ""
    draft.put("num_epochs", epochs, f"passes over {counted(rows, 'row', form=',')}{more}")
    draft.put("batch_size", batch, f"{counted(updates, 'update', form=',')} an epoch")
    draft.put("learning_rate", 5e-5, "1e-5 to 1e-4 are worth a try")
    if updates * epochs >= 500:
        draft.put("warmup_steps", 0.06, "a share of all updates", told=False)
    if _ratio(proof.classes) >= IMBALANCE and roles.kind != "regression":
        draft.note("class_weights: balanced # rare classes weigh as much as frequent ones")
    if epochs >= 5:
        draft.put("early_stopping", {"patience": 3}, "three evaluations without a better score end the run", told=False)
    if updates > 2 * UPDATES_BETWEEN:
        draft.section("checkpointing")
        draft.put("every", UPDATES_BETWEEN, "updates; an interrupted run goes on from there", told=False)


def _ratio(classes: Mapping[str, int]) -> float:
    counts = [count for count in classes.values() if count] or [1]
    return max(counts) / min(counts)


def evaluation_section(
    draft: Draft, roles: Roles, proof: Proof, preset: TaskSpec | None, *, updates_an_epoch: int
) -> None:
    draft.section("evaluation")
    if updates_an_epoch > 2 * UPDATES_BETWEEN:
        draft.put("every", UPDATES_BETWEEN, "updates; an epoch is long", told=False)
    if preset is not None and preset.path:
        draft.put("metric_for_best", preset.metric_for_best, "the task's own")
    elif roles.kind == "classification":
        _put_class_metrics(draft, proof)
    elif roles.kind == "multilabel":
        draft.put("metrics", ["f1_micro", "f1_macro", "accuracy"], "accuracy: all labels of the row right")
        draft.put("metric_for_best", "f1_micro", "every label counts alike; f1_macro: every class")
    else:
        draft.put("metrics", ["pearson", "spearman", "mse"])
        draft.put("metric_for_best", "pearson", "or mse, where the number itself has to be right")


def _put_class_metrics(draft: Draft, proof: Proof) -> None:
    ratio = _ratio(proof.classes)
    if ratio >= IMBALANCE:
        share = max(proof.classes.values()) / sum(proof.classes.values())
        why = f"every class counts alike; the commonest alone would make accuracy {share:.3f}"
        draft.put("metrics", ["accuracy", "f1_macro", "matthews"])
        draft.put("metric_for_best", "f1_macro", why)
    else:
        draft.put("metrics", ["accuracy", "f1_macro"])
        draft.put("metric_for_best", "accuracy", "the classes have about as many rows each")


def output_section(draft: Draft, data: str) -> str:
    """The end of the config; returns the run directory."""
    stem = Path(data).name.partition(".")[0].removeprefix("builtin:") or "data"
    run = f"runs/{re.sub(r'[^A-Za-z0-9_-]+', '-', stem).strip('-') or 'data'}"
    draft.section("")
    draft.put("output_dir", run, "the model, its scores and the report land here")
    draft.put("seed", 42, told=False)
    return run
