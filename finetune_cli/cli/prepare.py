"""`finetune prepare`."""

from __future__ import annotations

from typing import Annotated

from finetune_cli.cli import options
from finetune_cli.cli.start import command, read_config
from finetune_cli.display.terminal import Output
from finetune_cli.system.signals import end_if_stopped

EXAMPLES = """\
finetune prepare configs/mrpc.yaml --show 3
finetune prepare configs/mrpc.yaml -s data.max_length=64 --json"""

Show = Annotated[
    int,
    options.output_option("--show N", "Print the first N encoded rows as tokens.", min=0, show_default=False),
]


@command()
def prepare(
    out: Output,
    *,
    config: options.Config,
    overrides: options.Overrides,
    offline: options.Offline = False,
    show: Show = 0,
) -> None:
    """Check the data, tokenise it once, report on it.

    What is tokenised is kept: a second prepare, and train after it, find it by its content.
    """
    run_config = read_config(config, overrides)
    from finetune_cli.commands.prepare import prepare as run_prepare
    from finetune_cli.commands.show import show_examples
    from finetune_cli.display.tables.prepare import prepare_result

    end_if_stopped()
    prepared = run_prepare(run_config, offline=offline, quiet=True)  # the table says it all
    examples = show_examples(prepared, show) if show else []
    prepare_result(out, prepared.directory, prepared.label_names, prepared.report, examples)
