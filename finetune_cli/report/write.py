"""The pages about an evaluation, written beside its scores: eval/<split>/report.html and report.md."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from finetune_cli.config.fields import RunConfig
from finetune_cli.data.formats.row import good_rows, id_columns, row_id
from finetune_cli.data.prepared import PreparedData
from finetune_cli.data.source_files import Source
from finetune_cli.errors import DataError, MissingError, counted
from finetune_cli.records.evaluation import EvalReport
from finetune_cli.report.curves import read_curves
from finetune_cli.report.page import EvaluationPage, Lengths, RawRows, select_rows
from finetune_cli.report.rendering import evaluation_html, evaluation_markdown
from finetune_cli.report.slices import SliceScore
from finetune_cli.runs.answers import read_answers
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.sources import data_sources, labelled_file
from finetune_cli.system.files import write_text

logger = logging.getLogger(__name__)

CLIPPED = 2000  # characters of a text that are kept in memory; the page shows fewer


def write_report(
    run: RunDir, config: RunConfig, prepared: PreparedData, report: EvalReport, *, file: Path | None = None
) -> None:
    """Write the pages of one split from its stored scores and predictions.

    The split's rows (those of `file`, when it is not a split of the config) are read again for their texts and for the
    columns of evaluation.slices. When that is no longer possible, the pages say so and name rows by their ids.
    """
    folder, evaluation = run.evaluation(report.split), config.evaluation
    answers = read_answers(folder / "predictions.jsonl")
    rows = prepared.splits[report.split]
    split = prepared.report.splits[report.split]
    # Of rows that are read in windows, the length does not tell which were cut.
    lengths = Lengths(rows.lengths, prepared.report.max_length, 0 if rows.windows else split.truncated)
    selection = select_rows(answers, lengths)
    raw = read_raw(
        lambda: (
            data_sources(config, offline=True)[report.split]
            if file is None
            else labelled_file(file, config, answers.kind)
        ),
        answers.ids,
        selection.rows(),
        text=config.data.text,
        slices=evaluation.slices,
        id_column=config.data.id,
        limit=config.data.limit if file is None else None,
    )
    page = EvaluationPage(
        run.path.resolve().name,
        report,
        answers,
        selection,
        raw,
        curves=read_curves(
            run.read_history(), report.split, list(report.metrics), best_step=run.read_record().best_step
        ),
        lengths=lengths,
        metric_for_best=evaluation.metric_for_best,
        slice_score=SliceScore(answers.task.metric_of_few_rows(evaluation.main_metric), config.resampling),
        facts=list(_facts(run, config, split.where, report)),
    )
    for name, content in (("report.html", evaluation_html(page)), ("report.md", evaluation_markdown(page))):
        write_text(folder / name, content)
    logger.info("Report: %s", folder / "report.html")


def read_raw(
    open_source: Callable[[], Source],
    ids: Sequence[Any],
    wanted: set[int],
    *,
    text: Sequence[str],
    slices: Sequence[str],
    id_column: str | None,
    limit: int | None,
) -> RawRows:
    """Texts of the wanted rows (by place) and the slice columns of all, in one pass over the source."""
    texts: dict[int, tuple[str, ...]] = {}
    columns: dict[str, list[Any]] = {name: [] for name in slices}
    needed = [*text, *slices, *id_columns(id_column)]
    try:
        source, place = open_source(), -1
        for place, (number, values) in enumerate(islice(good_rows(source.open(needed)), limit)):
            if place >= len(ids) or ids[place] != row_id(number, values, id_column):
                raise DataError(f"{source.where}: the rows have changed since they were scored.")
            if place in wanted:
                texts[place] = tuple(str(values.get(name, ""))[:CLIPPED] for name in text)
            for name, column in columns.items():
                column.append(values.get(name))
        if place + 1 != len(ids):
            raise DataError(f"{source.where}: the rows have changed since they were scored.")
    except (DataError, MissingError, OSError) as err:
        return RawRows(problem=str(err))
    return RawRows(texts, columns)


def _facts(run: RunDir, config: RunConfig, where: str, report: EvalReport) -> Iterator[tuple[str, str]]:
    """What was trained and scored, in the words of the config."""
    record, training = run.read_record(), config.training
    yield "task", config.task
    yield "model", config.model.name_or_path or "new (model.from_scratch)"
    yield "rows", where
    if config.data.share is not None:
        yield "share of train", f"{config.data.share:g}"
    steps = training.max_steps
    length = counted(steps, "update") if steps else counted(training.num_epochs, "epoch")
    yield "training", f"{length} of {counted(training.batch_size, 'row')}, learning rate {training.learning_rate:g}"
    yield "loop", training.loop
    yield "seed", str(config.seed)
    if report.decision:
        rule = report.decision.rule
        yield "decision rule", f"{rule}; fitted on {counted(rule.n, 'row')} of {rule.split}"
    if record.started:
        yield "started", record.started
    if record.devices:
        yield "devices", ", ".join(record.devices)
    if record.git_commit:
        yield "git commit", record.git_commit
    if record.versions:
        yield "versions", ", ".join(f"{name} {version}" for name, version in record.versions.items() if version)
