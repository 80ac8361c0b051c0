"""What `finetune compare` prints."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_cli.display.tables.scores import collapsed_line
from finetune_cli.display.terminal import Output
from finetune_cli.errors import counted
from finetune_cli.records.comparison import ComparedSide, CompareReport


def compare_result(out: Output, report: CompareReport) -> None:
    """The runs, the settings that differ, the scores side by side, and a sentence for each comparison."""
    if out.as_json:
        out.json(report.to_json())
        return
    names = [side.name for side in report.sides]
    out.heading(_compared_rows(report))
    for side in report.sides:
        out.line(f"  {side.name}  {', '.join(side.runs)}")
    if report.config_differences:
        out.line()
        rows = [
            [setting.key, *(setting.shown(name, absent="-") for name in names)] for setting in report.config_differences
        ]
        out.table(["config", *names], rows)
    out.line()
    metrics = report.sides[0].metrics
    out.table(["score", *names], [[name, *(_side_score(side, name) for side in report.sides)] for name in metrics])
    out.line()
    for run, name in _collapsed_runs(report):
        out.line(f"{run}: {collapsed_line(name)}")
    for sentence in _comparison_sentences(report):
        out.line(sentence)
    out.line()
    out.line(_comparison_method(report))


def compare_markdown(out: Output, report: CompareReport) -> None:
    """The same for a pull request: one table of settings and scores, and the sentences as a list."""
    names = [side.name for side in report.sides]
    out.line(f"**{_compared_rows(report)}**")
    out.line()
    for side in report.sides:
        out.line(f"- **{side.name}**: {', '.join(map(_code, side.runs))}")
    out.line()
    out.line(f"| | {' | '.join(names)} |")
    out.line(f"| --- |{' ---: |' * len(names)}")
    for setting in report.config_differences:
        values = [_code(setting.shown(name, absent="-")) for name in names]
        out.line(f"| {_code(setting.key)} | {' | '.join(values)} |")
    for metric in report.sides[0].metrics:
        out.line(f"| **{metric}** | {' | '.join(_side_score(side, metric) for side in report.sides)} |")
    out.line()
    for run, name in _collapsed_runs(report):
        out.line(f"- {_code(run)}: {collapsed_line(name)}")
    for sentence in _comparison_sentences(report):
        out.line(f"  {sentence.strip()}" if sentence.startswith(" ") else f"- {sentence}")
    out.line()
    out.line(_comparison_method(report))


def _collapsed_runs(report: CompareReport) -> list[tuple[str, str]]:
    return [(run, name) for side in report.sides for run, name in side.collapsed.items()]


def _compared_rows(report: CompareReport) -> str:
    rows = f"{counted(report.n, 'row', form=',')}, paired by id"
    return rows if report.split is None else f"{report.split}: {rows}"


def _side_score(side: ComparedSide, metric: str) -> str:
    return f"{side.metrics[metric]} sd {side.sd[metric]:.3f}" if side.sd else str(side.metrics[metric])


def _comparison_sentences(report: CompareReport) -> Iterator[str]:
    """What each comparison found, and what these rows can show."""
    for pair in report.comparisons:
        only = f" Rows that one alone has right: {pair.a} {pair.only_a}, {pair.b} {pair.only_b}."
        yield pair.sentence if pair.only_a is None else f"{pair.sentence}{only}"
        if pair.shown:
            yield f"  {pair.shown}"
        if pair.plan is not None:
            yield f"  {pair.plan.sentence(pair.metric)}"


def _comparison_method(report: CompareReport) -> str:
    level = f"{100 * report.level:g} % intervals, {report.samples:,} resamples"
    if report.family > 1:
        level += f"; p adjusted for {report.family} comparisons of a metric (Holm), intervals not"
    if report.seeds:
        return f"Means over seeds; tests by Student's t over seeds and rows; {level}."
    return (
        f"Accuracy by McNemar's test, the rest by paired bootstrap; {level}. This tells these models apart; for their "
        "settings, compare two or more seeds of each."
    )


def _code(text: str) -> str:
    """Text as Markdown code. Characters that would end the code or the cell of a table are replaced."""
    plain = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{plain}`"
