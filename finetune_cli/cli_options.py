"""The options and arguments of the commands: one flat list of what each is called, takes and says in `--help`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from finetune_cli import __version__

RUN_GROUP, INPUT_GROUP, OUTPUT_GROUP = "Run", "Input", "Output"  # headings of the help pages


class FileFormat(StrEnum):
    """The forms of a predictions file."""

    jsonl = "jsonl"
    csv = "csv"
    tsv = "tsv"
    parquet = "parquet"


class Fitted(StrEnum):
    """What evaluate fits to the validation split."""

    temperature = "temperature"
    threshold = "threshold"
    none = "none"


class OnBadRow(StrEnum):
    """What to do with a row that cannot be used."""

    error = "error"
    skip = "skip"
    null = "null"


def _argument(metavar: str, text: str) -> Any:
    return typer.Argument(metavar=metavar, help=text, show_default=False)


def _option(names: str, text: str, *, group: str | None = None, metavar: str | None = None, **more: Any) -> Any:
    return typer.Option(*names.split(), metavar=metavar, help=text, rich_help_panel=group, **more)


def _repeatable(names: str, text: str, *, metavar: str, group: str) -> Any:
    return _option(names, text, group=group, metavar=metavar, default_factory=list, show_default=False)


Config = Annotated[Path, _argument("CONFIG", "The YAML file that describes the run.")]
Target = Annotated[
    str, _argument("CONFIG|RUN|MODEL", "What was trained: a config, a run directory, or a model (directory or Hub id).")
]
Input = Annotated[
    str | None, _argument("[INPUT|-]", "A file of rows, a .txt with a text on each line, or - for standard input.")
]

Overrides = Annotated[
    list[str],
    _repeatable(
        "--set -s",
        "Change a value of the config, such as training.batch_size=16. Repeatable.",
        metavar="KEY=VALUE",
        group=RUN_GROUP,
    ),
]
OutputDir = Annotated[
    str | None,
    _option("--output-dir", "The run directory, in place of the config's output_dir.", metavar="DIR", group=RUN_GROUP),
]
Resume = Annotated[
    str,
    _option(
        "--resume",
        "Go on from the newest checkpoint, never, or from this one.",
        metavar="auto|never|PATH",
        group=RUN_GROUP,
    ),
]
Overwrite = Annotated[
    bool, _option("--overwrite", "Delete what the run directory holds, and start anew.", group=RUN_GROUP)
]
DryRun = Annotated[
    bool,
    _option(
        "--dry-run",
        "Make a few updates on a model that is thrown away, and print time and memory of the whole run. Nothing is "
        "written but the tokenised rows, which train finds again.",
        group=RUN_GROUP,
    ),
]
NumProcesses = Annotated[
    int,
    _option(
        "--num-processes",
        "Train on N processes of this machine, one for each GPU.",
        metavar="N",
        group=RUN_GROUP,
        min=1,
    ),
]
Seeds = Annotated[
    str | None,
    _option(
        "--seeds",
        "Train once with each of these seeds, such as 1,2,3, and report mean and spread.",
        metavar="N,N,...",
        group=RUN_GROUP,
        show_default=False,
    ),
]
Push = Annotated[
    bool,
    _option(
        "--push",
        "Upload the model to hub.repo_id after training, again if it was uploaded before.",
        group=RUN_GROUP,
    ),
]
Offline = Annotated[bool, _option("--offline", "Use only what is on this machine.", group=RUN_GROUP)]

Show = Annotated[
    int,
    _option(
        "--show",
        "Print the first N encoded rows as tokens.",
        metavar="N",
        group=OUTPUT_GROUP,
        min=0,
        show_default=False,
    ),
]
Split = Annotated[str, _option("--split", "The split to score.", metavar="NAME", group=INPUT_GROUP)]
Data = Annotated[
    Path | None, _option("--data", "Score this labelled file in place of a split.", metavar="FILE", group=INPUT_GROUP)
]
Gates = Annotated[
    list[str],
    _repeatable(
        "--gate",
        "Exit with 4 unless this holds, such as 'f1>=0.88' or 'f1.low>=0.85'. Repeatable.",
        metavar="TEST",
        group=OUTPUT_GROUP,
    ),
]
Baseline = Annotated[
    str | None,
    _option(
        "--baseline",
        "A run, or predictions file, scored on the same rows; for --max-drop.",
        metavar="RUN",
        group=OUTPUT_GROUP,
        show_default=False,
    ),
]
MaxDrops = Annotated[
    list[str],
    _repeatable(
        "--max-drop",
        "Exit with 4 when this score is worse than the baseline's by more, such as f1=0.01. Repeatable.",
        metavar="NAME=NUMBER",
        group=OUTPUT_GROUP,
    ),
]
JUnit = Annotated[
    Path | None,
    _option(
        "--junit",
        "Write the gates as JUnit XML, for CI.",
        metavar="FILE",
        group=OUTPUT_GROUP,
        show_default=False,
    ),
]
Fit = Annotated[
    list[Fitted],
    _repeatable(
        "--fit",
        "Fit on the validation split how probabilities become answers, and store it beside the model, where evaluate "
        "and predict obey it; none removes it. Repeatable.",
        metavar="temperature|threshold|none",
        group=RUN_GROUP,
    ),
]
FitFor = Annotated[
    str | None,
    _option(
        "--for",
        "The metric that --fit threshold is to be best for; by default evaluation.metric_for_best.",
        metavar="METRIC",
        group=RUN_GROUP,
        show_default=False,
    ),
]
ScoredConfidence = Annotated[
    float | None,
    _option(
        "--min-confidence",
        "Score also the rows alone whose answer has at least this probability.",
        metavar="P",
        group=OUTPUT_GROUP,
        show_default=False,
    ),
]
MinConfidence = Annotated[
    float | None,
    _option(
        "--min-confidence",
        "Answer null where the probability of the answer is lower.",
        metavar="P",
        group=OUTPUT_GROUP,
        show_default=False,
    ),
]
Runs = Annotated[
    list[str],
    _argument("RUN RUN...", "Run directories or predictions.jsonl files; the first is what the rest are compared to."),
]
ComparedSplit = Annotated[
    str, _option("--split", "The split whose scores are compared.", metavar="NAME", group=INPUT_GROUP)
]
ComparedMetrics = Annotated[
    list[str],
    _repeatable(
        "--metric", "Compare this metric, not those of the runs. Repeatable.", metavar="NAME", group=INPUT_GROUP
    ),
]
Html = Annotated[
    Path | None,
    _option(
        "--html",
        "Write the comparison as a page, with the rows on which the runs disagree.",
        metavar="FILE",
        group=OUTPUT_GROUP,
        show_default=False,
    ),
]
Markdown = Annotated[
    bool, _option("--markdown", "Print tables ready to paste into a pull request.", group=OUTPUT_GROUP)
]
FailIfWorse = Annotated[
    list[str],
    _repeatable(
        "--fail-if-worse",
        "Exit with 4 when a later run is significantly worse than the first on this metric. Repeatable.",
        metavar="NAME",
        group=OUTPUT_GROUP,
    ),
]
Texts = Annotated[list[str], _repeatable("--text", "Label this text. Repeatable.", metavar="TEXT", group=INPUT_GROUP)]
TextPairs = Annotated[
    list[str],
    _repeatable("--text-pair", "The second text of a pair, one for each --text.", metavar="TEXT", group=INPUT_GROUP),
]
BadRows = Annotated[
    OnBadRow,
    _option(
        "--on-bad-row",
        "A row that cannot be used: stop there, leave it out, or answer null.",
        metavar="error|skip|null",
        group=INPUT_GROUP,
    ),
]
OutputFile = Annotated[
    Path | None, _option("--output -o", "Write here, not to standard output.", metavar="FILE", group=OUTPUT_GROUP)
]
Format = Annotated[
    FileFormat | None,
    _option(
        "--format",
        "By default as the file name ends; jsonl without an ending.",
        metavar="jsonl|csv|tsv|parquet",
        group=OUTPUT_GROUP,
    ),
]
Probabilities = Annotated[bool, _option("--probabilities", "Add the probability of each class.", group=OUTPUT_GROUP)]
KeepColumns = Annotated[
    bool,
    _option(
        "--keep-columns",
        "Keep the columns of the input; one named like the answer's becomes NAME_input.",
        group=OUTPUT_GROUP,
    ),
]

Json = Annotated[bool, _option("--json", "Print the result as one JSON document.", group=OUTPUT_GROUP)]
Quiet = Annotated[bool, _option("--quiet -q", "Only the result, warnings and errors.")]
Verbose = Annotated[bool, _option("--verbose -v", "Say more, and show the libraries' own warnings.")]
Debug = Annotated[bool, _option("--debug", "Show the traceback of every error.")]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"finetune {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
]
