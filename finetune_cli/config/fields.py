"""The config of a run: each field with its type, its default and one line about it. Imports pydantic alone.

Values are strict: text is not turned into numbers, nor `true` into 1. `config.load_config` fills in what the task
knows before these models see the values, so a field without a default is never None here.
"""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr

from finetune_cli.config.sections.data import DataConfig
from finetune_cli.config.sections.evaluation import EvaluationConfig
from finetune_cli.config.sections.model import ModelConfig
from finetune_cli.config.sections.training import TrainingConfig
from finetune_cli.config.types import Allowed, Count, Positive, Section, Seed, SeedList, Text, as_tuple
from finetune_cli.records.resampling import Resampling
from finetune_cli.tasks import TASKS, TaskSpec

# Tracker, as `tracking` names it -> the package that it needs, to import and to install.
TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}


def _null_is_epoch(value: Any) -> Any:
    return "epoch" if value is None else value


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
        tuple[Literal[*TRACKERS], ...],  # type: ignore[valid-type]
        BeforeValidator(as_tuple),
        Allowed(f"a list of {' and '.join(', '.join(TRACKERS).rsplit(', ', 1))}"),
    ] = Field((), description="What gets the lines of history.jsonl as well, while the model trains.")
    hub: HubConfig | None = Field(None, description="Upload the best model to the Hub after training.")
    sweep: SweepConfig | None = Field(None, description="What `finetune sweep` searches; no matter to `train`.")
    output_dir: Text = Field(description="The run directory.")
    seed: Seed = Field(
        42, description="Decides the new head, the order of rows, dropout and the splits taken from train."
    )

    # Key path -> the value, and what a saved config has in its place: the reference to a variable that holds a secret.
    _references: dict[tuple[str | int, ...], tuple[Any, str]] = PrivateAttr(default_factory=dict)

    @property
    def references(self) -> dict[tuple[str | int, ...], tuple[Any, str]]:
        """Which values came from variables that hold secrets; config.dump writes these references instead."""
        return self._references

    @property
    def resampling(self) -> Resampling:
        """How the rows of scores and comparisons are drawn."""
        return Resampling(self.evaluation.bootstrap.samples, self.evaluation.bootstrap.level, self.seed)

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
