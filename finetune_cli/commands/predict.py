"""finetune predict: labels for a file, standard input or texts, in the order they came, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch

from finetune_cli import model_files, modeling
from finetune_cli.commands.target import Target, class_names, open_target, text_columns
from finetune_cli.data.checks import checked_rows
from finetune_cli.data.readers import BadRow, Row, Values, read_rows, read_stream
from finetune_cli.data.tokenization import TextEncoder
from finetune_cli.errors import DataError
from finetune_cli.evaluation.inference import predict_logits
from finetune_cli.evaluation.scoring import predictions
from finetune_cli.training.precision import AUTOCAST_DTYPES, available_device, choose_precision

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WINDOW_ROWS = 2048  # rows read ahead and sorted by length: little padding, little memory, answers soon
TEXT_NAMES = ("text", "text_pair")


def predict(
    target: str | Path,
    rows: Path | str | BinaryIO | Sequence[str | tuple[str, ...]],
    *,
    overrides: Sequence[str] = (),
    output_dir: str | None = None,
    probabilities: bool = False,
    keep_columns: bool = False,
    on_bad_row: str = "error",
    window_rows: int = WINDOW_ROWS,
    offline: bool = False,
    report_bad_row: Callable[[str], None] = lambda message: None,
) -> Iterator[dict[str, Any]]:
    """Label rows one window at a time; yields {"id", "prediction", "probabilities" if asked for} in the rows' order.

    target: CONFIG, RUN or MODEL; see open_target. rows: a file, a byte stream such as standard input, or a list of
    texts, each a tuple of two for a pair. keep_columns: the row's own columns come first in each object. on_bad_row:
    "error" raises DataError at the first row that cannot be used, "skip" leaves it out, "null" yields it with a null
    prediction and an "error"; each message also goes to `report_bad_row`. The model is loaded before the first row is
    read.
    """
    found = open_target(target, overrides, output_dir=output_dir, offline=offline)
    predictor = _Predictor(found, probabilities=probabilities)
    columns, source = _open(found, rows)
    id_column = found.config.data.id if found.config else None
    pending = iter(source)
    while window := list(islice(pending, window_rows)):
        good = [row for row in window if not isinstance(row, BadRow)]
        answers = predictor.label(good, columns, id_column)
        for row in window:
            if not isinstance(row, BadRow):
                kept = {
                    name: value for name, value in row[1].items() if name not in ("id", "prediction", "probabilities")
                }
                yield {**(kept if keep_columns else {}), **next(answers)}
                continue
            if on_bad_row == "error":
                raise DataError(f"{row}\nUse --on-bad-row skip or null to go on past such rows.")
            report_bad_row(str(row))
            if on_bad_row == "null":
                yield {"id": row.row, "prediction": None, "error": row.problem}


class _Predictor:
    """A loaded model with its tokenizer."""

    def __init__(self, target: Target, *, probabilities: bool) -> None:
        self.model: PreTrainedModel = modeling.load_trained(
            target.model_dir, trust_remote_code=target.trust_remote_code
        ).to(available_device())
        self.names = class_names(self.model)
        self.probabilities = probabilities
        self.pad_token_id = model_files.pad_token_id(target.model_dir)
        data = target.config.data if target.config else None
        self.encoder = TextEncoder(
            modeling.load_tokenizer(target.model_dir),
            max_length=(data.max_length if data else None) or model_files.model_max_length(target.model_dir),
            truncation=data.truncation if data else "longest_first",
        )
        requested = target.config.training.precision if target.config else "fp32"
        self.autocast: torch.dtype | None = AUTOCAST_DTYPES[choose_precision(requested, self.model.device.type)[0]]

    def label(
        self, rows: Sequence[tuple[int, Values]], columns: Sequence[str], id_column: str | None
    ) -> Iterator[dict[str, Any]]:
        if not rows:
            return iter(())
        texts, *pairs = [[values[column] for _, values in rows] for column in columns]
        encoded = self.encoder.encode(texts, pairs[0] if pairs else None, rows=[row for row, _ in rows])
        logits = predict_logits(
            self.model, encoded, pad_token_id=self.pad_token_id, device=self.model.device, autocast=self.autocast
        )
        ids = [_row_id(row, values, id_column) for row, values in rows]
        return predictions(ids, logits, label_names=self.names, probabilities=self.probabilities)


def _open(
    target: Target, rows: Path | str | BinaryIO | Sequence[str | tuple[str, ...]]
) -> tuple[Sequence[str], Iterable[Row]]:
    """The text columns and the checked rows of an input."""
    if isinstance(rows, str | Path):
        path = Path(rows)
        first = next((row for row in read_rows(path) if not isinstance(row, BadRow)), None)
        columns = text_columns(target, list(first[1]) if first else [])
        return columns, checked_rows(read_rows(path), where=str(path), text=columns)
    if isinstance(rows, Sequence):
        examples = [(row,) if isinstance(row, str) else row for row in rows]
        columns = target.config.data.text if target.config else TEXT_NAMES[: max(map(len, examples), default=1)]
        for texts in examples:
            if len(texts) != len(columns):
                raise DataError(
                    f"--text: this model takes {_texts(len(columns))} for each row ({', '.join(columns)}), found "
                    f"{_texts(len(texts))}. {'Add --text-pair.' if len(columns) == 2 else 'Leave out --text-pair.'}"
                )
        return columns, [(number, dict(zip(columns, texts, strict=True))) for number, texts in enumerate(examples)]
    columns = target.config.data.text if target.config else TEXT_NAMES[:1]
    return columns, checked_rows(read_stream(rows, columns), where="standard input", text=columns)


def _texts(count: int) -> str:
    return "one text" if count == 1 else f"{count} texts"


def _row_id(row: int, values: Values, id_column: str | None) -> Any:
    for column in (id_column, "id", "idx"):
        if column is not None and isinstance(values.get(column), str | int):
            return values[column]
    return row
