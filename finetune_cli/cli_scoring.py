"""The commands that take what was trained: evaluate, predict, compare."""

from __future__ import annotations

import sys
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from finetune_cli import cli_options as options
from finetune_cli.allocator import keep_freed_memory
from finetune_cli.cli_setup import (
    check_data_file,
    check_target,
    output_format,
    rows_to_label,
    shown_when_failed,
    start,
)
from finetune_cli.errors import ConfigError
from finetune_cli.lean_imports import lean_imports
from finetune_cli.signals import end_if_stopped
from finetune_cli.terminal import silence_model_loading

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from finetune_cli.records.evaluation import EvalReport


def evaluate(
    ctx: typer.Context,
    *,
    target: options.Target,
    split: options.Split = "validation",
    data: options.Data = None,
    overrides: options.Overrides,
    output_dir: options.OutputDir = None,
    offline: options.Offline = False,
    gates: options.Gates,
    baseline: options.Baseline = None,
    max_drops: options.MaxDrops,
    fit: options.Fit,
    fit_for: options.FitFor = None,
    min_confidence: options.ScoredConfidence = None,
    junit: options.JUnit = None,
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
    from finetune_cli.commands.junit import write_junit
    from finetune_cli.tables.evaluate import evaluate_result

    def show(report: EvalReport) -> None:
        evaluate_result(out, report)
        if junit is not None and out.enabled:
            write_junit(junit, report, target)

    end_if_stopped()
    silence_model_loading()
    keep_freed_memory()
    with shown_when_failed(show):
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
                min_confidence=min_confidence,
                offline=offline,
            )
        )


def predict(
    ctx: typer.Context,
    *,
    target: options.Target,
    source: options.Input = None,
    texts: options.Texts,
    text_pairs: options.TextPairs,
    on_bad_row: options.BadRows = options.OnBadRow.error,
    overrides: options.Overrides,
    output_dir: options.OutputDir = None,
    offline: options.Offline = False,
    output: options.OutputFile = None,
    file_format: options.Format = None,
    probabilities: options.Probabilities = False,
    keep_columns: options.KeepColumns = False,
    min_confidence: options.MinConfidence = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Label a file, standard input or --text, in the order the rows come in.

    The id of a row is the column that data.id names, else a column id or idx, else the row's number from 0.
    """
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug)
    check_target(target, overrides, output_dir)
    rows = rows_to_label(source, texts, text_pairs, output)
    chosen = output_format(output, file_format.value if file_format else None)
    with lean_imports():
        from finetune_cli.commands.predict import WINDOW_ROWS
        from finetune_cli.commands.predict import predict as run_predict
    from finetune_cli.commands.prediction_files import write_predictions

    end_if_stopped()
    silence_model_loading()
    keep_freed_memory()
    answers = run_predict(
        target,
        rows,
        overrides=overrides,
        output_dir=output_dir,
        probabilities=probabilities,
        keep_columns=keep_columns,
        on_bad_row=on_bad_row.value,
        min_confidence=min_confidence,
        window_rows=1 if rows is sys.stdin.buffer and sys.stdin.isatty() else WINDOW_ROWS,  # answer what is typed
        offline=offline,
        report_bad_row=out.warn,
    )
    with out.byte_stream() as stdout, closing(answers):
        write_predictions(
            answers, output, file_format=chosen, with_errors=on_bad_row is options.OnBadRow.null, stdout=stdout
        )


def compare(
    ctx: typer.Context,
    *,
    runs: options.Runs,
    split: options.ComparedSplit = "validation",
    metrics: options.ComparedMetrics,
    fail_if_worse: options.FailIfWorse,
    html: options.Html = None,
    markdown: options.Markdown = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Which run is better, and is the difference real.

    Rows are paired by id. Accuracy: McNemar's test; other metrics: paired bootstrap.

    The directory of a training with several seeds is one side, and its seeds are repeated measures. So are runs that
    differ in nothing but seed and output_dir, when every side has two or more. Otherwise each run is compared with the
    first.
    """
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json)
    if markdown and json:
        raise ConfigError("--markdown and --json are two forms of one result. Choose one.")
    from finetune_cli.commands.compare import compare as run_compare
    from finetune_cli.tables.compare import compare_markdown, compare_result

    end_if_stopped()
    show = partial(compare_markdown if markdown else compare_result, out)
    if html is not None:
        show = partial(_show_comparison_twice, html, show)
    with shown_when_failed(show):
        show(run_compare(runs, split=split, metrics=metrics, fail_if_worse=fail_if_worse))


def _show_comparison_twice(html: Path, show: Callable[[Any], None], report: Any) -> None:
    """On stdout, and as a page."""
    from finetune_cli.commands.compare_report import write_comparison

    show(report)
    write_comparison(html, report)
