"""`data:` of the config: where the rows are, and how they become tokens."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from finetune_cli.config.types import (
    Allowed,
    Count,
    CountFromZero,
    OpenShare,
    PartOfTrain,
    Section,
    Seed,
    Text,
    TextList,
    as_one_or_more,
)

Level = Literal["error", "warn", "ignore"]


class ChecksConfig(Section):
    """What each check of the data does when it finds something: stop with exit code 3, say so, or nothing."""

    empty_text: Level = Field("warn", description="Rows with an empty text.")
    duplicates: Level = Field("warn", description="Rows that repeat text and label, or the id, of an earlier row.")
    contradictions: Level = Field("warn", description="Rows with the text of an earlier row and another label.")
    overlap: Level = Field("warn", description="Texts that two splits share, case, blanks and punctuation aside.")
    label_spelling: Level = Field(
        "warn", description="Labels that look alike (case, blanks, composed letters), or are others joined by a comma."
    )
    unseen_labels: Level = Field("error", description="Labels that no row of train has.")
    truncated: Level = Field("warn", description="More than 1 % of a split is longer than max_length.")
    imbalance: Level = Field("warn", description="A class of train ten times as large as another; one without rows.")
    encoding: Level = Field("warn", description="Garbled letters, replacement and control characters.")
    markup: Level = Field("warn", description="HTML tags and entities.")
    long_rows: Level = Field("warn", description="Rows over ten times as long as 95 % of the others.")


def _as_folds(value: Any) -> Any:
    """`folds: 5` is short for `folds: {n: 5}`."""
    return {"n": value} if isinstance(value, int) and not isinstance(value, bool) else value


Fold = int | Literal["final"] | None


class FoldsConfig(Section):
    """Cross-validation: rows of train are dealt into parts, each of which is tested by a run that did not see it."""

    n: Annotated[int, Field(ge=2), Allowed("a whole number from 2")] = Field(
        description="Parts; each class gives the same share to all."
    )
    repeats: Count = Field(1, description="Deal the rows out so many times, and train n runs each time.")
    group: Text | None = Field(None, description="A column; rows with the same value there stay in one part.")
    seed: Seed = Field(0, description="Decides which row is in which part, whatever the seed of the run.")
    fold: Annotated[Count | Literal["final"], Allowed("a whole number from 1 or final")] | None = Field(
        None,
        description="Train this fold alone, from 1 to n x repeats; final: one model on all rows, beside the folds; "
        "null: all folds, one by one.",
    )


HEAD_SHARE = 0.25  # Sun et al. 2019, "How to Fine-Tune BERT for Text Classification?": 128 of 510 tokens


def as_long_texts(value: Any) -> Any:
    """`head_tail` and `windows` alone are short for a section with their defaults."""
    shorthands: dict[Any, Any] = {"head_tail": {"head_tail": HEAD_SHARE}, "windows": {"windows": {}}}
    return shorthands.get(value, value) if isinstance(value, str) else value


class WindowsConfig(Section):
    """Rows longer than max_length are cut into overlapping windows, each trained and answered by itself."""

    stride: CountFromZero = Field(
        64, description="Tokens that neighbouring windows share, as in tokenizers; fewer than a window has."
    )
    pool: Literal["mean", "max", "logits"] = Field(
        "mean", description="The row's answer: mean or max of the windows' probabilities, or the mean of their logits."
    )


class LongTextsConfig(Section):
    """What is kept of rows longer than max_length: one of the two."""

    head_tail: OpenShare | None = Field(
        None, description="Share of a long text's tokens kept from its beginning; the rest are kept from its end."
    )
    windows: WindowsConfig | None = Field(None, description="Read the whole text, in overlapping windows.")


class DataConfig(Section):
    """Where the rows are and how they become tokens. Paths are relative to the working directory."""

    path: Annotated[Text, Allowed("a Hub id, a directory, a file, or builtin:NAME")] = Field(
        description="Hub id, directory, file, or builtin:NAME (samples inside finetune_cli)."
    )
    name: Text | None = Field(None, description="Configuration of a Hub data set that has several.")
    splits: (
        dict[
            str,
            Annotated[
                Text | float | Annotated[TextList, Field(min_length=1)],
                Allowed("a file, a pattern, a list of these, or a fraction of train"),
            ],
        ]
        | None
    ) = Field(
        None,
        description="Split -> file (inside data.path when that is a directory), pattern such as train-*.parquet, list "
        "of these, or split of the Hub; for validation and test also a fraction of train (stratified, seeded).",
    )
    columns: (
        Annotated[TextList, Field(min_length=1), Allowed("a list of column names, in the order of the file")] | None
    ) = Field(None, description="Names of all columns of CSV and TSV files without a header; null: they have one.")
    quoting: Literal["auto", "csv", "none"] = Field(
        "auto",
        description="Quotation marks around texts in tables: csv, as in CSV; none, part of the text, as in GLUE's TSV; "
        "auto: CSV has them, and TSV as the file shows.",
    )
    text: Annotated[
        tuple[Text, ...],
        BeforeValidator(as_one_or_more),
        Field(min_length=1, max_length=2),
        Allowed("one column name, or a list of two that are encoded as a pair"),
    ] = Field(description="The text column, or two columns that are encoded as a pair.")
    label: Annotated[
        Text | Annotated[TextList, Field(min_length=2)],
        Allowed("a column name, or with task: multilabel a list of two or more columns that hold 0 and 1"),
    ] = Field(
        "label",
        description="The label column: class names, class numbers, or values to predict; multilabel: lists of names, "
        "or several columns with 0 and 1.",
    )
    labels: Annotated[TextList, Field(min_length=2), Allowed("a list of two or more class names")] | None = Field(
        None, description="Class names in the order of their numbers; null: as the data say."
    )
    unlabelled: Literal["error", "drop"] = Field(
        "error",
        description="Rows without a label (empty, null or -1): refuse them, or leave them out and say so.",
    )
    id: Text | None = Field(
        None, description="The column with each row's id in the predictions; null: id, else idx, else the row number."
    )
    max_length: Annotated[int, Field(ge=4), Allowed("a whole number from 4")] | None = Field(
        None, description="Longest input in tokens, special tokens included; null: the model's own limit."
    )
    padding: Literal["dynamic", "max_length"] = Field(
        "dynamic", description="Pad to the longest row of the batch, or every row to max_length."
    )
    truncation: Literal["longest_first", "only_first", "only_second", "error"] = Field(
        "longest_first", description="Which text of a pair gives way when a row is too long; error: refuse such rows."
    )
    long_texts: Annotated[
        Literal["truncate", "head_tail", "windows"] | LongTextsConfig,
        BeforeValidator(as_long_texts),
        Allowed("truncate, head_tail, windows, or a section with one of the last two"),
    ] = Field(
        "truncate",
        description="Rows longer than max_length: cut, cut in the middle, or read in windows. Of a pair the second "
        "text gives way.",
    )
    split_seed: Seed | None = Field(None, description="Draws the fractions of data.splits; null: seed does.")
    folds: Annotated[
        FoldsConfig | None, BeforeValidator(_as_folds), Allowed("a whole number from 2, or a section with keys")
    ] = Field(None, description="Cross-validation in place of a validation split: a run for each part of train.")
    share: PartOfTrain | None = Field(
        None, description="Train on this share of train (stratified, seeded; the larger share has the smaller in it)."
    )
    limit: Count | None = Field(None, description="Take the first N rows of each split: for trials.")
    checks: ChecksConfig = Field(
        default_factory=ChecksConfig, description="What is looked for in the rows: error, warn or ignore."
    )

    @property
    def trains_on_all_rows(self) -> bool:
        """Whether no row is held out to score the model on: the final one, beside the folds that score it."""
        return self.folds is not None and self.folds.fold == "final"
