"""Pages as HTML and Markdown. All text from the data is escaped: what looks like markup stays text.

The HTML is one file without scripts; its content security policy forbids it to load anything.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from finetune_cli.report import charts, curve_charts
from finetune_cli.report.page import EvaluationPage

TEMPLATES = Path(__file__).with_name("templates")
CLIP = 600  # characters of a text, and
CLIP_NAME = 80  # of a name, that are shown
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
MARKDOWN_SIGNS = re.compile(r"([\\`*_\[\]|~#$])")


def evaluation_html(page: EvaluationPage) -> str:
    return render_html("report.html", page=page)


def evaluation_markdown(page: EvaluationPage) -> str:
    return _tidy(_environment("md").get_template("report.md").render(page=page))


def render_html(template: str, **values: Any) -> str:
    return _environment("html").get_template(template).render(**values)


def clean(text: Any, limit: int = CLIP) -> str:
    """A value as readable text: no control characters, no marks that turn the direction of writing, at most `limit`."""
    shown = UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(text))
    return shown if len(shown) <= limit else shown[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def escape_markdown(value: Any) -> str:
    """One line of Markdown that shows just this text; numbers and Markup pass through."""
    if isinstance(value, Markup):
        return str(value)
    text = " ".join(clean(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MARKDOWN_SIGNS.sub(r"\\\1", text)


def number(value: float | None) -> str:
    """Three decimals, or three digits of a number that is large or tiny; a dash where it is not defined."""
    if value is None or value != value:
        return "\N{EN DASH}"
    return f"{value:.3g}" if value and not 0.001 <= abs(value) < 1000 else f"{value:.3f}"


def _html_text(value: Any) -> Any:
    """Every expression of a page passes here: text is cleaned, then escaped by the environment."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else clean(value, limit=10_000)


@cache
def _environment(form: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=form == "html",
        finalize=_html_text if form == "html" else escape_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "signed": lambda value: number(value) if value != value else f"{value:+.3f}".replace("-", "\N{MINUS SIGN}"),
        "clip": clean,
        "name": lambda value: clean(value, CLIP_NAME),
        "code": lambda value: Markup(clean(value, CLIP_NAME).replace("`", "'").replace("\n", " ")),
        "thousands": lambda value: f"{value:,}",
        "percent": lambda value: f"{100 * value:.1f} %",
    }
    environment.globals |= {"charts": charts, "curve_charts": curve_charts}
    return environment


def _tidy(markdown: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", markdown).strip() + "\n"
