"""The command line: options in, one command called, its result rendered, every error turned into its exit code.

Light on purpose: a command is imported after its config has been read, so that `--help` and a mistake in a config
answer at once.
"""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.exceptions import TyperException

from finetune_cli import cli_options as options
from finetune_cli.cli_setup import (
    Switches,
    check_target,
    read_config,
    rows_to_label,
    start,
    train_on_several,
    with_output_dir,
)
from finetune_cli.errors import ConfigError, ExitCode, FinetuneError, GateFailedError
from finetune_cli.launching import is_main_process
from finetune_cli.signals import end_if_stopped, stopping_at_once
from finetune_cli.terminal import (
    OutputClosedError,
    leave_quietly,
    show_bug,
    show_error,
    silence_model_loading,
)

CLOSED_PIPE = 141  # 128 + SIGPIPE, as any Unix tool returns when its reader has gone

app = typer.Typer(
    help="Fine-tune text classifiers from one YAML file, with scores you can trust.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(cls=options.GroupedGroup, invoke_without_command=True, epilog=options.ROOT_EXAMPLES)
def root(ctx: typer.Context, version: options.Version = False) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command(
    cls=options.GroupedCommand,
    epilog=options.PREPARE_EXAMPLES,
    short_help="Check the data, tokenise it once, report on it.",
)
def prepare(
    ctx: typer.Context,
    *,
    config: options.Config,
    overrides: options.Overrides,
    offline: options.Offline = False,
    show: options.Show = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Check the data, tokenise it once, report on it.

    What is tokenised is kept: a second prepare, and train after it, find it by its content.
    """
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json)
    run_config = read_config(config, overrides)
    from finetune_cli.commands.prepare import prepare as run_prepare
    from finetune_cli.commands.prepare import show_examples
    from finetune_cli.tables import prepare_result

    prepared = run_prepare(run_config, offline=offline)
    examples = show_examples(prepared, show) if show else []
    prepare_result(out, prepared.directory, prepared.label_names, prepared.report, examples)


@app.command(
    cls=options.GroupedCommand,
    epilog=options.TRAIN_EXAMPLES,
    short_help="Fine-tune, and keep the best model with its scores.",
)
def train(
    ctx: typer.Context,
    *,
    config: options.Config,
    overrides: options.Overrides,
    output_dir: options.OutputDir = None,
    resume: options.Resume = "auto",
    overwrite: options.Overwrite = False,
    num_processes: options.NumProcesses = 1,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> int:
    """Fine-tune; the best model, its scores and its history land in the run directory.

    The same command again goes on where an unfinished run stopped.
    """
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json, every_process=True)
    with stopping_at_once():
        run_config = read_config(config, with_output_dir(overrides, output_dir))
        if num_processes > 1:
            return train_on_several(run_config, num_processes, offline=offline)
        from finetune_cli.commands.train import train as run_train
        from finetune_cli.progress import training_display
        from finetune_cli.tables import train_result

        end_if_stopped()
        silence_model_loading()
        with training_display(run_config.evaluation.metric_for_best, shown=out.enabled and not quiet) as listen:
            report = run_train(run_config, resume=resume, overwrite=overwrite, offline=offline, listen=listen)
    train_result(out, report, pair=len(run_config.data.text) == 2)
    return ExitCode.DONE


@app.command(
    cls=options.GroupedCommand,
    epilog=options.EVALUATE_EXAMPLES,
    short_help="Score a split or a file; can be a gate for CI.",
)
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
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Score a trained model on a split or a file; can be a gate for CI."""
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json, every_process=True)
    check_target(target, overrides, output_dir)
    from finetune_cli.commands.evaluate import evaluate as run_evaluate
    from finetune_cli.tables import evaluate_result

    silence_model_loading()
    try:
        report = run_evaluate(
            target, overrides=overrides, output_dir=output_dir, split=split, data=data, gates=gates, offline=offline
        )
    except GateFailedError as err:
        evaluate_result(out, err.report)
        raise
    evaluate_result(out, report)


@app.command(
    cls=options.GroupedCommand, epilog=options.PREDICT_EXAMPLES, short_help="Label a file, standard input or --text."
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
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Label a file, standard input or --text, in the order the rows come in."""
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug)
    check_target(target, overrides, output_dir)
    rows = rows_to_label(source, texts, text_pairs, output)
    from finetune_cli.commands.predict import WINDOW_ROWS
    from finetune_cli.commands.predict import predict as run_predict
    from finetune_cli.commands.prediction_files import choose_format, write_predictions

    silence_model_loading()
    chosen = choose_format(output, file_format.value if file_format else None)
    answers = run_predict(
        target,
        rows,
        overrides=overrides,
        output_dir=output_dir,
        probabilities=probabilities,
        keep_columns=keep_columns,
        on_bad_row=on_bad_row.value,
        window_rows=1 if rows is sys.stdin.buffer and sys.stdin.isatty() else WINDOW_ROWS,  # answer what is typed
        offline=offline,
        report_bad_row=out.warn,
    )
    with out.byte_stream() as stdout:
        write_predictions(
            answers, output, file_format=chosen, with_errors=on_bad_row is options.OnBadRow.null, stdout=stdout
        )


@app.command(
    cls=options.GroupedCommand, epilog=options.VALIDATE_EXAMPLES, short_help="Show every mistake in a config at once."
)
def validate(
    ctx: typer.Context,
    *,
    config: options.Config,
    overrides: options.Overrides,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Show every mistake in a config at once, in a moment."""
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json)
    from finetune_cli.commands.validate import validate as run_validate
    from finetune_cli.tables import validate_result

    try:
        checked = run_validate(config, overrides)
    except ConfigError as err:
        if json:
            validate_result(out, config, None, err.problems)
        raise
    validate_result(out, config, checked, ())


@app.command(
    cls=options.GroupedCommand,
    epilog=options.COMPARE_EXAMPLES,
    short_help="Which run is better, and is the difference real.",
)
def compare(
    ctx: typer.Context,
    *,
    runs: options.Runs,
    split: options.ComparedSplit = "validation",
    metrics: options.ComparedMetrics,
    fail_if_worse: options.FailIfWorse,
    markdown: options.Markdown = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Which run is better, and is the difference real.

    Rows are paired by id. Accuracy: McNemar's test; other metrics: paired bootstrap.

    Runs that differ in nothing but seed and output_dir form one side, when every side has two or more: then the
    settings are compared, with the seeds as repeated measures. Otherwise each run is compared with the first.
    """
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json)
    if markdown and json:
        raise ConfigError("--markdown and --json are two forms of one result. Choose one.")
    from finetune_cli.commands.compare import compare as run_compare
    from finetune_cli.tables import compare_markdown, compare_result

    show = compare_markdown if markdown else compare_result
    try:
        report = run_compare(runs, split=split, metrics=metrics, fail_if_worse=fail_if_worse)
    except GateFailedError as err:
        show(out, err.report)
        raise
    show(out, report)


def main() -> int:
    """Run the command line; returns the exit code."""
    switches = Switches()
    try:
        code = app(prog_name="finetune", standalone_mode=False, obj=switches)
        sys.stdout.flush()
    except TyperException as err:
        show_error(usage_message(err), enabled=is_main_process())
        return ExitCode.CONFIG
    except FinetuneError as err:
        show_error(str(err), with_traceback=switches.debug, enabled=is_main_process())
        return err.exit_code
    except (OutputClosedError, BrokenPipeError):
        leave_quietly()
        return CLOSED_PIPE
    except SystemExit as err:
        if not isinstance(err.__context__, BrokenPipeError):
            raise  # shell completion ends so
        leave_quietly()  # Typer's answer to a closed pipe
        return CLOSED_PIPE
    except Exception:
        show_bug()
        return ExitCode.RUN_FAILED
    if code == ExitCode.INTERRUPTED:
        show_error("Interrupted.", enabled=is_main_process())
    return code or ExitCode.DONE


def usage_message(error: TyperException) -> str:
    """Typer's message, with the nearest option and what to type next."""
    context: Any = getattr(error, "ctx", None)
    near = getattr(error, "possibilities", None)
    message = (error.message if near else error.format_message()).rstrip(".?").replace("Value error, ", "")
    ending = f". Did you mean {' or '.join(sorted(near))}?" if near else "?" if "Did you mean" in message else "."
    return f"{message}{ending}\nSee: {context.command_path if context else 'finetune'} --help"
