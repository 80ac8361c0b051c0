"""finetune init: data in, a commented config out that trains as it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from finetune_cli.commands.drafts.lengths import measured_lengths
from finetune_cli.commands.drafts.model import choose_model
from finetune_cli.commands.drafts.settings import (
    batch_size,
    data_section,
    evaluation_section,
    output_section,
    training_section,
    with_validation,
)
from finetune_cli.commands.drafts.usable_data import UsableData, find_data, local_place, require_new
from finetune_cli.commands.drafts.writing import write_draft
from finetune_cli.config.draft import Draft
from finetune_cli.data.formats.row import good_rows
from finetune_cli.data.label_sets import is_unlabelled
from finetune_cli.data.source_files import is_saved
from finetune_cli.data.sources import require_present
from finetune_cli.data.subsets import labelled_only
from finetune_cli.data.survey.columns import survey
from finetune_cli.data.survey.labels import NoLabelError
from finetune_cli.data.survey.proof import prove
from finetune_cli.data.survey.roles import choose_roles
from finetune_cli.errors import DataError
from finetune_cli.records.init import InitReport
from finetune_cli.tasks import TASKS, Kind, TaskSpec


def init(
    data: str,
    *,
    output: Path,
    text: Sequence[str] = (),
    label: Sequence[str] = (),
    model: str | None = None,
    task: str | None = None,
    name: str | None = None,
    encoding: str | None = None,
    offline: bool = False,
) -> InitReport:
    """Look at `data` (file, directory, builtin:NAME or Hub id) and write a config for it to `output`.

    text, label, model, task, encoding: what the user has settled. name: configuration of a Hub data set.
    Raises ConfigError when a file would be overwritten, DataError for data that cannot be trained on; of rows without
    labels it names the copy for `predict`, where one had to be made.
    """
    if not local_place(data).exists():
        require_present(data, key="")
    require_new(output)
    preset = TASKS[task] if task else None
    usable = find_data(data, name=name, beside=output.parent, encoding=encoding, offline=offline)
    try:
        return _draft(data, usable, output, preset, text, label, model)
    except NoLabelError as err:  # a copy that was made is what `predict` takes
        rows = usable.path if Path(usable.path).is_file() else "FILE"
        raise DataError(f"{err} To label these rows with a model: finetune predict RUN|MODEL {rows}") from err
    except BaseException:
        for path in usable.written:
            path.unlink(missing_ok=True)
        raise


def _draft(
    data: str,
    usable: UsableData,
    output: Path,
    preset: TaskSpec | None,
    text: Sequence[str],
    label: Sequence[str],
    model: str | None,
) -> InitReport:
    train = usable.train
    seen = survey(good_rows(train.open(None)))
    kind: Kind | None = preset.kind if preset else None
    roles = choose_roles(seen, train.where, text=text or (preset.text if preset else ()), label=label, kind=kind)
    declared = usable.label_names(roles.label) if isinstance(roles.label, str) else None
    names = roles.labels or (preset.labels if preset else None)
    train = replace(train, label_names=declared)
    if roles.unlabelled:
        test = partial(is_unlabelled, kind=roles.kind, column=roles.label, names=names)
        train = labelled_only(train, label=roles.label, unlabelled=test)
    proof = prove(train, roles, names)
    usable = with_validation(usable, roles, proof)
    chosen, why_model, ask_model = choose_model(model, seen, roles)
    lengths = measured_lengths(seen.sample, roles.text, chosen)

    draft = Draft(f"{usable.described}. Written by finetune init: what it chose, and why.", *usable.notes)
    draft.section("")
    task = preset.name if preset else roles.kind
    draft.put("task", task, roles.why.get("task", ""), ask=roles.questions.get("task", ""))
    draft.section("model")
    draft.put("name_or_path", chosen, why_model, ask=ask_model)
    data_section(draft, usable, roles, proof, lengths)
    drawn = sum(share for share in usable.splits.values() if isinstance(share, float))
    rows = max(1, round(proof.rows * (1 - drawn)))  # that stay in train
    training_section(draft, roles, proof, rows=rows)
    evaluation_section(draft, roles, proof, preset, updates_an_epoch=-(-rows // batch_size(rows)))
    run, place = output_section(draft, data), Path(train.where)
    return write_draft(
        draft,
        output,
        source=usable.described,
        run=run,
        pair=len(roles.text) == 2,
        folder=place.is_dir() and not is_saved(place),
        also=usable.written,
    )
