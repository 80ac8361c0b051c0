"""What `finetune validate` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from finetune_cli.errors import Problem

if TYPE_CHECKING:
    from finetune_cli.config.fields import RunConfig
    from finetune_cli.display.terminal import Output


def validate_result(out: Output, path: Path, config: RunConfig | None, problems: Sequence[Problem]) -> None:
    """The mistakes themselves are shown on stderr, as an error."""
    if out.as_json:
        import dataclasses

        from finetune_cli.config.dump import plain_values

        resolved = plain_values(config) if config else None
        out.json(
            {"valid": config is not None, "problems": [dataclasses.asdict(p) for p in problems], "config": resolved}
        )
    else:
        out.line(f"{path} is valid.")
