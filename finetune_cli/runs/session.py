"""One run directory while a command works on it: lock, log, record of how it went."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from finetune_cli.config.dump import config_diff
from finetune_cli.config.fields import RunConfig
from finetune_cli.errors import ExitCode, FinetuneError, MissingError, NotFinishedError, PrunedError, in_words
from finetune_cli.records.evaluation import EvalReport, MetricValue, of_split
from finetune_cli.records.plain import plain
from finetune_cli.records.run import RunRecord, Score, Status
from finetune_cli.records.training import TrainReport
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.run_log import keeping_early_records, logging_to
from finetune_cli.system import locking
from finetune_cli.system.files import directory_bytes, disk_errors_explained, require_writable
from finetune_cli.system.provenance import describe_process, peak_memory_bytes
from finetune_cli.system.signals import StopNow

logger = logging.getLogger(__name__)

STATUS: dict[int, Status] = {
    ExitCode.DONE: "finished",
    ExitCode.GATE_FAILED: "finished",
    ExitCode.NOT_FINISHED: "stopped",
    ExitCode.INTERRUPTED: "stopped",
}
# On rows and weights.
NO_EFFECT = (
    "output_dir",
    "hub",
    "tracking",
    "evaluation.gates",
    "data.checks",
    "sweep",
    "training.ddp_timeout",
    "training.cuda_graphs",
)


@contextmanager
def locked(run: RunDir) -> Iterator[None]:
    """Hold the run directory alone, and clear what killed runs left half written; a crash releases it.

    A directory that it makes and that nothing is written to goes away again.

    Raises NotFinishedError when another process has it, RunFailedError when the disk gets full inside the block.
    """
    is_new = not run.path.exists()
    require_writable(run.path)
    with disk_errors_explained(run.path), run.lock.open("a+") as file:
        try:
            locking.take(file)
        except locking.HeldError as err:
            raise NotFinishedError(
                f"Another run holds {run.path} (process {err.holder}). Wait for it, or choose another directory with "
                f"--output-dir."
            ) from err
        run.remove_unfinished()
        try:
            with keeping_early_records():
                yield
        finally:
            with suppress(OSError):
                if is_new and list(run.path.iterdir()) == [run.lock]:  # refused before anything was written
                    run.lock.unlink()
                    run.path.rmdir()


def run_differences(there: RunConfig, now: RunConfig, *, ignore: tuple[str, ...] = ()) -> list[str]:
    """A line for each setting that makes these two runs; those of NO_EFFECT and `ignore` may change."""
    return [
        f"  {key}: {old!r} there, {new!r} now"
        for key, old, new in config_diff(there, now)
        if not any(key == own or key.startswith(f"{own}.") for own in (*NO_EFFECT, *ignore))
    ]


def model_name(config: RunConfig) -> str:
    """What run.json calls the model, so that a list of runs needs no other file."""
    return config.model.name_or_path or "from scratch"


def note_scores(record: RunRecord, config: RunConfig, reports: Sequence[EvalReport]) -> None:
    """Add the scores on the split "validation", which picked the best model, to the record."""
    report = of_split(reports)
    note_values(record, config, report.scores, rows=report.n, collapsed=report.collapsed)


def note_values(
    record: RunRecord,
    config: RunConfig,
    metrics: Mapping[str, MetricValue],
    *,
    rows: int,
    collapsed: str | list[str] | None,
) -> None:
    """Add scores to the record; collapsed: as there, an empty list for none."""
    record.metric_for_best, record.scored_rows = config.evaluation.main_metric, rows
    record.collapsed = collapsed or None
    record.scores = {name: Score(plain(score.value), score.low, score.high) for name, score in metrics.items()}


@contextmanager
def recorded(run: RunDir, started: RunRecord) -> Iterator[RunRecord]:
    """Keep run.log and run.json while the block runs; run.json is written last, with exit code, error and time.

    started: what is known of the run before. Yields the record, to which the block adds what it learns; an exit_code
    that it sets is kept when it ends well.
    """
    record = replace(started, **describe_process(), status="running")
    run.write_record(record)
    began = time.monotonic()
    with logging_to(run) as log:
        code = ExitCode.RUN_FAILED
        try:
            with disk_errors_explained(run.path):
                yield record
            code = ExitCode(record.exit_code or ExitCode.DONE)
        except BaseException as err:
            known = err.error if isinstance(err, StopNow) else err
            code = known.exit_code if isinstance(known, FinetuneError) else code
            code = ExitCode.INTERRUPTED if isinstance(err, KeyboardInterrupt) else code
            record.pruned = isinstance(known, PrunedError) or None
            record.error = in_words(known)
            # A stop is no error: its traceback would bury those that are.
            log.log(logging.INFO if code in STATUS else logging.ERROR, record.error, exc_info=code not in STATUS)
            raise
        finally:
            record.status, record.exit_code = STATUS.get(code, "failed"), int(code)
            record.seconds, record.peak_memory_bytes = time.monotonic() - began, peak_memory_bytes()
            record.size_bytes = directory_bytes(run.path)
            try:
                run.write_record(record)
            except OSError as err:
                if record.is_finished:  # else the error under way says what is wrong
                    raise
                logger.warning("run.json does not say how the run ended: %s", err)


def read_report(run: RunDir, *, already_finished: bool) -> TrainReport:
    """The report of a finished run, from its files. Raises MissingError when it lacks some."""
    record = run.read_record()
    files = sorted(run.path.glob("eval/validation*/metrics.json"))
    evaluations = [run.read_scores(file.parent.name) for file in files]
    steps, best_step, seconds, speed = record.steps, record.best_step, record.training_seconds, record.rows_per_second
    is_whole = run.model.is_dir() and evaluations
    if not is_whole or steps is None or best_step is None or seconds is None or speed is None:
        raise MissingError(
            f"{run.path} is marked as finished but lacks its model or scores. Start anew with --overwrite."
        )
    return TrainReport(
        run_dir=run.path,
        steps=steps,
        best_step=best_step,
        resumed_from=record.resumed_from or 0,
        seconds=seconds,
        rows_per_second=speed,
        already_finished=already_finished,
        evaluations=evaluations,
        uploaded_to=record.hub.commit_url if record.hub else None,
        stopped_early=bool(record.stopped_early),
    )


def note_failed_launch(run: RunDir, exit_code: int) -> None:
    """Say in run.json how a launched group ended, when its main process could not do so itself.

    Nothing is said when another run holds the directory: the record is that run's.
    """
    with suppress(NotFinishedError), locked(run):
        record = run.read_record()
        if record.status == "running":
            error = "A process of the group was killed or failed; its message is in the output."
            status = STATUS.get(exit_code, "failed")
            run.write_record(replace(record, status=status, exit_code=exit_code, error=error))
