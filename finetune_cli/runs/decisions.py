"""The decision rule of a trained model: what `evaluate --fit` asks for, and the files that hold it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_cli.errors import ConfigError
from finetune_cli.records.decision_rule import DECISION_FILE, THRESHOLD_METRICS, DecisionRule
from finetune_cli.runs.target import Target
from finetune_cli.system.files import replacing, write_json
from finetune_cli.tasks import KIND_SPECS, Kind

FITS = ("temperature", "threshold", "none")
CARD_HEADING = "## Decision rule\n"


@dataclass(frozen=True)
class FitRequest:
    """What to fit; metric: the one that thresholds are to be best for, None for no threshold."""

    temperature: bool
    metric: str | None

    @property
    def removes(self) -> bool:
        return not self.temperature and self.metric is None


def parse_fit(fit: Sequence[str], metric: str | None, found: Target, data: Path | str | None) -> FitRequest | None:
    """What `--fit` and `--for` ask of this target; None when nothing. Raises ConfigError for what cannot be fitted."""
    if wrong := [name for name in fit if name not in FITS]:
        raise ConfigError(f"--fit {wrong[0]!r}: expected {', '.join(FITS[:-1])} or {FITS[-1]}.")
    if metric is not None and "threshold" not in fit:
        raise ConfigError("--for names the metric that a threshold is fitted for. Add --fit threshold.")
    if not fit:
        return None
    if "none" in fit and len(set(fit)) > 1:
        raise ConfigError("--fit none removes the decision rule, and goes with no other --fit.")
    if found.run is None or found.config is None:
        raise ConfigError(
            f"--fit takes the validation split of a run, and {found.model_dir} is a model without one. Name the run."
        )
    if not os.access(found.model_dir, os.W_OK):
        raise ConfigError(
            f"--fit writes {DECISION_FILE} into {found.model_dir}, which is not writable. Fit it in a copy of the run."
        )
    if "none" in fit:
        return FitRequest(temperature=False, metric=None)
    kind = found.config.spec.kind
    if not KIND_SPECS[kind].has_classes:
        raise ConfigError("--fit is for tasks with classes, and this task is regression. Leave it out.")
    if data is not None:
        raise ConfigError("--fit takes the validation split, --data scores a file. Fit first, then score the file.")
    evaluation = found.config.evaluation
    chosen = _metric(metric, evaluation.metric_for_best or evaluation.metrics[0], kind) if "threshold" in fit else None
    return FitRequest("temperature" in fit, chosen)


def _metric(asked: str | None, best: str, kind: Kind) -> str:
    """The metric that thresholds are fitted for: the one asked for, else the one that chose the model."""
    metric, possible = asked or best, THRESHOLD_METRICS[kind]
    if metric not in possible:
        chosen = "" if asked else ", the metric that chose this model"
        raise ConfigError(f"--for {metric}{chosen}: no threshold is fitted for it. Name one of: {', '.join(possible)}.")
    return metric


def require_possible(
    request: FitRequest | None, min_confidence: float | None, classes: Sequence[str] | None, kind: Kind
) -> None:
    """Raise ConfigError for a threshold, or a `--min-confidence`, that a model with these classes cannot have."""
    several = KIND_SPECS[kind].several_labels
    if several and min_confidence is not None:
        raise ConfigError("--min-confidence is for one class a row, and this model gives several. Leave it out.")
    thresholds = request is not None and request.metric is not None
    if thresholds and not several and len(classes or ()) != 2:
        raise ConfigError(
            f"--fit threshold is for two classes, where one number decides; this model has {len(classes or ())}. "
            "--fit temperature works for any number."
        )
    if min_confidence is None:
        return
    if classes is None:
        raise ConfigError("--min-confidence is for classes, and this model predicts a number. Leave it out.")
    if not 0 <= min_confidence <= 1:
        raise ConfigError(f"--min-confidence {min_confidence}: expected a probability, from 0 to 1.")


def store_rule(model_dir: Path, rule: DecisionRule | None) -> None:
    """Put the rule beside the weights and into the model card; None removes it from both."""
    if rule is None:
        (model_dir / DECISION_FILE).unlink(missing_ok=True)
    else:
        write_json(model_dir / DECISION_FILE, rule.to_json())
    card = model_dir / "README.md"
    if card.is_file():
        text, _, rest = card.read_text(encoding="utf-8").partition(f"\n{CARD_HEADING}")
        _, heading, after = rest.partition("\n## ")
        with replacing(card) as file:
            file.write(text + heading + after + (f"\n{CARD_HEADING}\n{_in_words(rule)}\n" if rule else ""))


def _in_words(rule: DecisionRule) -> str:
    """How to get the same answers without this package."""
    steps = []
    if rule.temperature is not None:
        steps.append(f"divide the logits by {rule.temperature:.6g} before softmax or sigmoid")
    if rule.thresholds:
        above = ", ".join(f"`{name}` {value:.6g}" for name, value in rule.thresholds.items())
        steps.append(f"answer a class where its probability is above its threshold ({above})")
    return (
        f"`finetune` obeys `{DECISION_FILE}`, fitted on {rule.n} rows of {rule.split}; plain transformers does not. By "
        f"hand: {', then '.join(steps)}."
    )
