"""Rules about data.folds: what it takes the place of, and what goes with it."""

from collections.abc import Iterator
from typing import Any

from finetune_cli.config.rules.mistake import Get, Mistake, column_list, mistake


def _folds(get: Get) -> dict[str, Any] | None:
    """data.folds as a section, as far as it was written; None where there is none."""
    folds = get("data.folds")
    return {"n": folds} if isinstance(folds, int) else folds


def folds_take_the_place_of_validation(get: Get) -> Iterator[Mistake]:
    if _folds(get) is not None and "validation" in (get("data.splits") or {}):
        message = (
            "data.folds takes the validation rows from train. Keep one of the two: leave validation out, "
            "or -s data.splits=null where data.splits names nothing else"
        )
        yield mistake("data.splits.validation", message, at_key=True)


def fold_is_one_of_them(get: Get) -> Iterator[Mistake]:
    folds = _folds(get)
    if folds is None or not isinstance(folds.get("fold"), int):
        return
    last = folds["n"] * folds.get("repeats", 1)
    if folds["fold"] > last:
        yield mistake("data.folds.fold", f"{folds['fold']} is out of range. Allowed: 1 to {last}")


def final_model_makes_no_choice(get: Get) -> Iterator[Mistake]:
    if (_folds(get) or {}).get("fold") != "final":
        return
    for key in ("evaluation.metric_for_best", "training.early_stopping"):
        if get(key) is not None:
            message = "a model of all rows has no rows left to choose by (data.folds.fold: final). Write null"
            yield mistake(key, message)
    if get("evaluation.gates"):
        message = "gates are about the folds' scores, in their own config (data.folds.fold: final). Take them out"
        yield mistake("evaluation.gates", message, at_key=True)


def group_is_another_column(get: Get) -> Iterator[Mistake]:
    group = (_folds(get) or {}).get("group")
    for key in ("text", "label"):
        if group is not None and group in column_list(get(f"data.{key}")):
            message = f"{group} is data.{key} too. Name a column that says which rows belong together"
            yield mistake("data.folds.group", message)


def limit_leaves_rows_for_folds(get: Get) -> Iterator[Mistake]:
    folds, limit = _folds(get), get("data.limit")
    if folds is not None and limit is not None and limit < folds["n"]:
        yield mistake("data.limit", f"{limit} is below data.folds ({folds['n']}): a fold would have no row")


def folds_go_without(get: Get) -> Iterator[Mistake]:
    folds = _folds(get)
    if folds is None or folds.get("fold") is not None:
        return
    if get("training.seeds"):
        message = "data.folds makes several runs already. To see the luck of the draw, set data.folds.repeats instead"
        yield mistake("training.seeds", message)
    if get("hub") is not None:
        message = (
            "data.folds makes several models, and a repository holds one. Take it out; final/config.yaml may have it"
        )
        yield mistake("hub", message, at_key=True)
