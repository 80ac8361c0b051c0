"""What each kind of task decides when it is scored: one object with the same face for each kind."""

from finetune_cli.evaluation.kinds.base import ClassKind, TaskKind
from finetune_cli.evaluation.kinds.classification import Classification
from finetune_cli.evaluation.kinds.multilabel import Multilabel
from finetune_cli.evaluation.kinds.regression import Regression
from finetune_cli.tasks import Kind

CLASS_KINDS: dict[Kind, ClassKind] = {"classification": Classification(), "multilabel": Multilabel()}
KINDS: dict[Kind, TaskKind] = {**CLASS_KINDS, "regression": Regression()}
