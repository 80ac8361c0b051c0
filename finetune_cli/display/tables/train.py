"""What `finetune train` prints at the end of a run."""

from __future__ import annotations

from finetune_cli.display.progress import duration
from finetune_cli.display.tables.scores import gate_lines, scores
from finetune_cli.display.tables.several import closing, quoted
from finetune_cli.display.terminal import Output
from finetune_cli.errors import counted
from finetune_cli.records.training import TrainReport
from finetune_cli.runs.run_dir import RunDir


def train_result(out: Output, report: TrainReport, *, pair: bool) -> None:
    """The result of a run: its scores, its files, and what to type next."""
    run = RunDir(report.run_dir)
    out.line()
    for evaluation in report.evaluations:
        scores(out, evaluation, stopped_early=report.stopped_early)
        gate_lines(out, evaluation.gates)
        out.line()
    chosen = any(scored.choice is None or scored.choice.candidates != 1 for scored in report.evaluations)
    best = f"{'Best' if chosen else 'Kept'}: update {report.best_step}, saved and scored above."
    if report.already_finished:
        out.line(f"Finished before, after {counted(report.steps, 'update')}; nothing was trained. {best}")
    else:
        resumed = f", going on from update {report.resumed_from}" if report.resumed_from else ""
        speed = f"{duration(report.seconds)} ({report.rows_per_second:.0f} rows/s)"
        out.line(f"{counted(report.steps, 'update')} in {speed}{resumed}. {best}")
    out.line()
    places: dict[str, object] = {
        "model": run.model,
        "scores": run.path / "eval",
        "history": run.history,
        "log": run.log,
    }
    if run.checkpoints.is_dir():
        places["checkpoints"] = f"{run.checkpoints}: not needed any more, may be deleted"
    if report.uploaded_to:
        places["uploaded"] = report.uploaded_to
    name = quoted(run.path)
    second = ' --text-pair "..."' if pair else ""
    closing(out, places, [f"finetune evaluate {name}", f'finetune predict {name} --text "..."{second}'])
