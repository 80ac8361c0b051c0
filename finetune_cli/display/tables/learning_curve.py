"""A learning curve as people read it; with --json, the same as one document."""

from __future__ import annotations

from finetune_cli.display.tables.scores import gate_lines
from finetune_cli.display.tables.several import closing, quoted, run_lines
from finetune_cli.display.terminal import Output
from finetune_cli.records.learning_curve import FORECAST_LEVEL, CurveReport
from finetune_cli.runs.run_dir import RunDir


def curve_result(out: Output, report: CurveReport) -> None:
    """The scores with each share, what more rows would bring, and what to type next."""
    if out.as_json:
        out.json(report.to_json())
        return
    out.line()
    if report.points:
        _scores(out, report)
    for sentence in report.answer:
        out.line(sentence)
    if report.forecast:
        out.line(
            f"  {100 * FORECAST_LEVEL:g} % intervals of a power law: the luck of the validation rows and of the runs."
        )
    out.line()
    gate_lines(out, report.gates)
    run_lines(out, "share", report.runs, report.failed, count=len(report.shares))
    if report.runs:
        _next(out, report)


def _scores(out: Output, report: CurveReport) -> None:
    """The deciding metric with its interval, the others without, so that it fits 80 columns."""
    out.heading(f"validation: {report.n} rows, {len(report.points)} shares of train")
    others = [name for name in report.points[0].metrics if name != report.metric]
    rows = []
    for point in report.points:
        plain = [f"{point.metrics[name].value:.3f}" for name in others]
        rows.append([f"{point.share:g}", f"{point.rows:,}", str(point.metrics[report.metric]), *plain])
    header = ["share", "rows", report.metric, *others]
    if report.said_of_collapsed:
        header.append("")
        rows = [[*row, point.collapsed_word] for row, point in zip(rows, report.points, strict=True)]
    out.table(header, rows)
    out.line(
        f"  {100 * report.level:g} % intervals of single scores, which are all a little too good, and all alike: each"
    )
    out.line("  training keeps the best of its evaluations on these rows.")
    if report.said_of_collapsed:
        out.line(f"  {report.said_of_collapsed}")
    out.line()


def _next(out: Output, report: CurveReport) -> None:
    run = RunDir(report.run_dir)
    places = {
        "picture": run.report,
        "numbers": run.metrics / "learning_curve.json",
        "runs": run.path / "share-S",
    }
    largest = run.member("share", report.shares[-1])
    first = next(iter(largest.seed_runs()), largest)
    closing(out, places, [f"finetune evaluate {quoted(first.path)}"])
