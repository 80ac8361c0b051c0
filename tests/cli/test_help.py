"""Help pages: complete, within 80 columns, plain, and with examples that the program itself accepts."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from finetune_cli import __version__
from finetune_cli.cli import app
from finetune_cli.cli.verbs import SHORT_HELP

COMMANDS = ["prepare", "train", "evaluate", "predict", "validate"]
PAGES = [*COMMANDS, "compare", "doctor"]
ROOT = Path(__file__).resolve().parents[2]


def help_of(*arguments: str) -> str:
    result = CliRunner().invoke(app.app, [*arguments, "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("command", [[], *[[name] for name in PAGES]], ids=lambda command: " ".join(command) or "root")
def test_help_fits_80_columns_and_is_plain_text(command: list[str]):
    page = help_of(*command)
    assert max(map(len, page.splitlines())) <= 80
    assert page.isascii()
    assert "\x1b" not in page
    assert "Examples:\n  finetune" in page


@pytest.mark.parametrize("name", PAGES)
def test_every_option_says_what_it_does(name: str):
    command = typer.main.get_command(app.app).commands[name]
    silent = [parameter.name for parameter in command.params if not parameter.help]
    assert silent == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_short_forms_and_common_options_are_on_every_command(name: str):
    page = help_of(name)
    for option in ("-q, --quiet", "-v, --verbose", "--debug", "-h, --help", "-s, --set KEY=VALUE"):
        assert option in page


@pytest.mark.parametrize("name", SHORT_HELP)
def test_the_options_of_all_commands_come_last_and_json_where_a_record_is_the_result(name: str):
    options = [parameter.name for parameter in typer.main.get_command(app.app).commands[name].params]
    shared = ["quiet", "verbose", "debug"] if name in ("predict", "schema") else ["json", "quiet", "verbose", "debug"]
    assert options[-len(shared) :] == shared
    assert ("json" in options) == ("json" in shared)


def examples() -> list[list[str]]:
    pages = [help_of(), *(help_of(name) for name in PAGES)]
    lines = [line for page in pages for line in page.partition("Examples:\n")[2].splitlines()]
    return [shlex.split(line.rpartition("|")[2]) for line in lines]


@pytest.mark.parametrize("example", examples(), ids=" ".join)
def test_the_examples_of_the_help_are_accepted(example: list[str]):
    program, name, *arguments = example
    assert program == "finetune"
    command = typer.main.get_command(app.app).commands[name]
    context = command.make_context(name, arguments)
    assert context.params


def test_the_options_of_a_command_stand_in_groups():
    page = help_of("predict")
    headings = re.findall(r"^(\w+):$", page, flags=re.MULTILINE)
    assert headings == ["Arguments", "Input", "Run", "Output", "Options", "Examples"]
    assert page.index("Input:") < page.index("--text TEXT") < page.index("Run:") < page.index("--offline")


def test_without_arguments_the_program_shows_its_help(run_cli: Callable[..., subprocess.CompletedProcess[str]]):
    done = run_cli([])
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


def test_version(run_cli: Callable[..., subprocess.CompletedProcess[str]]):
    done = run_cli(["--version"])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"finetune {__version__}\n", "")


def test_help_needs_neither_rich_nor_the_config_reader():
    program = (
        "import sys; from finetune_cli.cli.app import main; sys.argv = ['finetune', 'train', '--help']; main()\n"
        "print(sorted({'rich', 'yaml', 'finetune_cli.config.load'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
