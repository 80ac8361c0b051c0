"""Every field of the config, its type, its default and one line about it. Imports pydantic alone.

Values are strict: text is not turned into numbers, nor `true` into 1. `config.load_config` fills in what the task
knows before these models see the values, so a field without a default is never None here.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr

from finetune_cli.config.types import (
    Allowed,
    Count,
    CountFromZero,
    NotNegative,
    OpenShare,
    PartOfTrain,
    Positive,
    Section,
    Seed,
    SeedList,
    Share,
    Text,
    TextList,
    as_one_or_more,
    as_tuple,
)
from finetune_cli.tasks import METRICS, TASKS, TaskSpec


def _null_is_epoch(value: Any) -> Any:
    return "epoch" if value is None else value


class FromScratchConfig(Section):
    """A small BERT with random weights and a WordPiece vocabulary trained from the data: for trials and tests."""

    vocab_size: Annotated[int, Field(ge=100), Allowed("a whole number from 100")] = Field(
        2000, description="Entries of the vocabulary, special tokens included, at most."
    )
    hidden_size: Count = Field(64, description="Width of the model; a multiple of num_attention_heads.")
    num_hidden_layers: Count = Field(2, description="Transformer layers.")
    num_attention_heads: Count = Field(2, description="Attention heads in each layer.")
    intermediate_size: Count = Field(128, description="Width of the feed-forward layers.")
    max_position_embeddings: Annotated[int, Field(ge=8), Allowed("a whole number from 8")] = Field(
        128, description="Longest input in tokens; data.max_length cannot exceed it."
    )


class LoraConfig(Section):
    """Low-rank adapters (LoRA); the names are those of peft's LoraConfig."""

    r: Count = Field(8, description="Rank of the adapters.")
    lora_alpha: Count = Field(16, description="The adapters' share is scaled by lora_alpha / r.")
    lora_dropout: Share = Field(0.0, description="Dropout of the adapters' input.")
    target_modules: (
        Annotated[TextList, Field(min_length=1), Allowed("a list of names of linear layers")]
        | Literal["all-linear"]
        | None
    ) = Field(None, description="Layers that get an adapter, by the end of their name; null: query and value.")


class ModelConfig(Section):
    """The pretrained model."""

    name_or_path: Text | None = Field(
        None,
        description="Hub id, directory, or package:NAME/FOLDER (model files inside an installed Python package).",
    )
    revision: Text | None = Field(None, description="Branch, tag or commit on the Hub; null: the newest.")
    dropout: Share | None = Field(None, description="Dropout of the hidden layers; null: the model's own.")
    attention_dropout: Share | None = Field(None, description="Dropout inside attention; null: the model's own.")
    from_scratch: FromScratchConfig | None = Field(
        None, description="Sizes of a new model with random weights, in place of name_or_path."
    )
    lora: LoraConfig | None = Field(
        None, description="Train low-rank adapters and the head alone; they are merged into the saved model."
    )
    freeze: Annotated[
        Literal["none", "embeddings", "body"] | Count,
        Allowed("none, embeddings, body, or a number of layers from 1"),
    ] = Field(
        "none",
        description="Weights left as they are: the embeddings, those and the lowest N layers, or all but the head.",
    )
    dtype: Literal["fp32", "bf16", "nf4"] = Field(
        "fp32",
        description="Format of frozen weights, with lora or freeze: body. bf16: half the memory; nf4: 4 bits (QLoRA).",
    )
    trust_remote_code: bool = Field(False, description="Run the Python code that comes with a model of the Hub.")


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
                Text | float | Annotated[tuple[Text, ...], BeforeValidator(as_tuple), Field(min_length=1)],
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
        Annotated[
            tuple[Text, ...],
            BeforeValidator(as_tuple),
            Field(min_length=1),
            Allowed("a list of column names, in the order of the file"),
        ]
        | None
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
        Text | Annotated[tuple[Text, ...], BeforeValidator(as_tuple), Field(min_length=2)],
        Allowed("a column name, or with task: multilabel a list of two or more columns that hold 0 and 1"),
    ] = Field(
        "label",
        description="The label column: class names, class numbers, or values to predict; multilabel: lists of names, "
        "or several columns with 0 and 1.",
    )
    labels: (
        Annotated[
            tuple[Text, ...],
            BeforeValidator(as_tuple),
            Field(min_length=2),
            Allowed("a list of two or more class names"),
        ]
        | None
    ) = Field(None, description="Class names in the order of their numbers; null: as the data say.")
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


class EarlyStoppingConfig(Section):
    """Stop when the score no longer rises."""

    patience: Count = Field(description="Evaluations without a better score before training stops.")
    min_delta: NotNegative = Field(0.0, description="How much better a score must be to count as better.")


class TrainingConfig(Section):
    """How the model is trained."""

    loop: Literal["trainer", "accelerate"] = Field(
        "trainer", description="The Trainer, or the same loop written by hand on Accelerate; both give one result."
    )
    num_epochs: Positive = Field(3.0, description="Passes over the training rows.")
    max_steps: Count | None = Field(None, description="Updates in all, in place of num_epochs; null: num_epochs.")
    batch_size: Count = Field(8, description="Rows per optimizer update, over all devices together.")
    micro_batch_size: Literal["auto"] | Count = Field(
        "auto",
        description="Rows, or windows of rows, that one device takes at once; accumulation makes up the rest of "
        "batch_size.",
    )
    micro_batch_tokens: Count | None = Field(
        None,
        description="Tokens, padding included, that one device takes at once, in place of micro_batch_size; also when "
        "the model is scored.",
    )
    batching: Literal["length", "random"] = Field(
        "length", description="Put rows of similar length together (faster, seeded shuffling), or any rows."
    )
    learning_rate: Positive = Field(5e-5, description="Highest learning rate of the schedule.")
    lr_scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"] = Field(
        "linear", description="Course of the learning rate over all updates."
    )
    warmup_steps: Annotated[
        CountFromZero | Share, Allowed("a whole number of updates from 0, or a share of all updates such as 0.1")
    ] = Field(0, description="Updates in which the learning rate rises from 0; below 1: a share of all updates.")
    weight_decay: NotNegative = Field(0.0, description="AdamW's decay; biases and layer norms are left out.")
    max_grad_norm: Positive | None = Field(1.0, description="Gradients are clipped to this norm; null: not clipped.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where it is native and fast, else fp16 on older CUDA, else fp32. fp32: no TF32."
    )
    compile: Annotated[bool | Literal["auto"], Allowed("true, false or auto")] = Field(
        False, description="torch.compile the layers; auto: on CUDA, in a run long enough to pay for it."
    )
    cuda_graphs: bool = Field(
        True, description="On one CUDA device, replay updates as graphs where the model allows it: faster, same result."
    )
    packing: bool = Field(
        False, description="Lay the rows of a micro-batch end to end inside the encoder, in place of padding them."
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute the layers' outputs again in the backward pass: less memory, more time."
    )
    label_smoothing: Share = Field(0.0, description="Share of the target taken from the true class.")
    class_weights: Literal["balanced"] | dict[str, Positive] | None = Field(
        None, description="Weight of each class in the loss: by name, or balanced (inverse frequency)."
    )
    focal_gamma: NotNegative = Field(
        0.0, description="Focal loss: how much less the rows count that are answered well already; 0: all alike."
    )
    early_stopping: EarlyStoppingConfig | None = Field(None, description="Stop when metric_for_best no longer rises.")
    on_nonfinite: Literal["error", "skip"] = Field(
        "error", description="What a NaN or infinite loss or gradient does: end the run, or skip that update."
    )
    seeds: SeedList | None = Field(
        None, description="Train once with each, into seed-N of the run directory; in place of seed."
    )
    ddp_timeout: Count = Field(
        1800, description="Seconds that a process waits for the others in an exchange before it gives up."
    )
    learning_curve: (
        Annotated[
            tuple[PartOfTrain, ...],
            BeforeValidator(as_tuple),
            Field(min_length=2),
            Allowed(
                "a list of two or more rising shares of train, above 0 and up to 1, such as [0.1, 0.2, 0.4, 0.7, 1]"
            ),
        ]
        | None
    ) = Field(
        None,
        description="Train once with each share of train, into share-S of the run directory: would more data help?",
    )
    trainer_args: dict[str, Any] = Field(
        default_factory=dict, description="Further fields of TrainingArguments, for the Trainer loop alone."
    )


class BootstrapConfig(Section):
    """The interval around each score."""

    samples: CountFromZero = Field(
        1000, description="Draws for comparisons and for intervals without a closed form; 0: no intervals."
    )
    level: OpenShare = Field(0.95, description="How often an interval is to hold the true score.")


class EvaluationConfig(Section):
    """How the model is scored."""

    every: Literal["epoch"] | Count = Field("epoch", description="Evaluate after each epoch, or each N updates.")
    metrics: Annotated[TextList, Field(min_length=1)] = Field(description="Metrics by name.")
    metric_for_best: Text | None = Field(
        description="The metric that picks the best model, or loss; null: the last model is kept, whatever its score."
    )
    bootstrap: BootstrapConfig = Field(
        default_factory=BootstrapConfig, description="Confidence intervals of the scores."
    )
    baseline: Annotated[Literal["auto", False], Allowed("auto or false")] = Field(
        "auto", description="Score TF-IDF with logistic regression beside the model, fitted on the same rows; or not."
    )
    slices: TextList = Field((), description="Columns of the data: the report scores each of their values apart.")
    gates: TextList = Field(
        (), description="What train and evaluate must reach, or exit with 4, such as 'f1>=0.88' or 'f1.low>=0.85'."
    )

    @property
    def main_metric(self) -> str:
        """The metric that matters most: the one that picks the best model, else the first whose direction is known."""
        known = (name for name in self.metrics if name in METRICS)
        return self.metric_for_best or next(known, self.metrics[0])


class CheckpointingConfig(Section):
    """When the state of the run is saved."""

    every: Annotated[Literal["epoch"] | Count, BeforeValidator(_null_is_epoch)] = Field(
        "epoch", description="Save after each epoch, or each N updates."
    )
    every_seconds: Positive | None = Field(None, description="Save also when this much time has passed since.")
    keep: Count = Field(2, description="Newest checkpoints to keep; the best one is always kept.")


class HubConfig(Section):
    """Where on the Hub the best model goes after training."""

    repo_id: Annotated[Text, Allowed("the name of a repository, such as user/name")] = Field(
        description="The repository: a user or organisation of the Hub, a slash, a name."
    )
    private: bool = Field(True, description="Create the repository for its owners' eyes alone.")


class SweepConfig(Section):
    """What `finetune sweep` searches, and for how long."""

    parameters: Annotated[
        dict[str, Any], Field(min_length=1), Allowed("settings of the config, each with what is tried for it")
    ] = Field(
        description="Setting -> a list of values, or {low, high} with log: true or a step; keys such as "
        "training.learning_rate."
    )
    trials: Count | None = Field(None, description="How many are tried; null: time decides, or the whole grid.")
    time: Text | None = Field(None, description="No trial is begun after so much training in all, such as 2h or 30m.")
    sampler: Literal["tpe", "random", "grid"] = Field(
        "tpe", description="How settings are chosen: by what did well so far, at random, or every combination."
    )
    pruner: Literal["none", "median", "hyperband"] = Field(
        "none", description="Whether a trial that does worse than others did ends early."
    )
    seeds: SeedList | None = Field(
        None, description="Train the best settings again with each of these; the best mean wins."
    )
    finalists: Count = Field(3, description="How many of the best settings are trained again with sweep.seeds.")
    seed: Seed = Field(0, description="Decides which settings are tried.")


class RunConfig(Section):
    """The whole config of a run, with everything filled in."""

    task: Text = Field(
        description="A GLUE task, which fills in data and metrics; or classification, multilabel, regression."
    )
    model: ModelConfig = Field(description="The pretrained model.")
    data: DataConfig = Field(description="Where the rows are and how they become tokens.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="How the model is trained.")
    evaluation: EvaluationConfig = Field(description="How the model is scored.")
    checkpointing: CheckpointingConfig = Field(
        default_factory=CheckpointingConfig, description="When the run's state is saved."
    )
    tracking: Annotated[
        tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...],
        BeforeValidator(as_tuple),
        Allowed("a list of tensorboard, wandb, mlflow and trackio"),
    ] = Field((), description="What gets the lines of history.jsonl as well, while the model trains.")
    hub: HubConfig | None = Field(None, description="Upload the best model to the Hub after training.")
    sweep: SweepConfig | None = Field(None, description="What `finetune sweep` searches; no matter to `train`.")
    output_dir: Text = Field(description="The run directory.")
    seed: Seed = Field(
        42, description="Decides the new head, the order of rows, dropout and the splits taken from train."
    )

    # Key path -> the value, and what a saved config has in its place: the reference to a variable that holds a secret.
    _references: dict[tuple[str | int, ...], tuple[Any, str]] = PrivateAttr(default_factory=dict)

    def keep_references(self, references: Mapping[tuple[str | int, ...], tuple[Any, str]]) -> None:
        """Remember which values came from variables that hold secrets; config.dump writes these references instead."""
        self._references.update(references)

    @property
    def references(self) -> Mapping[tuple[str | int, ...], tuple[Any, str]]:
        return self._references

    @property
    def spec(self) -> TaskSpec:
        """The task as this config has it: the user's columns, class names and metrics in place of the preset's."""
        return replace(
            TASKS[self.task],
            path=self.data.path,
            config_name=self.data.name,
            text=self.data.text,
            label=self.data.label,
            labels=self.data.labels,
            metrics=self.evaluation.metrics,
            metric_for_best=self.evaluation.main_metric,
        )
