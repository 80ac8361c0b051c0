"""`finetune runs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from finetune_cli.cli import options
from finetune_cli.cli.start import command
from finetune_cli.display.terminal import Output

EXAMPLES = """\
finetune runs
finetune runs runs/mrpc-sweep --sort f1
finetune runs runs --failed --json"""

Directory = Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to look, in all folders below it too.")]

Sort = Annotated[
    str,
    options.output_option("--sort ORDER", "Order: newest, path, time, size, or a metric such as f1 (best first)."),
]

Failed = Annotated[bool, options.output_option("--failed", "Only runs that failed or were killed.")]


@command()
def runs(
    out: Output,
    *,
    directory: Directory = Path("runs"),
    sort: Sort = "newest",
    failed: Failed = False,
) -> None:
    """The runs below a directory, with their scores.

    Single runs, runs of several seeds, sweeps and folds, and the runs inside of these, whose size counts in that of the
    whole, too. It reads each run.json, and of a run that is said to run whether a process holds it: else it was killed.
    """
    from finetune_cli.commands.runs import runs as find_runs
    from finetune_cli.display.tables.runs import runs_result

    runs_result(out, find_runs(directory, sort=sort, failed=failed), sort=sort)
