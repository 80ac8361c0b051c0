"""The command line: reads the options, calls one command, shows its result, and turns an error into an exit code.

A command is imported only after its config was read. So `--help` and a mistake in a config answer at once.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import typer
from typer.exceptions import TyperException

from finetune_cli.cli.completion import answering
from finetune_cli.cli.help import ROOT_EXAMPLES
from finetune_cli.cli.options import Version, with_flags_alone
from finetune_cli.cli.start import Switches
from finetune_cli.cli.verbs import LazyGroup
from finetune_cli.display.terminal import (
    OutputClosedError,
    is_output_error,
    leave_quietly,
    open_streams,
    output_error,
    show_bug,
    show_error,
)
from finetune_cli.errors import ExitCode, FinetuneError
from finetune_cli.system.launching import is_main_process
from finetune_cli.system.signals import stopping_at_once

CLOSED_PIPE = 141  # 128 + SIGPIPE, as any Unix tool returns when nobody reads its output any more

app = typer.Typer(
    help="Fine-tune text classifiers from one YAML file, with scores you can trust.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(cls=LazyGroup, invoke_without_command=True, epilog=ROOT_EXAMPLES)
def root(ctx: typer.Context, version: Version = False) -> None:
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


def main() -> int:
    """Run the command line; returns the exit code."""
    switches = Switches()
    open_streams()
    try:
        with stopping_at_once(), answering(os.environ):
            code = app(with_flags_alone(sys.argv[1:]), prog_name="finetune", standalone_mode=False, obj=switches)
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
    except OSError as err:
        if not is_output_error(err):
            show_bug()
            return ExitCode.RUN_FAILED
        show_error(str(output_error(err)), enabled=is_main_process())
        return ExitCode.RUN_FAILED
    except SystemExit as err:
        if not isinstance(err.__context__, BrokenPipeError):
            raise  # shell completion ends the program this way
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
    if setting := _setting_without_option(message, sys.argv):
        near = [f"-s {setting}"]
    near = near or _options_with_value(message, context)
    ending = f". Did you mean {' or '.join(sorted(near))}?" if near else "?" if "Did you mean" in message else "."
    return f"{message}{ending}\nSee: {context.command_path if context else 'finetune'} --help"


def _setting_without_option(message: str, words: list[str]) -> str | None:
    """KEY=VALUE, when it was typed without `-s` or as `-s KEY VALUE`; None for any other unexpected argument."""
    unexpected = re.search(r"unexpected extra arguments?(?:\(s\))? \((\S+)\)", message)
    if unexpected is None or (extra := unexpected[1]) not in words:
        return None
    *_, option, key = ["", "", *words[: words.index(extra)]]
    if option in ("-s", "--set") and "=" not in key:
        return f"{key}={extra}"
    return extra if "=" in extra else None


def _options_with_value(message: str, context: Any) -> list[str]:
    """The command's options that take the value which another one refused: `--dtype fp16` for `--format fp16`."""
    refused = re.search(r": '(\S+)' is not one of ", message)
    if refused is None or context is None:
        return []
    takes = {max(param.opts, key=len): param.type_descriptor.choices or () for param in context.command.params}
    return [f"{option} {refused[1]}" for option, choices in takes.items() if refused[1] in map(str, choices)]
