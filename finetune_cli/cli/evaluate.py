"""`finetune evaluate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune_cli.cli import options
from finetune_cli.cli.start import before_computing, check_data_file, check_target, shown_when_failed, start
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


class Fitted(StrEnum):
    """What evaluate fits on the validation split."""

    temperature = "temperature"
    threshold = "threshold"
    abstain = "abstain"
    none = "none"


class KeptProbabilities(StrEnum):
    """Which probabilities evaluate keeps of many classes."""

    all = "all"


Split = Annotated[str, options.input_option("--split", "The split to score.", metavar="NAME")]

Data = Annotated[
    Path | None,
    options.input_option(
        "--data",
        "Score this labelled file in place of a split.",
        metavar="FILE",
        callback=options.in_home_or_none,
    ),
]

Gates = Annotated[
    list[str],
    options.output_list(
        "--gate", "Exit with 4 unless this holds, such as 'f1>=0.88' or 'f1.low>=0.85'. Repeatable.", metavar="TEST"
    ),
]

Baseline = Annotated[
    str | None,
    options.output_option(
        "--baseline",
        "A run, or predictions file, scored on the same rows; for --max-drop.",
        metavar="RUN",
        show_default=False,
    ),
]

MaxDrops = Annotated[
    list[str],
    options.output_list(
        "--max-drop",
        "Exit with 4 when this score is worse than the baseline's by more, such as f1=0.01. Repeatable.",
        metavar="NAME=NUMBER",
    ),
]

JUnit = Annotated[
    Path | None,
    options.output_option(
        "--junit",
        "Write the gates as JUnit XML, for CI.",
        metavar="FILE",
        callback=options.in_home_or_none,
        show_default=False,
    ),
]

Fit = Annotated[
    list[Fitted],
    options.run_list(
        "--fit",
        "Fit on the validation split how probabilities become answers, and store it beside the model, where evaluate "
        "and predict obey it; none removes it. Repeatable.",
        metavar="temperature|threshold|abstain|none",
    ),
]

FitFor = Annotated[
    str | None,
    options.run_option(
        "--for",
        "The metric that --fit threshold is to be best for; by default evaluation.metric_for_best.",
        metavar="METRIC",
        show_default=False,
    ),
]

MaxError = Annotated[
    float | None,
    options.run_option(
        "--max-error",
        "For --fit abstain: the share of the answers that may be wrong. Rows that are too unsure are not answered.",
        metavar="SHARE",
        show_default=False,
    ),
]

Confidence = Annotated[
    float | None,
    options.run_option(
        "--confidence",
        "For --fit abstain: how sure it has to be that --max-error holds; by default 0.9.",
        metavar="P",
        show_default=False,
    ),
]

ScoredConfidence = Annotated[
    float | None,
    options.output_option(
        "--min-confidence",
        "Score also the rows alone whose answer has at least this probability.",
        metavar="P",
        show_default=False,
    ),
]


# `all` makes it the flag below; any other value is refused with what is allowed.
Kept = Annotated[
    KeptProbabilities | None,
    options.output_option(
        "--probabilities",
        "Of more than 100 classes, keep the probability of each in every row, not of the likeliest alone.",
        metavar="all",
        show_default=False,
    ),
]


def evaluate(
    ctx: typer.Context,
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
    min_confidence: ScoredConfidence = None,
    probabilities: Kept = None,
    all_probabilities: options.AllProbabilities = False,
    junit: JUnit = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Score a trained model on a split or a file; can be a gate for CI."""
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json, every_process=True)
    check_target(target, overrides, output_dir)
    check_data_file(data)
    with lean_imports():
        from finetune_cli.commands.evaluate import evaluate as run_evaluate
    from finetune_cli.display.tables.evaluate import evaluate_result
    from finetune_cli.runs.gates import write_junit

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
