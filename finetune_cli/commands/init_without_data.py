"""finetune init without data to look at: for a GLUE task, and from the arguments of another script."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_cli.commands.drafts.arguments import Translation, read_arguments, translated
from finetune_cli.commands.drafts.usable_data import require_new
from finetune_cli.commands.drafts.writing import write_draft
from finetune_cli.config.draft import Draft
from finetune_cli.config.fields import RunConfig
from finetune_cli.errors import ConfigError, counted
from finetune_cli.records.init import InitReport
from finetune_cli.tasks import TASKS

DEFAULT_MODEL = "bert-base-uncased"


def init_task(task: str, *, output: Path, model: str | None = None) -> InitReport:
    """A config for a GLUE task. Raises ConfigError for a kind of task, whose data have to be named."""
    require_new(output)
    preset = TASKS[task]
    if preset.path is None:
        raise ConfigError(f"--task {task} is a kind of task: name your data as well: finetune init DATA --task {task}")
    draft = Draft(f"GLUE's {task}. Written by finetune init.")
    draft.section("")
    draft.put("task", task, f"fills in data ({preset.path}, {preset.config_name}), columns, class names and metrics")
    draft.section("model")
    draft.put("name_or_path", model or DEFAULT_MODEL, "as --model says" if model else "a Hub id, or a directory")
    draft.section("data")
    draft.put("max_length", 128, "tokens; only few rows of GLUE are longer: finetune prepare counts them")
    draft.section("training")
    draft.put("num_epochs", 3)
    draft.put("batch_size", 16, "rows an update, over all devices together")
    draft.put("learning_rate", 3e-5, "1e-5 to 5e-5 suit BERT")
    draft.put("warmup_steps", 0.06, "a share of all updates")
    draft.section("evaluation")
    draft.put("metric_for_best", preset.metric_for_best, "the task's own")
    draft.section("")
    draft.put("output_dir", f"runs/{task}")
    draft.put("seed", 42, told=False)
    return write_draft(draft, output, source=f"GLUE task {task}", run=f"runs/{task}", pair=len(preset.text) == 2)


def init_from_arguments(path: Path, *, output: Path, model: str | None = None) -> InitReport:
    """A config from a JSON file with the arguments of run_glue.py and TrainingArguments."""
    require_new(output)
    translation = translated(read_arguments(path))
    if model is not None:
        translation.values["model.name_or_path"] = (model, "as --model says")
    _ask_for_what_is_missing(translation)
    draft = Draft(f"From {path.name}, the arguments of run_glue.py: each line says from which.")
    for name, reason in translation.left.items():
        draft.note(f"Not taken: {name}: {reason}.")
    _put_in_order(draft, translation)
    run = str(translation.values["output_dir"][0])
    pair = len(TASKS[translation.values["task"][0]].text) == 2
    source = f"{path}, {counted(len(translation.values), 'setting')}"
    return write_draft(draft, output, source=source, run=run, pair=pair)


def _ask_for_what_is_missing(translation: Translation) -> None:
    """What run_glue.py finds out by itself, or takes as a default of its own."""
    task = translation.values["task"][0]
    if "model.name_or_path" not in translation.values:
        translation.values["model.name_or_path"] = (DEFAULT_MODEL, "")
        translation.questions["model.name_or_path"] = "model_name_or_path is not given; which model?"
    if TASKS[task].path is None:
        if "data.path" not in translation.values:
            translation.values["data.path"] = ("data", "")
            translation.questions["data.path"] = "where are the rows? A file, a directory or a Hub id"
        if "data.text" not in translation.values:
            translation.values["data.text"] = ("sentence", "")
            translation.questions["data.text"] = (
                "run_glue.py takes the columns that are not the label; name yours, two as [first, second]"
            )
    translation.values.setdefault("output_dir", (f"runs/{task}", ""))


def _put_in_order(draft: Draft, translation: Translation) -> None:
    """The values in the order of the config's fields, a section after another."""
    tops: dict[str, list[str]] = {name: [] for name in RunConfig.model_fields}
    for key in translation.values:
        tops[key.partition(".")[0]].append(key)
    for top, keys in tops.items():
        if not keys:
            continue
        draft.section("" if keys == [top] else top)
        fields = _field_order(top)
        for key in sorted((name for name in keys if "trainer_args" not in name), key=lambda name: fields.get(name, 99)):
            value, why = translation.values[key]
            draft.put(key.rpartition(".")[2], value, why, ask=translation.questions.get(key, ""))
        passed = {key.rpartition(".")[2]: translation.values[key] for key in keys if "trainer_args" in key}
        if passed:
            draft.nested("trainer_args", passed)


def _field_order(top: str) -> Mapping[str, int]:
    annotation: Any = RunConfig.model_fields[top].annotation
    fields = getattr(annotation, "model_fields", {})
    return {f"{top}.{name}": place for place, name in enumerate(fields)}
