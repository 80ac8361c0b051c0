"""`training:` of the config: loop, schedule, batches, loss."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field

from finetune_cli.config.types import (
    Allowed,
    Count,
    CountFromZero,
    NotNegative,
    PartOfTrain,
    Positive,
    Section,
    SeedList,
    Share,
    as_tuple,
)

Schedule = Literal["linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)


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
    lr_scheduler: Schedule = Field("linear", description="Course of the learning rate over all updates.")
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
