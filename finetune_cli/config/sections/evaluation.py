"""`evaluation:` of the config: metrics, intervals, gates."""

from typing import Annotated, Literal

from pydantic import Field

from finetune_cli.config.types import Allowed, Count, CountFromZero, OpenShare, Section, Text, TextList
from finetune_cli.records.resampling import USUAL_SAMPLES
from finetune_cli.tasks import METRICS


class BootstrapConfig(Section):
    """The interval around each score."""

    samples: CountFromZero = Field(
        USUAL_SAMPLES, description="Draws for comparisons and for intervals without a closed form; 0: no intervals."
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
        directed = (name for name in self.metrics if name in METRICS)
        return self.metric_for_best or next(directed, self.metrics[0])
