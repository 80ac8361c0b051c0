"""finetune predict: labels for a file, standard input or texts, in the order they came, in constant memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from finetune_cli.data.checks.texts import is_empty
from finetune_cli.data.formats.row import BadRow, GoodRow, Row, Values, row_id
from finetune_cli.data.tokenization import EncodedBatch, TextEncoder
from finetune_cli.errors import DataError, counted
from finetune_cli.evaluation.inference import predict_logits
from finetune_cli.evaluation.scoring import predictions
from finetune_cli.models.facts import text_facts
from finetune_cli.models.tokenizer import load_tokenizer
from finetune_cli.predictions.input import Input, open_rows, with_own_columns
from finetune_cli.records.decision_rule import read_rule
from finetune_cli.runs.decisions import require_possible
from finetune_cli.runs.long_texts import encoder_of, target_reading
from finetune_cli.runs.target import Target, model_task, open_target, prepare_to_answer
from finetune_cli.system.read_ahead import read_ahead
from finetune_cli.training.precision import available_device

logger = logging.getLogger(__name__)

WINDOW_ROWS = 2048  # rows read ahead and sorted by length: little padding, little memory, answers soon


def predict(
    target: str | Path,
    rows: Input,
    *,
    overrides: Sequence[str] = (),
    output_dir: str | None = None,
    probabilities: bool = False,
    all_probabilities: bool = False,
    keep_columns: bool = False,
    on_bad_row: str = "error",
    input_format: str | None = None,
    min_confidence: float | None = None,
    window_rows: int = WINDOW_ROWS,
    offline: bool = False,
    report_bad_row: Callable[[str], None] = lambda message: None,
) -> Generator[dict[str, Any]]:
    """Label rows one window at a time; yields {"id", "prediction", "probabilities" if asked for} in the rows' order.

    target: CONFIG, RUN or MODEL; see open_target. rows: a file, a directory with a file for each text, a byte stream
    such as standard input, or a list of texts, each a tuple of two for a pair; of a pipe nothing may have been read
    before. keep_columns: the row's own columns come first in each object; see with_own_columns. on_bad_row: "error"
    raises DataError at the first row that cannot be used, "skip" leaves it out, "null" yields it with a null prediction
    and an "error"; each message also goes to `report_bad_row`. input_format: of a stream or a file; see read_stream.
    min_confidence: an answer with a lower probability becomes null. The model's decision rule is obeyed where it has
    one, its own bound on the confidence where `min_confidence` is None. While a window is labelled, a second thread
    reads and tokenises the next; it ends with the iterator. The model is loaded before the first row.
    """
    trained = open_target(target, overrides, output_dir=output_dir, offline=offline)
    predictor = _Predictor(
        trained, probabilities=probabilities, all_probabilities=all_probabilities, min_confidence=min_confidence
    )
    id_column = trained.id_column
    remarks = _Remarks(id_column)
    with open_rows(trained, rows, input_format=input_format) as (columns, source, wake):
        encoded = _windows(source, window_rows, predictor.encoder, columns, remarks)
        with closing(read_ahead(encoded, wake=wake)) as windows:
            for window in windows:
                ids = [row_id(row, values, id_column) for row, values in window.good]
                answers = predictor.label(ids, window.encoded)
                remarks.cut += predictor.count_cut(window.encoded)
                for row in window.rows:
                    if isinstance(row, BadRow):
                        values, answer = row.values or {}, _of_bad_row(row, on_bad_row, id_column, report_bad_row)
                    else:
                        values, answer = row[1], next(answers)
                        remarks.count(answer)
                    if answer is not None:
                        yield with_own_columns(answer, values) if keep_columns else answer
    remarks.say(predictor.max_length, predictor.min_confidence)


def _of_bad_row(
    row: BadRow, on_bad_row: str, id_column: str | None, report_bad_row: Callable[[str], None]
) -> dict[str, Any] | None:
    """What is answered to a row that cannot be used; None where it is left out."""
    if on_bad_row == "error":
        raise DataError(f"{row}\nUse --on-bad-row skip or null to go on past such rows.")
    report_bad_row(str(row))
    if on_bad_row == "skip":
        return None
    return {"id": row_id(row.row, row.values or {}, id_column), "prediction": None, "error": row.problem}


class _Remarks:
    """What there is to say when all rows are labelled: of empty texts, whose answer says nothing of a text, of cut ones
    and of rows without an answer."""

    def __init__(self, id_column: str | None) -> None:
        self.id_column = id_column
        self.labelled = self.unsure = self.cut = self.empty = 0
        self.first_empty = ""

    def look_at(self, row: int, values: Values, columns: Iterable[str]) -> None:
        if any(is_empty(values[column]) for column in columns):
            self.empty += 1
            self.first_empty = self.first_empty or f"row {row + 1}, id {row_id(row, values, self.id_column)}"

    def count(self, answer: dict[str, Any]) -> None:
        self.labelled += 1
        self.unsure += answer["prediction"] is None

    def say(self, max_length: int, min_confidence: float | None) -> None:
        rows = counted(self.labelled, "row")
        if self.empty:
            have = "1 row has" if self.empty == 1 else f"{self.empty} rows have"
            where = self.first_empty if self.empty == 1 else f"the first is {self.first_empty}"
            logger.warning("%s an empty text (%s): the answer there says nothing.", have, where)
        if self.cut:
            were = "was" if self.cut == 1 else "were"
            logger.info("%d of %s %s cut to %d tokens.", self.cut, rows, were, max_length)
        if self.unsure:
            below = f"with a confidence below {min_confidence:.4g}"
            logger.info("%d of %s not answered (null): %s.", self.unsure, rows, below)


@dataclass(frozen=True)
class _Window:
    """Rows in their order, those among them that can be used, and these encoded; None where none can."""

    rows: list[Row]
    good: list[GoodRow]
    encoded: EncodedBatch | None


def _windows(
    source: Iterable[Row], window_rows: int, encoder: TextEncoder, columns: Sequence[str], remarks: _Remarks
) -> Iterator[_Window]:
    pending = iter(source)
    while rows := list(islice(pending, window_rows)):
        good = [row for row in rows if not isinstance(row, BadRow)]
        for number, values in good:
            remarks.look_at(number, values, columns)
        encoded = None
        if good:
            texts, *pairs = [[values[column] for _, values in good] for column in columns]
            encoded = encoder.encode(texts, pairs[0] if pairs else None, rows=[row for row, _ in good])
        yield _Window(rows, good, encoded)


class _Predictor:
    """A loaded model with its tokenizer."""

    def __init__(
        self, target: Target, *, probabilities: bool, all_probabilities: bool, min_confidence: float | None
    ) -> None:
        self.model = target.load(available_device())
        self.task = model_task(self.model)
        require_possible(None, min_confidence, self.task)
        self.decision = read_rule(target.model_dir, self.task.classes, self.task.kind)
        own = self.decision.abstention if self.decision else None
        self.min_confidence = own.below if min_confidence is None and own is not None else min_confidence
        self.probabilities = probabilities or all_probabilities
        self.all_probabilities = all_probabilities
        facts = text_facts(target.model_dir, trust_remote_code=target.trust_remote_code)
        tokenizer = load_tokenizer(target.model_dir)
        self.pad_token_id: int = tokenizer.pad_token_id
        how = target_reading(target, facts.max_length, self.task.kind)
        self.max_length = how.max_length
        self.encoder = encoder_of(tokenizer, facts, how)
        self.max_tokens = target.config.training.micro_batch_tokens if target.config else None
        self.autocast = prepare_to_answer(target.config, self.model.device)

    def count_cut(self, encoded: EncodedBatch | None) -> int:
        """The rows that were longer than what the model reads of them."""
        if encoded is None or encoded.windows is not None:
            return 0
        return int((encoded.true_lengths > self.max_length).sum())

    def label(self, ids: Sequence[Any], encoded: EncodedBatch | None) -> Iterator[dict[str, Any]]:
        """One answer for each encoded row, in order."""
        if encoded is None:
            return iter(())
        logits = predict_logits(
            self.model,
            encoded,
            pad_token_id=self.pad_token_id,
            max_length=self.max_length,
            device=self.model.device,
            autocast=self.autocast,
            max_tokens=self.max_tokens,
        )
        return predictions(
            ids,
            logits,
            kind=self.task.kind,
            label_names=self.task.classes,
            probabilities=self.probabilities,
            all_probabilities=self.all_probabilities,
            decision=self.decision,
            min_confidence=self.min_confidence,
        )
