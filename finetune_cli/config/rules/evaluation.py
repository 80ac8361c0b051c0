"""Rules about the evaluation: metrics, gates, groups of rows."""

from collections.abc import Iterator

from finetune_cli.config.gate_syntax import read_gate, remedy
from finetune_cli.config.rules.mistake import Get, Mistake, column_list, mistake, with_choice
from finetune_cli.tasks import EVALUATE_PREFIX, TASKS, metric_problem, metrics_for


def metrics_fit_task(get: Get) -> Iterator[Mistake]:
    kind, names = TASKS[get("task")].kind, get("evaluation.metrics")
    labels = get("data.labels")
    num_classes = len(labels) if labels else None
    for index, name in enumerate(names):
        problem = metric_problem(name, kind, num_classes)
        if problem:
            yield mistake("evaluation.metrics", with_choice(problem, name, metrics_for(kind, num_classes)), index)
        elif name in names[:index]:
            yield mistake("evaluation.metrics", f"{name} is in the list twice", index)


def best_metric_is_computed(get: Get) -> Iterator[Mistake]:
    names, best = get("evaluation.metrics"), get("evaluation.metric_for_best")
    if best is None:
        return
    if best.startswith(EVALUATE_PREFIX):
        message = "whether more is better is not known of this one. Allowed: a metric of the package, or loss"
        yield mistake("evaluation.metric_for_best", message)
    elif best not in (*names, "loss"):
        problem = f"{best!r} is not among evaluation.metrics"
        yield mistake("evaluation.metric_for_best", with_choice(problem, best, [*names, "loss"]))


def gates_are_right(get: Get) -> Iterator[Mistake]:
    names, samples, seeds = get("evaluation.metrics"), get("evaluation.bootstrap.samples"), get("training.seeds")
    for index, text in enumerate(get("evaluation.gates")):
        try:
            gate = read_gate(text)
        except ValueError as err:
            yield mistake("evaluation.gates", f"{text!r}: {str(err).rstrip('.')}", index)
            continue
        if gate.metric == "loss" and gate.end:
            message = f"{text!r}: loss has no interval. Use a metric, such as log_loss, or loss itself"
            yield mistake("evaluation.gates", message, index)
        elif not gate.is_computed(names):
            problem = f"{text!r}: {gate.metric!r} is not among evaluation.metrics"
            message = with_choice(problem, gate.metric, [*names, "loss"]) + remedy(gate.metric, text, names)
            yield mistake("evaluation.gates", message, index)
        elif gate.needs_interval and not samples and not seeds:
            message = f"{text!r}: there is no interval, because evaluation.bootstrap.samples is 0"
            yield mistake("evaluation.gates", message, index)


def slices_are_columns_with_groups(get: Get) -> Iterator[Mistake]:
    names, texts = get("evaluation.slices"), column_list(get("data.text"))
    for index, name in enumerate(names):
        if name in texts:
            message = f"{name} is a text column, so that each row would be a group. Name a column with few values"
            yield mistake("evaluation.slices", message, index)
        elif name in names[:index]:
            yield mistake("evaluation.slices", f"{name} is in the list twice", index)
