"""Rules about the learning curve: its shares, and what does not go with it."""

from collections.abc import Iterator
from itertools import pairwise

from finetune_cli.config.rules.mistake import Get, Mistake, mistake


def shares_rise(get: Get) -> Iterator[Mistake]:
    shares = get("training.learning_curve") or []
    for index, (share, next_share) in enumerate(pairwise(shares), start=1):
        if next_share <= share:
            problem = "is there twice" if next_share == share else f"comes after {share:g}"
            message = f"{next_share:g} {problem}. Write the shares in rising order, such as [0.1, 0.2, 0.4, 0.7, 1]"
            yield mistake("training.learning_curve", message, index)


def learning_curve_goes_without(get: Get) -> Iterator[Mistake]:
    if not get("training.learning_curve"):
        return
    folds = get("data.folds")
    if folds is not None and (isinstance(folds, int) or not isinstance(folds.get("fold"), int)):
        message = "all runs of training.learning_curve are scored on the same rows. Take one fold: data.folds.fold: 1"
        yield mistake("data.folds", message, at_key=True)
    if get("data.share") is not None:
        yield mistake("data.share", "training.learning_curve sets it for each run. Take it out", at_key=True)
    if get("sweep") is not None:
        message = "a sweep trains each setting on all rows. Take this out, or the section sweep"
        yield mistake("training.learning_curve", message)
    if get("hub") is not None:
        message = (
            "training.learning_curve makes several models, and a repository holds one. Take it out; upload the run of "
            "your choice later: finetune train OUTPUT_DIR/share-1/config.yaml -s hub.repo_id=user/name"
        )
        yield mistake("hub", message, at_key=True)
