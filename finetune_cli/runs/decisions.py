"""The decision rule of a trained model: what `evaluate --fit` asks for, and the files that hold it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_cli.errors import ConfigError, counted
from finetune_cli.records.decision_rule import DECISION_FILE, THRESHOLD_METRICS, DecisionRule
from finetune_cli.runs.target import ModelTask, Target
from finetune_cli.system.files import write_json, write_text
from finetune_cli.tasks import KIND_SPECS, Kind

FITS = ("temperature", "threshold", "abstain", "none")
USUAL_CONFIDENCE = 0.9
CARD_HEADING = "## Decision rule\n"


@dataclass(frozen=True)
class FitRequest:
    """What to fit; metric: the one that thresholds are to be best for, None for no threshold. max_error: the share of
    answers that may be wrong, with this confidence; None for an answer to every row."""

    temperature: bool
    metric: str | None
    max_error: float | None = None
    confidence: float = USUAL_CONFIDENCE

    @property
    def removes(self) -> bool:
        return not self.temperature and self.metric is None and self.max_error is None


def parse_fit(
    fit: Sequence[str],
    metric: str | None,
    trained: Target,
    data: Path | str | None,
    *,
    max_error: float | None = None,
    confidence: float | None = None,
) -> FitRequest | None:
    """What `--fit` and the options beside it ask of this target; None when nothing. Raises ConfigError for what cannot
    be fitted."""
    if wrong := [name for name in fit if name not in FITS]:
        raise ConfigError(f"--fit {wrong[0]!r}: expected {', '.join(FITS[:-1])} or {FITS[-1]}.")
    if metric is not None and "threshold" not in fit:
        raise ConfigError("--for names the metric that a threshold is fitted for. Add --fit threshold.")
    _check_abstain(fit, max_error, confidence)
    if not fit:
        return None
    if "none" in fit and len(set(fit)) > 1:
        raise ConfigError("--fit none removes the decision rule, and goes with no other --fit.")
    if trained.run is None or trained.config is None:
        raise ConfigError(
            f"--fit takes the validation split of a run, and {trained.model_dir} is a model without one. Name the run."
        )
    if not os.access(trained.model_dir, os.W_OK):
        raise ConfigError(
            f"--fit writes {DECISION_FILE} into {trained.model_dir}, which is not writable. Fit it in a copy of the "
            "run."
        )
    if "none" in fit:
        return FitRequest(temperature=False, metric=None)
    kind = trained.config.spec.kind
    if not KIND_SPECS[kind].has_classes:
        raise ConfigError("--fit is for tasks with classes, and this task is regression. Leave it out.")
    if data is not None:
        raise ConfigError("--fit takes the validation split, --data scores a file. Fit first, then score the file.")
    evaluation = trained.config.evaluation
    chosen = _metric(metric, evaluation.metric_for_best or evaluation.metrics[0], kind) if "threshold" in fit else None
    return FitRequest("temperature" in fit, chosen, max_error, USUAL_CONFIDENCE if confidence is None else confidence)


def _check_abstain(fit: Sequence[str], max_error: float | None, confidence: float | None) -> None:
    for option, value in (("--max-error", max_error), ("--confidence", confidence)):
        if value is None:
            continue
        if "abstain" not in fit:
            raise ConfigError(f"{option} is for --fit abstain. Add it, or leave {option} out.")
        if not 0 < value < 1:
            raise ConfigError(f"{option} {value:g}: expected a share between 0 and 1, such as 0.05.")
    if "abstain" in fit and max_error is None:
        raise ConfigError("--fit abstain needs the share of its answers that may be wrong, such as --max-error 0.05.")


def _metric(asked: str | None, best: str, kind: Kind) -> str:
    """The metric that thresholds are fitted for: the one asked for, else the one that chose the model."""
    metric, possible = asked or best, THRESHOLD_METRICS[kind]
    if metric not in possible:
        chosen = "" if asked else ", the metric that chose this model"
        raise ConfigError(f"--for {metric}{chosen}: no threshold is fitted for it. Name one of: {', '.join(possible)}.")
    return metric


def require_possible(request: FitRequest | None, min_confidence: float | None, task: ModelTask) -> None:
    """Raise ConfigError for a threshold, or a `--min-confidence`, that a model with this task cannot have."""
    several, num_classes = KIND_SPECS[task.kind].several_labels, len(task.classes or ())
    abstains = request is not None and request.max_error is not None
    if several and (abstains or min_confidence is not None):
        option = "--fit abstain" if abstains else "--min-confidence"
        raise ConfigError(f"{option} is for one class a row, and this model gives several. Leave it out.")
    thresholds = request is not None and request.metric is not None
    if thresholds and not several and num_classes != 2:
        raise ConfigError(
            f"--fit threshold is for two classes, where one number decides; this model has {num_classes}. "
            "--fit temperature works for any number."
        )
    if min_confidence is None:
        return
    if task.classes is None:
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
        write_text(card, text + heading + after + (f"\n{CARD_HEADING}\n{_in_words(rule)}\n" if rule else ""))


def _in_words(rule: DecisionRule) -> str:
    """How to get the same answers without this package."""
    steps = []
    if rule.temperature is not None:
        steps.append(f"divide the logits by {rule.temperature:.6g} before softmax or sigmoid")
    if rule.thresholds:
        above = ", ".join(f"`{name}` {value:.6g}" for name, value in rule.thresholds.items())
        steps.append(f"answer a class where its probability is above its threshold ({above})")
    if (abstention := rule.abstention) is not None:
        steps.append(
            f"give no answer whose probability is lower than {abstention.below:.6g} (then at most "
            f"{abstention.max_error:.1%} of the answers are wrong, with {abstention.confidence:.0%} confidence)"
        )
    return (
        f"`finetune` obeys `{DECISION_FILE}`, fitted on {counted(rule.n, 'row')} of {rule.split}; plain transformers "
        f"does not. By hand: {', then '.join(steps)}."
    )
