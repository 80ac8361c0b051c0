"""How the help pages look: options in named groups, and examples printed as they are written.

Plain text: rich would take half of the start-up time, and draw boxes in files and pipes, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

if TYPE_CHECKING:
    from typer._click import HelpFormatter

ARGUMENTS, REST = "Arguments", "Options"

ROOT_EXAMPLES = """\
finetune train configs/quickstart.yaml
finetune evaluate runs/quickstart
finetune predict runs/quickstart --text "I am super delighted.\""""


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
        groups[REST] = groups.pop(REST)  # as the last group
        width = max(len(names) for records in groups.values() for names, _ in records)
        for name, records in groups.items():
            if not records:  # a command without arguments
                continue
            with formatter.section(name):
                formatter.write_dl([(names.ljust(width), text) for names, text in records], col_max=width)

    def format_epilog(self, ctx: Any, formatter: HelpFormatter) -> None:
        write_examples(self.epilog or "", formatter)


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def write_examples(lines: str, formatter: HelpFormatter) -> None:
    with formatter.section("Examples"):
        formatter.write("".join(f"  {line}\n" for line in lines.splitlines()))
