"""`finetune schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from finetune_cli.cli import options
from finetune_cli.cli.start import command
from finetune_cli.display.terminal import Output
from finetune_cli.errors import ConfigError

EXAMPLES = """\
finetune schema -o finetune.schema.json
finetune schema --markdown"""

OutputFile = Annotated[Path | None, options.output_option("--output -o FILE", "Write here, not to standard output.")]
Markdown = Annotated[bool, options.output_option("--markdown", "The reference of all fields, in Markdown.")]


@command(with_json=False)
def schema(
    out: Output,
    *,
    markdown: Markdown = False,
    output: OutputFile = None,
) -> None:
    """The JSON Schema of the config, or its reference page.

    An editor with a YAML language server completes and checks a config that begins with
    `# yaml-language-server: $schema=FILE`, where FILE is what this command wrote.
    """
    from finetune_cli.config.reference import reference_text
    from finetune_cli.config.schema import schema_text
    from finetune_cli.system.files import write_text

    text = reference_text() if markdown else schema_text()
    if output is None:
        out.line(text.removesuffix("\n"))
        return
    try:
        write_text(output, text)
    except OSError as err:
        raise ConfigError(f"{output} cannot be written: {err.strerror or err}. Choose another place: -o FILE.") from err
