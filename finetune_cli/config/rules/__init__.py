"""Rules between fields, and rules that a type cannot express. Each yields its mistakes.

The rules run on plain values, also when other fields are wrong. When a rule asks `get` for a value that is reported as
wrong already, `get` ends the rule.
"""

from types import FunctionType

from finetune_cli.config.rules import data, evaluation, folds, model, sweep, training

# Every public function of these modules is a rule.
RULES = tuple(
    rule
    for module in (data, evaluation, model, folds, training, sweep)
    for name, rule in vars(module).items()
    if isinstance(rule, FunctionType) and rule.__module__ == module.__name__ and not name.startswith("_")
)
