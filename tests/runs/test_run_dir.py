"""The files of a run: whole or absent, whatever happens while they are written."""

import json
from pathlib import Path

import pytest

from finetune_cli.errors import ConfigError
from finetune_cli.records.run import Fingerprints, RunRecord
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.system.files import publish_directory, replacing, require_writable, write_json


def test_a_file_takes_its_place_only_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with replacing(path) as file:
        file.write("first")
        assert not path.exists()
    assert path.read_text() == "first"

    def fail_in_the_middle() -> None:
        with replacing(path) as file:
            file.write("half of the sec")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        fail_in_the_middle()
    assert path.read_text() == "first"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"name": "雪"})
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"bad": object()})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"name": "雪"}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_damaged_record_reads_as_empty(tmp_path: Path, content: bytes) -> None:
    run = RunDir(tmp_path)
    assert run.read_record() == RunRecord()
    run.record.write_bytes(content)
    assert run.read_record() == RunRecord()
    run.write_record(RunRecord(status="running"))
    assert run.read_record() == RunRecord(status="running")


def test_a_record_keeps_what_it_knows_and_passes_over_what_is_damaged(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    there = {"git_commit": None, "seed": 7, "fingerprints": {"data": "ab", "model": None}, "status": "finished"}
    hub = {"repo_id": "me/mine", "private": True, "error": "500"}
    document = {**there, "exit_code": 0, "resumed_from": 0, "seconds": 1.5, "hub": hub, "of_another_version": [1]}
    write_json(run.record, document)
    record = run.read_record()
    assert (record.is_finished, record.seed, record.fingerprints.data, record.steps) == (True, 7, "ab", None)
    run.write_record(record)
    assert json.loads(run.record.read_text()) == document
    write_json(run.record, {**document, "fingerprints": "ab", "hub": {"repo_id": 3}, "steps": "many"})
    record = run.read_record()
    assert (record.is_finished, record.seed, record.fingerprints, record.hub, record.steps) == (
        (True, 7, Fingerprints(), None, None)
    )


def test_clearing_removes_a_run_and_nothing_of_the_users(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for directory in (run.checkpoints / "step-000001", run.model, run.evaluation("validation"), tmp_path / "mine"):
        directory.mkdir(parents=True)
    for file in (run.config, run.record, run.history, run.log, tmp_path / "notes.txt"):
        file.write_text("x")
    run.clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "notes.txt"]


def test_a_place_that_is_no_directory_is_refused_with_the_way_out(tmp_path: Path) -> None:
    require_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"cannot write in .*--output-dir"):
        require_writable(tmp_path / "file" / "run")


def test_a_published_directory_replaces_the_old_one_and_is_readable_as_any_new_file(tmp_path: Path) -> None:
    aside, target = tmp_path / "aside", tmp_path / "model"
    for directory in (aside, target):
        directory.mkdir()
        (directory / f"from-{directory.name}").write_text("x")
    (aside / "from-aside").chmod(0o600)
    publish_directory(aside, target)
    (tmp_path / "new").write_text("x")
    assert [path.name for path in target.iterdir()] == ["from-aside"]
    assert (target / "from-aside").stat().st_mode == (tmp_path / "new").stat().st_mode
