"""How the help pages look: named groups of options, and examples as they are written.

Plain text: rich would cost half of the start-up time and draw boxes into pipes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from typer._click import HelpFormatter

ARGUMENTS, REST = "Arguments", "Options"

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
finetune train configs/mrpc.yaml --seeds 1,2,3,4,5
finetune train configs/mrpc.yaml --num-processes 2
finetune train configs/mrpc.yaml --dry-run
finetune train configs/mrpc.yaml --push -s hub.repo_id=user/name"""

EVALUATE_EXAMPLES = """\
finetune evaluate runs/mrpc
finetune evaluate runs/mrpc --gate 'f1>=0.88' --gate 'accuracy.low>=0.8'
finetune evaluate runs/b --baseline runs/a --max-drop f1=0.01 --junit ci.xml
finetune evaluate runs/mrpc --fit temperature --fit threshold --for f1
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
finetune compare runs/mrpc runs/mrpc-large --html comparison.html
finetune compare runs/main runs/branch --fail-if-worse f1
finetune compare runs/lr5e-5-seeds runs/lr2e-5-seeds"""


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
