"""The closing table of a sweep as people read it; with --json, the same as one document."""

from __future__ import annotations

from typing import Any

from finetune_cli.display.progress import duration
from finetune_cli.display.tables.scores import collapsed_line, gate_lines
from finetune_cli.display.tables.several import closing, quoted
from finetune_cli.display.terminal import Output
from finetune_cli.errors import counted
from finetune_cli.records.sweep import SweepReport, TrialResult
from finetune_cli.runs.run_dir import RunDir


def sweep_result(out: Output, report: SweepReport) -> None:
    """Every trial, the best with what choosing it costs, comparisons, settings that mattered, what to type next."""
    if out.as_json:
        out.json(report.to_json())
        return
    out.line()
    _trials(out, report)
    for trial in report.trials:
        if trial.error:
            out.line(f"Trial {trial.number} failed: {trial.error}")
    if report.best is None:
        return
    _best(out, report, report.trial(report.best))
    _finalists(out, report)
    _settings(out, report)
    gate_lines(out, report.gates)
    _next(out, report)


def _trials(out: Output, report: SweepReport) -> None:
    keys = list(dict.fromkeys(key for trial in report.trials for key in trial.values))
    rows = [
        [
            _name(trial, report.best),
            trial.ended,
            f"{trial.score}" if trial.score else "-",
            *(_value(trial.values.get(key, "-")) for key in keys),
            duration(trial.seconds),
        ]
        for trial in report.trials
    ]
    out.heading(f"{counted(len(report.trials), 'trial')} by {report.metric}")
    out.table(["trial", "state", report.metric, *(key.rpartition(".")[2] for key in keys), "time"], rows, left=3)
    out.line()


def _name(trial: TrialResult, best: int | None) -> str:
    marks = [" * best"] * (trial.number == best) + [" (the config's own)"] * trial.defaults
    return f"{trial.number}{''.join(marks)}"


def _best(out: Output, report: SweepReport, best: TrialResult) -> None:
    out.line(f"Best: trial {best.number}, {report.metric} {best.score} n={best.n}.")
    out.line(f"  {report.said_of_choice}")
    if best.collapsed is not None:
        out.line(f"  {collapsed_line(best.collapsed)}")
    if report.comparisons:
        rows = [
            [
                f"trial {other.number}, {report.role(other.number)}",
                "-" if other.verdict == "undefined" else str(other.ahead),
                other.verdict,
            ]
            for other in report.comparisons
        ]
        out.table([f"trial {best.number}, less", report.comparisons[0].comparison.metric, ""], rows, left=3)
        out.line(f"  {report.said_of_comparisons}")
    out.line()


def _finalists(out: Output, report: SweepReport) -> None:
    if not report.finalists:
        return
    out.heading("Again with several seeds")
    rows = [
        [
            str(trial.number),
            f"{trial.mean:.3f} [{trial.low:.3f}, {trial.high:.3f}]",
            f"{trial.sd:.3f}",
            trial.said_of_seeds,
        ]
        for trial in report.finalists
    ]
    out.table(["trial", f"mean {report.metric}", "sd", ""], rows)
    out.line()


def _settings(out: Output, report: SweepReport) -> None:
    rows = [
        [
            setting.key,
            _value(setting.best),
            "-" if setting.importance is None else f"{setting.importance:.2f} +- {setting.sd:.2f}",
            f"near the {setting.bound} end: search further" if setting.bound else "",
        ]
        for setting in report.settings
    ]
    out.table(["setting", "best", "importance", ""], rows, left=4)
    if any(setting.importance is None for setting in report.settings):
        out.line("  Too few complete trials to say which settings mattered.")
    out.line()


def _next(out: Output, report: SweepReport) -> None:
    run = RunDir(report.run_dir)
    places = {
        "config": run.best_config,
        "best run": run.best,
        "report": run.report,
        "summary": run.summary,
    }
    train = f"finetune train {quoted(run.best_config)}"
    commands = [f"finetune evaluate {quoted(run.best)}", train]
    if report.folds:
        commands = [f"{train} --final   (the best settings on all rows)"]
    closing(out, places, commands, finished=None if report.count("running") else run.path)


def _value(value: Any) -> str:
    """A setting as the config would have it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)
