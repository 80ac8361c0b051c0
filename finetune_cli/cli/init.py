"""`finetune init`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from finetune_cli.cli import options
from finetune_cli.cli.start import start
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
    options.output_option("--output -o", "Write the config here; nothing is overwritten.", metavar="FILE"),
]
Texts = Annotated[list[str], known_list("--text", "The text column; twice for a pair.", metavar="COLUMN")]
Labels = Annotated[
    list[str],
    known_list("--label", "The label column; several with 0 and 1 for several labels a row.", metavar="COLUMN"),
]
Model = Annotated[str | None, known_option("--model", "Hub id, directory or package:NAME/FOLDER.", metavar="MODEL")]
Task = Annotated[
    str | None,
    known_option("--task", "A GLUE task, or classification, multilabel, regression.", metavar="TASK"),
]
Name = Annotated[str | None, known_option("--name", "The configuration of a data set of the Hub.", metavar="NAME")]
Encoding = Annotated[
    str | None,
    known_option("--encoding", "How the file's characters are written, such as windows-1252.", metavar="NAME"),
]
From = Annotated[
    Path | None,
    options.input_option(
        "--from", "Translate the arguments of run_glue.py, a JSON file, in place of looking at data.", metavar="FILE"
    ),
]
Sample = Annotated[bool, options.input_option("--sample", "Take the sample rows of the quickstart as data.")]


def init(
    ctx: typer.Context,
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
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Look at your data and write a commented config that trains as it stands.

    Each choice is shown with its reason; what the data leave open is a question in a comment.
    """
    out = start(ctx, quiet=quiet, verbose=verbose, debug=debug, as_json=json)
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
    init_result(out, report, quiet=quiet)


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
