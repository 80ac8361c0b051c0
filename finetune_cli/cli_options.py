"""The options of the command line, and how its help pages look: named groups, and examples as they are written.

Plain text: rich would cost half of the start-up time and draw boxes into pipes.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from finetune_cli import __version__

if TYPE_CHECKING:
    from typer._click import HelpFormatter

ARGUMENTS, RUN_GROUP, INPUT_GROUP, OUTPUT_GROUP, REST = "Arguments", "Run", "Input", "Output", "Options"


class GroupedCommand(TyperCommand):
    """A command whose help shows each option in its `rich_help_panel`, and its epilog as examples."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = [parameter.metavar or "" for parameter in self.get_params(ctx) if _is_argument(parameter)]
        return ["[OPTIONS]", *arguments]

    def format_options(self, ctx: Any, formatter: HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {ARGUMENTS: []}
        parameter: Any
        for parameter in self.get_params(ctx):
            if _is_argument(parameter):
                groups[ARGUMENTS].append((parameter.metavar or "", parameter.help or ""))
            elif record := parameter.get_help_record(ctx):
                groups.setdefault(parameter.rich_help_panel or REST, []).append(record)
        groups[REST] = groups.pop(REST)  # to the end
        width = max(len(names) for records in groups.values() for names, _ in records)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl([(names.ljust(width), text) for names, text in records], col_max=width)

    def format_epilog(self, ctx: Any, formatter: HelpFormatter) -> None:
        _write_examples(self.epilog or "", formatter)


class GroupedGroup(TyperGroup):
    """The program itself: its commands before its options."""

    def format_options(self, ctx: Any, formatter: HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        records = [parameter.get_help_record(ctx) for parameter in self.get_params(ctx)]
        with formatter.section(REST):
            formatter.write_dl([record for record in records if record is not None])

    def format_epilog(self, ctx: Any, formatter: HelpFormatter) -> None:
        _write_examples(self.epilog or "", formatter)


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _write_examples(lines: str, formatter: HelpFormatter) -> None:
    with formatter.section("Examples"):
        formatter.write("".join(f"  {line}\n" for line in lines.splitlines()))


class FileFormat(StrEnum):
    """The forms of a predictions file."""

    jsonl = "jsonl"
    csv = "csv"
    tsv = "tsv"
    parquet = "parquet"


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
Input = Annotated[str | None, _argument("[INPUT|-]", "A file of rows, or - for standard input.")]

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
        "By default as the file name ends, else jsonl.",
        metavar="jsonl|csv|tsv|parquet",
        group=OUTPUT_GROUP,
    ),
]
Probabilities = Annotated[bool, _option("--probabilities", "Add the probability of each class.", group=OUTPUT_GROUP)]
KeepColumns = Annotated[bool, _option("--keep-columns", "Keep the columns of the input.", group=OUTPUT_GROUP)]

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

ROOT_EXAMPLES = """\
finetune train configs/quickstart.yaml
finetune evaluate runs/quickstart
finetune predict runs/quickstart --text "I am super delighted.\""""

PREPARE_EXAMPLES = """\
finetune prepare configs/mrpc.yaml --show 3
finetune prepare configs/mrpc.yaml -s data.max_length=64 --json"""

TRAIN_EXAMPLES = """\
finetune train configs/quickstart.yaml
finetune train configs/mrpc.yaml -s seed=1 --output-dir runs/mrpc-seed1
finetune train configs/mrpc.yaml --num-processes 2"""

EVALUATE_EXAMPLES = """\
finetune evaluate runs/mrpc
finetune evaluate runs/mrpc --gate 'f1>=0.88' --gate 'accuracy.low>=0.8'
finetune evaluate runs/mrpc --data new_rows.csv --json"""

PREDICT_EXAMPLES = """\
finetune predict runs/sst2 --text "I am super delighted."
finetune predict runs/mrpc --text "It rains." --text-pair "It is raining."
finetune predict runs/sst2 reviews.csv -o labelled.csv --keep-columns
cat reviews.jsonl | finetune predict runs/sst2 - --probabilities"""

VALIDATE_EXAMPLES = """\
finetune validate configs/mrpc.yaml
finetune validate configs/mrpc.yaml -s training.batch_size=16 --json"""

COMPARE_EXAMPLES = """\
finetune compare runs/mrpc runs/mrpc-large
finetune compare runs/mrpc runs/mrpc-large --split test --metric f1 --markdown
finetune compare runs/main runs/branch --fail-if-worse f1
finetune compare runs/lr5e-5-seed*/ runs/lr2e-5-seed*/"""
