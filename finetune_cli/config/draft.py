"""A config file for people, written line by line: values, why they were chosen, and what is still a question."""

from typing import Any

from finetune_cli.config.dump import in_flow
from finetune_cli.records.init import Choice

SCHEMA_FILE = "finetune.schema.json"
SCHEMA_LINE = f"# yaml-language-server: $schema={SCHEMA_FILE}"  # read by VS Code's and Neovim's YAML support
WIDTH = 120
QUESTION = "question"


class Draft:
    """Collects the lines of a config file; `text` is the whole file, `choices` and `questions` what it says."""

    def __init__(self, *header: str) -> None:
        self._lines = [SCHEMA_LINE, *(f"# {_one_line(line)}".rstrip() for line in header)]
        self._section = ""
        self.choices: list[Choice] = []
        self.questions: list[str] = []

    @property
    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def section(self, name: str, why: str = "") -> None:
        """Begin a section of the config; "" goes back to its top."""
        self._section = name
        self._lines.append("")
        if name:
            self._lines.append(f"{name}:{_comment(why)}")

    def put(self, key: str, value: Any, why: str = "", *, ask: str = "", told: bool = True) -> None:
        """One value of the current section. why: its comment. ask: a question, in a comment of its own above it.

        told: whether it is among the choices that the report lists.
        """
        indent = "  " if self._section else ""
        dotted = f"{self._section}.{key}" if self._section else key
        if ask:
            self.ask(f"{dotted}: {ask}", shown=ask)
        line, why = f"{indent}{in_flow(key)}: {in_flow(value)}", _one_line(why)
        if len(line) + len(_comment(why)) > WIDTH and why:
            self._lines += [f"{indent}# {why}", line]
        else:
            self._lines.append(line + _comment(why))
        if told:
            self.choices.append(Choice(dotted, in_flow(value), why))

    def nested(self, key: str, values: dict[str, tuple[Any, str]]) -> None:
        """A section inside the current one: its values, each with its comment."""
        indent = "  " if self._section else ""
        self._lines.append(f"{indent}{key}:")
        for name, (value, why) in values.items():
            self._lines.append(f"{indent}  {name}: {in_flow(value)}{_comment(_one_line(why))}")
            self.choices.append(Choice(f"{self._section}.{key}.{name}", in_flow(value), _one_line(why)))

    def ask(self, question: str, *, shown: str = "") -> None:
        """A question for a person. shown: its words in the file, where the key stands right below."""
        self.questions.append(_one_line(question))
        self.note(f"{QUESTION}: {shown or question}")

    def note(self, text: str) -> None:
        """A comment on a line of its own."""
        self._lines.append(f"{'  ' if self._section else ''}# {_one_line(text)}")


def _comment(why: str) -> str:
    return f" # {why}" if why else ""


def _one_line(text: str) -> str:
    """A comment ends at the line's end, and a control character would make the file unreadable."""
    return "".join(character if character.isprintable() else " " for character in text)
