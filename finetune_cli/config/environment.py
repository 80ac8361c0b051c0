"""`${NAME}` and `${NAME:-default}` in the texts of a config: filled in from the environment.

As in a shell, the default counts where the variable is not set or empty, and `$${` stands for `${` itself. A value from
a variable whose name says that it is a secret is used, but never written: saved configs keep the reference.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

OPENING, ESCAPED = "${", "$${"
REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
NAME = re.compile(r"([A-Za-z_]\w*)(?::-(.*))?", re.ASCII | re.DOTALL)
SHORTEST_SECRET = 4  # shorter texts occur in any message
SECRET_NAME = re.compile(r"TOKEN|KEY|SECRET|PASSWORD", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Filled:
    """A text with its variables filled in.

    value: what it stands for. saved: the same with the references to secrets left in, or None where there are none.
    is_whole: whether the text is a single reference and nothing else.
    """

    value: str
    saved: str | None
    is_whole: bool


def fill(text: str, environ: Mapping[str, str]) -> Filled:
    """Fill in the variables of a text. Raises ValueError, with what to type, for one not set or badly formed."""
    has_secret = False

    def saved(match: re.Match[str]) -> str:
        nonlocal has_secret
        if match.group() == ESCAPED:
            return ESCAPED
        name, value = _variable(match, environ)
        is_secret = bool(SECRET_NAME.search(name))
        has_secret |= is_secret
        return match.group() if is_secret else escaped(value)

    def filled(match: re.Match[str]) -> str:
        return OPENING if match.group() == ESCAPED else _variable(match, environ)[1]

    kept = REFERENCE.sub(saved, text)
    is_whole = text != ESCAPED and REFERENCE.fullmatch(text) is not None
    return Filled(REFERENCE.sub(filled, text), kept if has_secret else None, is_whole)


def escaped(text: str) -> str:
    """A text as a config has to write it, so that nothing in it is taken for a variable."""
    return text.replace(OPENING, ESCAPED)


def _variable(match: re.Match[str], environ: Mapping[str, str]) -> tuple[str, str]:
    """The name and the value of one reference."""
    parts = NAME.fullmatch(match[1] or "")
    if parts is None:
        raise ValueError(
            f"{match.group()} is not of the form ${{NAME}} or ${{NAME:-default}}. Write $${{ for the two characters"
        )
    name, default = parts.groups()
    value = environ.get(name)
    if default is not None:
        return name, value or default
    if value is None:
        raise ValueError(f"the environment has no variable {name}. Set it, or give a default: ${{{name}:-value}}")
    return name, value
