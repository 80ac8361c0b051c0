"""What each kind of task decides when it is scored: one object with the same face for each kind."""

from finetune_cli.evaluation.kinds.base import TaskKind
from finetune_cli.evaluation.kinds.classification import Classification
from finetune_cli.evaluation.kinds.multilabel import Multilabel
from finetune_cli.evaluation.kinds.regression import Regression
from finetune_cli.tasks import Kind

KINDS: dict[Kind, TaskKind] = {
    "classification": Classification(),
    "multilabel": Multilabel(),
    "regression": Regression(),
}
