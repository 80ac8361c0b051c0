"""`finetune init`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from finetune_cli.cli import options
from finetune_cli.cli.start import command
from finetune_cli.display.terminal import Output
from finetune_cli.errors import ConfigError
from finetune_cli.system.signals import end_if_stopped

EXAMPLES = """\
finetune init reviews.csv
finetune init reviews.csv -o reviews.yaml --text body --label stars
finetune init data/ --model bert-base-cased
finetune init --task mrpc -o mrpc.yaml
finetune init --from run_glue_args.json"""

SAMPLE = ("builtin:sst2-mini", "sst2")
known_option = partial(options.option, group="What you know already")
known_list = partial(options.repeatable, group="What you know already")

Data = Annotated[
    str | None, options.argument("[DATA]", "A file, a directory, builtin:NAME, or a data set's id on the Hub.")
]
ConfigFile = Annotated[
    Path,
    options.output_option("--output -o FILE", "Write the config here; nothing is overwritten."),
]
Texts = Annotated[list[str], known_list("--text COLUMN", "The text column; twice for a pair.")]
Labels = Annotated[
    list[str], known_list("--label COLUMN", "The label column; several with 0 and 1 for several labels a row.")
]
Model = Annotated[str | None, known_option("--model MODEL", "Hub id, directory or package:NAME/FOLDER.")]
Task = Annotated[str | None, known_option("--task TASK", "A GLUE task, or classification, multilabel, regression.")]
Name = Annotated[str | None, known_option("--name NAME", "The configuration of a data set of the Hub.")]
Encoding = Annotated[
    str | None, known_option("--encoding NAME", "How the file's characters are written, such as windows-1252.")
]
From = Annotated[
    Path | None,
    options.input_option(
        "--from FILE", "Translate the arguments of run_glue.py, a JSON file, in place of looking at data."
    ),
]
Sample = Annotated[bool, options.input_option("--sample", "Take the sample rows of the quickstart as data.")]


@command()
def init(
    out: Output,
    *,
    data: Data = None,
    source: From = None,
    sample: Sample = False,
    texts: Texts,
    labels: Labels,
    model: Model = None,
    task: Task = None,
    name: Name = None,
    encoding: Encoding = None,
    output: ConfigFile = Path("config.yaml"),
    offline: options.Offline = False,
) -> None:
    """Look at your data and write a commented config that trains as it stands.

    Each choice is shown with its reason; what the data leave open is a question in a comment.
    """
    _require_one_source(data, source, sample, task, {"--text": texts, "--label": labels, "--encoding": encoding})
    _require_task(task)
    from finetune_cli.display.tables.init import init_result

    if sample:
        data, task = SAMPLE
    if data is None:
        from finetune_cli.commands.init_without_data import init_from_arguments, init_task

        if source is not None:
            report = init_from_arguments(source, output=output, model=model)
        else:
            report = init_task(str(task), output=output, model=model)
    else:
        from finetune_cli.commands.init import init as run_init

        end_if_stopped()
        report = run_init(
            data,
            output=output,
            text=texts,
            label=labels,
            model=model,
            task=task,
            name=name,
            encoding=encoding,
            offline=offline,
        )
    init_result(out, report)


def _require_one_source(
    data: str | None, source: Path | None, sample: bool, task: str | None, of_data: dict[str, object]
) -> None:
    """Raise ConfigError unless exactly one thing is named to make the config from."""
    given = [
        name
        for name, is_there in (("DATA", data is not None), ("--from", source is not None), ("--sample", sample))
        if is_there
    ]
    if len(given) > 1 or (task and given[:1] not in ([], ["DATA"])):
        names = " and ".join([*given, *(["--task"] if len(given) == 1 else [])])
        raise ConfigError(f"{names}: a config is made from one thing. Keep one of them.")
    if not given and not task:
        raise ConfigError(
            "Nothing to look at: expected data (a file, a directory or a Hub id), --task NAME, --sample or --from FILE."
        )
    if data is None and (extra := [name for name, value in of_data.items() if value]):
        raise ConfigError(f"{extra[0]} goes with data to look at. Name them: finetune init DATA {extra[0]} ...")


def _require_task(task: str | None) -> None:
    from finetune_cli.errors import did_you_mean
    from finetune_cli.tasks import TASKS

    if task is not None and task not in TASKS:
        raise ConfigError(
            f"--task {task}: no such task. Allowed: {', '.join(TASKS)}{did_you_mean(task.lower(), TASKS, before='. ')}"
        )
