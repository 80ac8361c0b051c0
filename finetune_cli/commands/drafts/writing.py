"""A drafted config on the disk: checked as any config is, with the schema beside it, and what was done as a report."""

from __future__ import annotations

import shlex
from pathlib import Path

from finetune_cli.config.draft import SCHEMA_FILE, Draft
from finetune_cli.config.load import check_text
from finetune_cli.config.schema import schema_text
from finetune_cli.errors import ConfigError
from finetune_cli.records.init import InitReport
from finetune_cli.system.files import write_text


def write_draft(
    draft: Draft,
    output: Path,
    *,
    source: str,
    run: str,
    pair: bool,
    folder: bool = False,
    also: tuple[Path, ...] = (),
) -> InitReport:
    """Write the config and, beside it, the schema that its first line names, for editors.

    source: what it was made from, in words. run: its output_dir. folder: new texts will be files in a folder, as these
    are. also: files written before.
    Raises ConfigError when the draft is no valid config, or cannot be written.
    """
    try:
        check_text(draft.text, str(output))
    except ConfigError as err:
        mistakes = "\n".join(f"{problem.key}: {problem.message}" for problem in err.problems)
        raise ConfigError(f"{source}: no config can be made of this.\n{mistakes}") from err
    schema = output.parent / SCHEMA_FILE
    try:
        for path, text in ((output, draft.text), (schema, schema_text())):
            write_text(path, text)
    except OSError as err:
        raise ConfigError(f"{output} cannot be written: {err.strerror or err}. Choose another place: -o FILE.") from err
    config = shlex.quote(str(output))
    texts = "FOLDER" if folder else '--text "..." --text-pair "..."' if pair else '--text "..."'
    return InitReport(
        config=output,
        source=source,
        choices=tuple(draft.choices),
        questions=tuple(draft.questions),
        written=(output, schema, *also),
        next=(
            f"finetune prepare {config} --show 3",
            f"finetune train {config}",
            f"finetune predict {shlex.quote(run)} {texts}",
        ),
    )
