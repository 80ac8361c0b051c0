"""The commands by name, each built when it is asked for: that takes milliseconds, and a run needs one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from finetune_cli.cli.help import REST, GroupedCommand, write_examples

if TYPE_CHECKING:
    from typer._click import HelpFormatter

# In the order of the help: the command and its line there. Its function and its examples are in the module of its name.
SHORT_HELP = {
    "prepare": "Check the data, tokenise it once, report on it.",
    "train": "Fine-tune, and keep the best model with its scores.",
    "evaluate": "Score a split or a file; can be a gate for CI.",
    "predict": "Label a file, standard input or --text.",
    "validate": "Show every mistake in a config at once.",
    "export": "Write the model for ONNX, OpenVINO, fp16 or int8, with proof.",
    "compare": "Which run is better, and is the difference real.",
    "sweep": "Search settings; each trial an ordinary run.",
    "runs": "The runs below a directory, with their scores.",
    "init": "From your data to a commented config.",
    "schema": "The config's fields, for editors and readers.",
    "doctor": "Check this machine: versions, devices, disk, the Hub.",
}


class Verbs(Mapping[str, Any]):
    """Name -> command; a command is imported and built at the first look."""

    def __getitem__(self, name: str) -> Any:
        return _built(name, SHORT_HELP[name])

    def __iter__(self) -> Iterator[str]:
        return iter(SHORT_HELP)

    def __len__(self) -> int:
        return len(SHORT_HELP)


@cache
def _built(name: str, short_help: str) -> Any:
    module = import_module(f"finetune_cli.cli.{name}")
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(cls=GroupedCommand, epilog=module.EXAMPLES, short_help=short_help)(getattr(module, name))
    return typer.main.get_command(alone)


class LazyGroup(TyperGroup):
    """The program itself: in its help the commands stand before the options, and none of them is built for that."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = Verbs()

    def format_options(self, ctx: Any, formatter: HelpFormatter) -> None:
        records = [parameter.get_help_record(ctx) for parameter in self.get_params(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(list(SHORT_HELP.items()))
        with formatter.section(REST):
            formatter.write_dl([record for record in records if record is not None])

    def format_epilog(self, ctx: Any, formatter: HelpFormatter) -> None:
        write_examples(self.epilog or "", formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        from typer._click.shell_completion import CompletionItem  # Typer's own: TAB alone depends on where it is

        names = [CompletionItem(name, help=text) for name, text in SHORT_HELP.items() if name.startswith(incomplete)]
        return [*names, *super(TyperGroup, self).shell_complete(ctx, incomplete)]
