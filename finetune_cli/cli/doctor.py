"""`finetune doctor`."""

from __future__ import annotations

from typing import Annotated

from finetune_cli.cli import options
from finetune_cli.cli.start import command
from finetune_cli.display.terminal import Output
from finetune_cli.errors import ExitCode
from finetune_cli.system.signals import end_if_stopped
from finetune_cli.system.xla import settle

EXAMPLES = """\
finetune doctor
finetune doctor --processes 2
finetune doctor --offline --json"""

Processes = Annotated[
    int,
    options.input_option(
        "--processes N", "Train two updates on N processes, too: their curve must be that of one process.", min=1
    ),
]


@command()
def doctor(out: Output, *, processes: Processes = 1, offline: options.Offline = False) -> int:
    """Check this machine: versions, devices, disk, the Hub, several processes.

    The last line says that it is fit, or what is wrong and what to type; the exit code is 0 or 5. Nothing is changed.
    """
    from finetune_cli.commands.doctor import doctor as run_doctor
    from finetune_cli.commands.doctor import what_for
    from finetune_cli.display.tables.doctor import doctor_result

    end_if_stopped()
    settle()  # the processes that doctor starts find what was decided
    report = run_doctor(processes=processes, offline=offline)
    doctor_result(out, report, what_for())
    return ExitCode.DONE if report.fit else ExitCode.MISSING
