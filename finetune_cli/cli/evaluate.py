"""`finetune evaluate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from finetune_cli.cli import options
from finetune_cli.cli.start import before_computing, check_data_file, check_target, command, shown_when_failed
from finetune_cli.display.terminal import Output
from finetune_cli.system.group import leaving_group
from finetune_cli.system.lean_imports import lean_imports

if TYPE_CHECKING:
    from finetune_cli.records.evaluation import EvalReport

EXAMPLES = """\
finetune evaluate runs/mrpc
finetune evaluate runs/mrpc --gate 'f1>=0.88' --gate 'accuracy.low>=0.8'
finetune evaluate runs/b --baseline runs/a --max-drop f1=0.01 --junit ci.xml
finetune evaluate runs/mrpc --fit temperature --fit threshold --for f1
finetune evaluate runs/mrpc --data new_rows.csv --json"""

Fitted = StrEnum("Fitted", ["temperature", "threshold", "abstain", "none"])  # Typer takes no list of Literals

Split = Annotated[str, options.input_option("--split NAME", "The split to score.")]
Data = Annotated[
    Path | None,
    options.input_option(
        "--data FILE", "Score this labelled file in place of a split.", callback=options.in_home_or_none
    ),
]
Gates = Annotated[
    list[str],
    options.output_list(
        "--gate TEST", "Exit with 4 unless this holds, such as 'f1>=0.88' or 'f1.low>=0.85'. Repeatable."
    ),
]
Baseline = Annotated[
    str | None,
    options.output_option("--baseline RUN", "A run, or predictions file, scored on the same rows; for --max-drop."),
]
MaxDrops = Annotated[
    list[str],
    options.output_list(
        "--max-drop NAME=NUMBER",
        "Exit with 4 when this score is worse than the baseline's by more, such as f1=0.01. Repeatable.",
    ),
]
JUnit = Annotated[
    Path | None,
    options.output_option("--junit FILE", "Write the gates as JUnit XML, for CI.", callback=options.in_home_or_none),
]
Fit = Annotated[
    list[Fitted],
    options.run_list(
        "--fit temperature|threshold|abstain|none",
        "Fit on the validation split how probabilities become answers, and store it beside the model, where evaluate "
        "and predict obey it; none removes it. Repeatable.",
    ),
]
FitFor = Annotated[
    str | None,
    options.run_option(
        "--for METRIC",
        "The metric that --fit threshold is to be best for; by default evaluation.metric_for_best.",
    ),
]
MaxError = Annotated[
    float | None,
    options.run_option(
        "--max-error SHARE",
        "For --fit abstain: the share of the answers that may be wrong. Rows that are too unsure are not answered.",
    ),
]
Confidence = Annotated[
    float | None,
    options.run_option(
        "--confidence P", "For --fit abstain: how sure it has to be that --max-error holds; by default 0.9."
    ),
]
MinConfidence = Annotated[
    float | None,
    options.output_option(
        "--min-confidence P", "Score also the rows alone whose answer has at least this probability."
    ),
]
# `all` makes it the flag of options.AllProbabilities; any other value is refused with what is allowed.
Probabilities = Annotated[
    Literal["all"] | None,
    options.output_option(
        "--probabilities all",
        "Of more than 100 classes, keep the probability of each in every row, not of the likeliest alone.",
    ),
]


@command(every_process=True)
def evaluate(
    out: Output,
    *,
    target: options.Target,
    split: Split = "validation",
    data: Data = None,
    overrides: options.Overrides,
    output_dir: options.OutputDir = None,
    offline: options.Offline = False,
    gates: Gates,
    baseline: Baseline = None,
    max_drops: MaxDrops,
    fit: Fit,
    fit_for: FitFor = None,
    max_error: MaxError = None,
    confidence: Confidence = None,
    min_confidence: MinConfidence = None,
    probabilities: Probabilities = None,
    all_probabilities: options.AllProbabilities = False,
    junit: JUnit = None,
) -> None:
    """Score a trained model on a split or a file; can be a gate for CI."""
    check_target(target, overrides, output_dir)
    check_data_file(data)
    with lean_imports():
        from finetune_cli.commands.evaluate import evaluate as run_evaluate
    from finetune_cli.display.tables.evaluate import evaluate_result
    from finetune_cli.runs.junit import write_junit

    def show(report: EvalReport) -> None:
        evaluate_result(out, report)
        if junit is not None and out.enabled:
            write_junit(junit, report, target)

    before_computing()
    with leaving_group(), shown_when_failed(show):
        show(
            run_evaluate(
                target,
                overrides=overrides,
                output_dir=output_dir,
                split=split,
                data=data,
                gates=gates,
                baseline=baseline,
                max_drops=max_drops,
                fit=[kind.value for kind in fit],
                fit_for=fit_for,
                max_error=max_error,
                confidence=confidence,
                min_confidence=min_confidence,
                all_probabilities=all_probabilities or probabilities is not None,
                offline=offline,
            )
        )
