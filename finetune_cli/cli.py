"""The command line: options in, one command called, its result rendered, every error turned into its exit code.

Light on purpose: a command's own imports come after its config has been read, so that `--help` and a mistake in a config
answer at once.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from finetune_cli import __version__
from finetune_cli.cli_help import GroupedCommand
from finetune_cli.errors import ConfigError, ExitCode, FinetuneError, GateFailedError
from finetune_cli.terminal import Output, OutputClosedError, leave_quietly, show_bug, show_error, start_logging

if TYPE_CHECKING:
    from finetune_cli.config import RunConfig

CLOSED_PIPE = 141  # 128 + SIGPIPE: what any Unix tool returns whose reader has gone

app = typer.Typer(
    help="Fine-tune text classifiers from one YAML file, with scores you can trust.",
    rich_markup_mode=None,  # rich costs half of the start-up time and draws boxes into pipes
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class FileFormat(str, Enum):
    jsonl = "jsonl"
    csv = "csv"
    tsv = "tsv"
    parquet = "parquet"


class OnBadRow(str, Enum):
    error = "error"
    skip = "skip"
    null = "null"


OUTPUT_GROUP = "Output"
CONFIG_GROUP = "Config"

ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="The YAML file that describes the run.", show_default=False)
]
TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG|RUN|MODEL",
        help="A config or the directory of a trained run; or a model: directory or Hub id.",
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Change a config value, such as training.batch_size=16. Repeatable.",
        rich_help_panel=CONFIG_GROUP,
        default_factory=list,
        show_default=False,
    ),
]
OutputDirOption = Annotated[
    str | None,
    typer.Option(
        "--output-dir",
        metavar="DIR",
        help="The run directory, in place of the config's output_dir.",
        rich_help_panel=CONFIG_GROUP,
    ),
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Use only what is on this machine.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON document.", rich_help_panel=OUTPUT_GROUP)
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Only warnings, errors and the result.", rich_help_panel=OUTPUT_GROUP)
]
VerboseOption = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Say more, with the libraries' own warnings.", rich_help_panel=OUTPUT_GROUP),
]
DebugOption = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of every error.", rich_help_panel=OUTPUT_GROUP)
]


@dataclass
class Switches:
    """What `main` has to know of the command line when a command has failed."""

    debug: bool = False


def start(ctx: typer.Context, *, quiet: bool, verbose: bool, debug: bool, as_json: bool = False) -> Output:
    """Set up the streams for one command."""
    from finetune_cli.launching import is_main_process

    ctx.ensure_object(Switches).debug = debug
    main_process = is_main_process()
    start_logging(quiet=quiet, verbose=verbose, enabled=main_process)
    return Output(as_json=as_json, quiet=quiet, enabled=main_process)


def print_version(value: bool) -> None:
    if value:
        typer.echo(f"finetune {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


PREPARE_EXAMPLES = """\
finetune prepare configs/mrpc.yaml --show 3
finetune prepare configs/mrpc.yaml -s data.max_length=64 --json"""


@app.command(cls=GroupedCommand, epilog=PREPARE_EXAMPLES)
def prepare(
    ctx: typer.Context,
    *,
    config: ConfigArgument,
    show: Annotated[
        int, typer.Option("--show", metavar="N", min=0, help="Print the first N encoded examples as tokens.")
    ] = 0,
    overrides: SetOption,
    offline: OfflineOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Check the data, tokenise it once, report on it."""
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json)
    run_config = read_config(config, overrides)
    from finetune_cli.commands.prepare import prepare as run_prepare
    from finetune_cli.commands.prepare import show_examples
    from finetune_cli.tables import prepare_result

    prepared = run_prepare(run_config, offline=offline)
    examples = show_examples(prepared, show) if show else []
    prepare_result(out, prepared.directory, prepared.label_names, prepared.report, examples)


TRAIN_EXAMPLES = """\
finetune train configs/quickstart.yaml
finetune train configs/mrpc.yaml -s seed=1 --output-dir runs/mrpc-seed1
finetune train configs/mrpc.yaml --num-processes 2"""


@app.command(cls=GroupedCommand, epilog=TRAIN_EXAMPLES)
def train(
    ctx: typer.Context,
    *,
    config: ConfigArgument,
    overrides: SetOption,
    output_dir: OutputDirOption = None,
    resume: Annotated[
        str,
        typer.Option(
            "--resume",
            metavar="auto|never|PATH",
            help="Go on from the newest checkpoint, start anew, or go on from this one.",
        ),
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete what the run directory holds, and start anew.")
    ] = False,
    num_processes: Annotated[
        int,
        typer.Option(
            "--num-processes",
            metavar="N",
            min=1,
            help="Train on N processes of this machine, such as one for each GPU.",
        ),
    ] = 1,
    offline: OfflineOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> int:
    """Fine-tune; the best model, its scores and its history land in the run directory.

    The same command again goes on where an unfinished run stopped.
    """
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json)
    settings = with_output_dir(overrides, output_dir)
    run_config = read_config(config, settings)
    if num_processes > 1:
        return train_on_several(ctx, run_config, num_processes, offline=offline)
    from finetune_cli.commands.train import train as run_train
    from finetune_cli.progress import training_display
    from finetune_cli.tables import train_result
    from finetune_cli.tasks import METRICS

    metric = run_config.evaluation.metric_for_best
    display = training_display(metric, greater_is_better=metric not in METRICS or METRICS[metric].greater_is_better, shown=out.enabled and not quiet)
    with display as listen:
        report = run_train(run_config, resume=resume, overwrite=overwrite, offline=offline, listen=listen)
    train_result(out, report, pair=len(run_config.data.text) == 2)
    return ExitCode.DONE


def train_on_several(ctx: typer.Context, config: RunConfig, num_processes: int, *, offline: bool) -> int:
    """Prepare the data once here, then run the same command line in `num_processes` processes."""
    from finetune_cli.commands.prepare import prepare as run_prepare
    from finetune_cli.launching import launch, launched_processes

    if launched_processes() > 1:
        raise ConfigError(
            "--num-processes starts processes of its own: leave it out under accelerate launch or torchrun."
        )
    run_prepare(config, offline=offline)
    return launch(without_option(sys.argv[1:], "--num-processes"), num_processes)


def without_option(arguments: list[str], option: str) -> list[str]:
    """The arguments without `--option VALUE` and `--option=VALUE`."""
    kept: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        if argument == option:
            next(waiting, None)
        elif not argument.startswith(f"{option}="):
            kept.append(argument)
    return kept


EVALUATE_EXAMPLES = """\
finetune evaluate runs/mrpc
finetune evaluate runs/mrpc --gate 'f1>=0.88' --gate 'accuracy.low>=0.8'
finetune evaluate runs/mrpc --data new_rows.csv --json"""


@app.command(cls=GroupedCommand, epilog=EVALUATE_EXAMPLES)
def evaluate(
    ctx: typer.Context,
    *,
    target: TargetArgument,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="The split to score.")] = "validation",
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="Score this labelled file instead of a split.")
    ] = None,
    gates: Annotated[
        list[str],
        typer.Option(
            "--gate",
            metavar="TEST",
            help="Exit with 4 unless it holds, such as 'f1>=0.88' or 'f1.low>=0.85'. Repeatable.",
            show_default=False,
        ),
    ],
    overrides: SetOption,
    output_dir: OutputDirOption = None,
    offline: OfflineOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Score a trained model on a split or a file; can be a gate for CI."""
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json)
    check_target(target, overrides, output_dir)
    from finetune_cli.commands.evaluate import evaluate as run_evaluate
    from finetune_cli.tables import evaluate_result

    try:
        report = run_evaluate(
            target, overrides=overrides, output_dir=output_dir, split=split, data=data, gates=gates, offline=offline
        )
    except GateFailedError as err:
        evaluate_result(out, err.report)
        raise
    evaluate_result(out, report)


PREDICT_EXAMPLES = """\
finetune predict runs/sst2 --text "I am super delighted."
finetune predict runs/mrpc --text "It rains." --text-pair "It is raining."
finetune predict runs/sst2 reviews.csv -o labelled.csv --keep-columns
cat reviews.jsonl | finetune predict runs/sst2 - --probabilities"""


@app.command(cls=GroupedCommand, epilog=PREDICT_EXAMPLES)
def predict(
    ctx: typer.Context,
    *,
    target: TargetArgument,
    input_: Annotated[
        str | None,
        typer.Argument(metavar="[INPUT|-]", help="A file of rows, or - for standard input.", show_default=False),
    ] = None,
    text: Annotated[
        list[str],
        typer.Option(
            "--text", metavar="TEXT", help="Label this text. Repeatable.", show_default=False, rich_help_panel="Input"
        ),
    ],
    text_pair: Annotated[
        list[str],
        typer.Option(
            "--text-pair",
            metavar="TEXT",
            help="The second text of a pair, one for each --text.",
            show_default=False,
            rich_help_panel="Input",
        ),
    ],
    on_bad_row: Annotated[
        OnBadRow,
        typer.Option(
            "--on-bad-row",
            help="What to do with a row that cannot be used: stop, leave it out, or answer null.",
            rich_help_panel="Input",
        ),
    ] = OnBadRow.error,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write here instead of standard output.",
            rich_help_panel=OUTPUT_GROUP,
        ),
    ] = None,
    file_format: Annotated[
        FileFormat | None,
        typer.Option(
            "--format",
            help="The form of the output. By default that of the file name, else jsonl.",
            rich_help_panel=OUTPUT_GROUP,
        ),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Add the probability of every class.", rich_help_panel=OUTPUT_GROUP)
    ] = False,
    keep_columns: Annotated[
        bool, typer.Option("--keep-columns", help="Keep the columns of the input.", rich_help_panel=OUTPUT_GROUP)
    ] = False,
    overrides: SetOption,
    output_dir: OutputDirOption = None,
    offline: OfflineOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Label a file, standard input or --text, one row out for each row in."""
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug)
    rows = prediction_input(input_, text, text_pair)
    check_target(target, overrides, output_dir)
    from finetune_cli.commands.predict import WINDOW_ROWS
    from finetune_cli.commands.predict import predict as run_predict
    from finetune_cli.commands.prediction_files import choose_format, write_predictions

    chosen = choose_format(output, file_format.value if file_format else None)
    interactive = rows is sys.stdin.buffer and sys.stdin.isatty()
    answers = run_predict(
        target,
        rows,
        overrides=overrides,
        output_dir=output_dir,
        probabilities=probabilities,
        keep_columns=keep_columns,
        on_bad_row=on_bad_row.value,
        window_rows=1 if interactive else WINDOW_ROWS,
        offline=offline,
        report_bad_row=out.warn,
    )
    write_predictions(
        answers,
        output,
        file_format=chosen,
        with_errors=on_bad_row is OnBadRow.null,
        stdout=out.binary(),
    )


def prediction_input(name: str | None, texts: list[str], pairs: list[str]) -> Any:
    """The rows to label: a path, the byte stream of standard input, or tuples of texts."""
    given = [*(["INPUT"] if name else []), *(["--text"] if texts else [])]
    if len(given) != 1:
        raise ConfigError(
            f"Expected a file, - for standard input, or --text; found {' and '.join(given) or 'none of them'}."
        )
    if pairs and len(pairs) != len(texts):
        raise ConfigError(f"--text-pair: expected one for each --text ({len(texts)}), found {len(pairs)}.")
    if texts:
        return list(zip(texts, pairs, strict=True)) if pairs else [(one,) for one in texts]
    return sys.stdin.buffer if name == "-" else Path(str(name))


VALIDATE_EXAMPLES = """\
finetune validate configs/mrpc.yaml
finetune validate configs/mrpc.yaml -s training.batch_size=16 --json"""


@app.command(cls=GroupedCommand, epilog=VALIDATE_EXAMPLES)
def validate(
    ctx: typer.Context,
    *,
    config: ConfigArgument,
    overrides: SetOption,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Show every mistake in a config at once, in less than a second."""
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


def read_config(path: Path, overrides: list[str]) -> RunConfig:
    from finetune_cli.config import load_config

    return load_config(path, overrides)


def with_output_dir(overrides: list[str], output_dir: str | None) -> list[str]:
    """`--output-dir` as the last `--set`, quoted so that any name stays a text."""
    import json

    return [*overrides, *([f"output_dir={json.dumps(output_dir, ensure_ascii=False)}"] if output_dir else [])]


def check_target(target: str, overrides: list[str], output_dir: str | None) -> None:
    """Read the config that an argument names, if it names one, so that its mistakes show before the heavy imports."""
    path = Path(target)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        read_config(path, with_output_dir(overrides, output_dir))
    elif output_dir:
        raise ConfigError(
            f"--output-dir belongs to a config, and {target} is a run or a model: name the other run instead."
        )


def main() -> int:
    """Run the command line; returns the exit code."""
    switches = Switches()
    try:
        code = app(standalone_mode=False, obj=switches)
        sys.stdout.flush()
    except TyperException as err:
        show_error(usage_message(err))
        return ExitCode.CONFIG
    except FinetuneError as err:
        show_error(str(err), with_traceback=switches.debug)
        return err.exit_code
    except (OutputClosedError, BrokenPipeError):
        leave_quietly()
        return CLOSED_PIPE
    except Exception:
        show_bug()
        return ExitCode.RUN_FAILED
    if code == ExitCode.INTERRUPTED:
        show_error("Interrupted.")
    return code or ExitCode.DONE


def usage_message(error: TyperException) -> str:
    """Typer's message with what to type next."""
    ctx: Any = getattr(error, "ctx", None)
    near = getattr(error, "possibilities", None)
    message = error.message if near else error.format_message()
    hint = f" Did you mean {' or '.join(sorted(near))}?" if near else ""
    return f"{message.rstrip('.')}.{hint}\nSee: {ctx.command_path if ctx else 'finetune'} --help"
