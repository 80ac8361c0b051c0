"""`finetune compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from finetune_cli.cli import options
from finetune_cli.cli.start import command, shown_when_failed
from finetune_cli.display.terminal import Output
from finetune_cli.errors import ConfigError
from finetune_cli.system.signals import end_if_stopped

if TYPE_CHECKING:
    from finetune_cli.records.comparison import CompareReport

EXAMPLES = """\
finetune compare runs/mrpc runs/mrpc-large
finetune compare runs/mrpc runs/mrpc-large --split test --metric f1 --markdown
finetune compare runs/mrpc runs/mrpc-large --html comparison.html
finetune compare runs/main runs/branch --fail-if-worse f1
finetune compare runs/lr5e-5-seeds runs/lr2e-5-seeds --plan 0.01"""

Runs = Annotated[
    list[str],
    options.argument(
        "RUN RUN...", "Run directories or predictions.jsonl files; the first is what the rest are compared to."
    ),
]
Split = Annotated[str, options.input_option("--split NAME", "The split whose scores are compared.")]
Metrics = Annotated[
    list[str], options.input_list("--metric NAME", "Compare this metric, not those of the runs. Repeatable.")
]
AllPairs = Annotated[bool, options.input_option("--all-pairs", "Compare each run with each, not only with the first.")]
FailIfWorse = Annotated[
    list[str],
    options.output_list(
        "--fail-if-worse NAME",
        "Exit with 4 when a later run is significantly worse than the first on this metric. Repeatable.",
    ),
]
Plan = Annotated[
    float | None,
    options.output_option("--plan DIFFERENCE", "Say how many rows or seeds this difference would need to be found."),
]
Html = Annotated[
    Path | None,
    options.output_option("--html FILE", "Write the comparison as a page, with the rows on which the runs disagree."),
]
Markdown = Annotated[bool, options.output_option("--markdown", "Print tables ready to paste into a pull request.")]


@command()
def compare(
    out: Output,
    *,
    runs: Runs,
    split: Split = "validation",
    metrics: Metrics,
    fail_if_worse: FailIfWorse,
    all_pairs: AllPairs = False,
    plan: Plan = None,
    html: Html = None,
    markdown: Markdown = False,
) -> None:
    """Which run is better, and is the difference real.

    Rows are paired by id. Accuracy: McNemar's test; other metrics: paired bootstrap.

    The directory of a training with several seeds is one side, and its seeds are repeated measures. So are runs that
    differ in nothing but seed and output_dir, when every side has two or more. Otherwise each run is compared with the
    first, or with --all-pairs each with each. P values of several comparisons are adjusted for their number.
    """
    if markdown and out.as_json:
        raise ConfigError("--markdown and --json are two forms of one result. Choose one.")
    from finetune_cli.commands.compare import compare as run_compare
    from finetune_cli.display.tables.compare import compare_markdown, compare_result

    def show(report: CompareReport) -> None:
        (compare_markdown if markdown else compare_result)(out, report)
        if html is not None:
            from finetune_cli.report.compare import write_comparison

            write_comparison(html, report)

    end_if_stopped()
    with shown_when_failed(show):
        show(
            run_compare(runs, split=split, metrics=metrics, fail_if_worse=fail_if_worse, all_pairs=all_pairs, plan=plan)
        )
