"""`finetune prepare`."""

from __future__ import annotations

from typing import Annotated

import typer

from finetune_cli.cli import options
from finetune_cli.cli.start import read_config, start
from finetune_cli.system.signals import end_if_stopped

EXAMPLES = """\
finetune prepare configs/mrpc.yaml --show 3
finetune prepare configs/mrpc.yaml -s data.max_length=64 --json"""

Show = Annotated[
    int,
    options.output_option(
        "--show", "Print the first N encoded rows as tokens.", metavar="N", min=0, show_default=False
    ),
]


def prepare(
    ctx: typer.Context,
    *,
    config: options.Config,
    overrides: options.Overrides,
    offline: options.Offline = False,
    show: Show = 0,
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
    from finetune_cli.display.tables.prepare import prepare_result

    end_if_stopped()
    prepared = run_prepare(run_config, offline=offline, quiet=True)  # the table says it all
    examples = show_examples(prepared, show) if show else []
    prepare_result(out, prepared.directory, prepared.label_names, prepared.report, examples)
