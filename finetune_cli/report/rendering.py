"""Pages as HTML and Markdown. All text from the data is escaped: what looks like markup stays text.

The HTML is one file without scripts; its content security policy forbids it to load anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from finetune_cli.records.evaluation import EvalReport
from finetune_cli.report import charts
from finetune_cli.report.curves import smoothed
from finetune_cli.report.page import EvaluationPage
from finetune_cli.report.slices import Slicing

TEMPLATES = Path(__file__).with_name("templates")
CLIP = 600  # characters of a text, and
CLIP_NAME = 80  # of a name, that are shown
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
MARKDOWN_SIGNS = re.compile(r"([\\`*_\[\]|~#$])")


def evaluation_html(page: EvaluationPage) -> str:
    return _environment("html").get_template("report.html").render(page=page, charts=_Drawn(page))


def evaluation_markdown(page: EvaluationPage) -> str:
    return _tidy(_environment("md").get_template("report.md").render(page=page))


def render_html(template: str, **values: Any) -> str:
    """Any other page of the same look."""
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


class _Drawn:
    """The charts of a page, drawn when the template asks for them."""

    def __init__(self, page: EvaluationPage) -> None:
        self.page = page

    def loss(self) -> Markup:
        curves = self.page.curves
        assert curves is not None
        held_out = [(float(one.step), one.loss) for one in curves.evaluations]
        lines = [
            charts.Line("training loss", curves.loss, "noise"),
            charts.Line("training loss, smoothed", smoothed(curves.loss), "first"),
            charts.Line(f"{self.page.report.split} loss", held_out, "second", dots=True),
        ]
        return charts.line_chart(lines, label="Loss over updates", marked=self._best(), y_from_zero=True)

    def score(self, metric: str) -> Markup:
        curves = self.page.curves
        assert curves is not None
        points = [(float(one.step), one.metrics[metric]) for one in curves.evaluations if metric in one.metrics]
        line = charts.Line(metric, points, "second", dots=True)
        return charts.line_chart([line], label=f"{metric} over updates", marked=self._best())

    def learning_rate(self) -> Markup:
        curves = self.page.curves
        assert curves is not None
        line = charts.Line("learning rate", curves.learning_rate, "first")
        return charts.line_chart([line], label="Learning rate over updates", y_from_zero=True)

    def reliability(self) -> Markup:
        assert self.page.calibration is not None
        return charts.reliability_chart(self.page.calibration)

    def scatter(self) -> Markup:
        assert self.page.residuals is not None
        return charts.scatter_chart(self.page.residuals)

    def residuals(self) -> Markup:
        assert self.page.residuals is not None
        return charts.residual_chart(self.page.residuals)

    def score_domain(self, report: EvalReport, names: Sequence[str]) -> tuple[float, float]:
        values = [report.metrics[name] for name in names]
        held_against = [report.baseline.get(name) for name in names]
        return charts.domain_of([x for one in values for x in (one.value, one.low, one.high)] + held_against)

    def slice_domain(self, slicing: Slicing) -> tuple[float, float]:
        scores = [group.score for group in slicing.groups]
        return charts.domain_of([self.page.slice_overall, *(x for one in scores for x in (one.low, one.high))])

    def whisker(self, score: Any, domain: tuple[float, float], mark: float | None = None) -> Markup:
        return charts.whisker(score.value, score.low, score.high, domain, mark=mark)

    def _best(self) -> float | None:
        return None if self.page.best is None else float(self.page.best.step)


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
        "percent": lambda value: f"{100 * value:.1f} %",
    }
    return environment


def _tidy(markdown: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", markdown).strip() + "\n"
