"""Paths, streams, locks and CPUs as shells, containers, clusters and shared folders hand them over.

`~` that no shell expands, HOME unset, closed streams, full disks, runs of somebody else, output encodings, flock
refused (ENOLCK on NFS, ENOSYS on Lustre), CPU quotas of control groups.
"""

import contextlib
import errno
import fcntl
import io
import json
import os
import pwd
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_cli.cli.app import main
from finetune_cli.config.load import load_config
from finetune_cli.errors import ConfigError, NotFinishedError
from finetune_cli.runs.run_dir import RunDir
from finetune_cli.runs.session import locked
from finetune_cli.system import locking
from finetune_cli.system.cpus import available_cpus
from finetune_cli.system.places import in_home
from tests.bad_inputs.in_process import finetune, refused
from tests.field.conftest import put_lines, sentiment


def command(
    *arguments: str | Path, redirected: str = "", env: dict[str, str | None] | None = None, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """`finetune ARGUMENTS` as a shell starts it. env: changes to the environment, None for what is unset."""
    words = " ".join(f"'{word}'" for word in (sys.executable, "-m", "finetune_cli", *arguments))
    environment = {**os.environ, **(env or {})}
    environment = {name: value for name, value in environment.items() if value is not None}
    return subprocess.run(
        f"{words} {redirected}", shell=True, capture_output=True, env=environment, check=False, **options
    )


# ---- ~


def test_a_home_directory_is_expanded_as_a_shell_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert in_home("~/a") == tmp_path / "a"
    assert in_home("~") == tmp_path
    for path in ("~nobody-of-that-name/a", "a/~/b", "./~"):
        assert in_home(path) == Path(path)


def test_every_path_may_start_with_a_tilde(
    finished: Path, here: Path, monkeypatch: pytest.MonkeyPatch, cache_dir: Path
) -> None:
    home = here.parent / "home"
    shutil.copytree(finished, home, ignore=shutil.ignore_patterns("cache", "run"))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FINETUNE_CACHE", "~/kept")
    rows = put_lines(home / "rows.jsonl", [{"sentence": "a good film", "label": 1}, {"sentence": "bad", "label": 0}])
    changes = [
        "model.name_or_path=~/model",
        "data.path=~/data",
        "data.splits={train: ~/data/train.jsonl, validation: ~/data/validation.jsonl}",
    ]
    settings = [word for change in changes for word in ("-s", change)]
    said = finetune("train", "~/config.yaml", *settings, "--output-dir=~/run")
    assert said.code == 0, said.stderr
    assert finetune("evaluate", "~/run", "--data=~/rows.jsonl", "--gate", "accuracy>=0", "--junit=~/ci.xml").code == 0
    assert finetune("predict", "~/run", "~/rows.jsonl", "-o~/out.csv").code == 0
    assert finetune("compare", "~/run", "~/run/eval/validation/predictions.jsonl").code == 0
    assert finetune("validate", "~/config.yaml", "-s", "output_dir=~/other").code == 0
    assert {"run", "kept", "ci.xml", "out.csv"} <= {path.name for path in home.iterdir()}
    assert not (here / "~").exists()
    assert rows.is_file()


def test_an_output_dir_with_a_tilde_in_the_file_is_the_same(
    config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert RunDir(load_config(config(), ["output_dir=~/x"]).output_dir).path == tmp_path / "x"


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """HOME unset, and a user number without an entry in the system's list, as in many containers."""

    def no_entry(number: int) -> None:
        raise KeyError(number)

    for name in ("HOME", "FINETUNE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)


@pytest.mark.usefixtures("homeless")
def test_a_tilde_without_a_home_is_a_mistake_of_the_config(config: Callable[..., Path]) -> None:
    said = finetune("validate", config(), "-s", "output_dir=~/x")
    refused(said, 2, "output_dir: ~/x: HOME is not set. Write the whole path, or ./~ for a directory of that name")


@pytest.mark.usefixtures("homeless")
def test_no_home_and_no_name_says_which_variable_to_set(
    here: Path, config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", "validation"):
        put_lines(here / "data" / f"{split}.jsonl", sentiment())
    refused(finetune("prepare", config()), 2, "HOME is not set. Set FINETUNE_CACHE to a directory")
    assert finetune("prepare", config(), env={"FINETUNE_CACHE": str(here / "kept")}).code == 0


# ---- streams


def test_a_closed_standard_input_is_named(finished: Path) -> None:
    said = command("predict", finished / "run", "-", redirected="<&-")
    assert said.returncode == 2
    assert said.stderr.startswith(b"error: standard input is closed, so there are no rows to label.")


@pytest.mark.parametrize("arguments", [["validate", "CONFIG"], ["--help"], ["validate", "CONFIG", "--json"]])
def test_a_full_disk_behind_standard_output_is_named(finished: Path, arguments: list[str]) -> None:
    words = [str(finished / "config.yaml") if word == "CONFIG" else word for word in arguments]
    said = command(*words, redirected="> /dev/full")
    assert said.returncode == 1
    assert b"error: standard output cannot be written: No space left on device." in said.stderr
    assert b"Traceback" not in said.stderr
    assert b"Exception ignored" not in said.stderr


def here_with(stdout: io.TextIOWrapper, *arguments: str | Path) -> tuple[int, str]:
    """Exit code and standard error of `finetune ARGUMENTS` in this process, with a standard output of another kind."""
    stderr = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(sys, "argv", ["finetune", *map(str, arguments)])
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", stderr)
        return int(main()), stderr.getvalue()


def test_predictions_to_a_full_disk_are_no_bug(finished: Path) -> None:
    with contextlib.suppress(OSError), open("/dev/full", "w", encoding="utf-8") as full:
        code, said = here_with(full, "predict", finished / "run", "--text", "good")
        assert (code, "standard output cannot be written" in said, "bug" in said) == (1, True, False)


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_closed_streams_do_no_harm(finished: Path, closed: str) -> None:
    said = command("validate", finished / "config.yaml", redirected=closed)
    assert said.returncode == 0
    assert b"Traceback" not in said.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_names_that_the_encoding_lacks_are_escaped(finished: Path, tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "сообщения.yaml"
    shutil.copy(finished / "config.yaml", file)
    said = command("validate", file, env={"PYTHONIOENCODING": encoding})
    assert said.returncode == 0, said.stderr
    assert rb"\u0441\u043e\u043e.yaml is valid" in said.stdout.replace(rb"\u0431\u0449\u0435\u043d\u0438\u044f", b"")


def test_json_in_another_encoding_is_still_json(finished: Path) -> None:
    said = command(
        "validate", finished / "config.yaml", "--json", "-s", "data.label=été 雪", env={"PYTHONIOENCODING": "latin-1"}
    )
    assert json.loads(said.stdout.decode("latin-1"))["config"]["data"]["label"] == "été 雪"


def test_class_names_beyond_the_encoding_end_as_the_run_does(here: Path, config: Callable[..., Path]) -> None:
    for split in ("train", "validation"):
        put_lines(here / "data" / f"{split}.jsonl", sentiment(["да", "нет"] * 3))
    for words in (["train", str(config()), "-s", "training.max_steps=1"], ["evaluate", "run"]):
        written = io.BytesIO()
        stdout = io.TextIOWrapper(written, encoding="ascii", write_through=True)
        code, said = here_with(stdout, *words)
        assert code == 0, said
        assert rb"\u0434\u0430" in written.getvalue()
    assert json.loads((here / "run" / "run.json").read_text(encoding="utf-8"))["exit_code"] == 0


@pytest.mark.parametrize("option", ["-s", "--text"])
def test_an_argument_that_is_no_text_is_a_mistake_of_the_command_line(finished: Path, option: str) -> None:
    word = "output_dir=caf\udce9" if option == "-s" else "caf\udce9"  # as Python shows the byte e9
    target = finished / ("config.yaml" if option == "-s" else "run")
    said = finetune("validate" if option == "-s" else "predict", target, option, word)
    refused(said, 2, r"caf\udce9' is not UTF-8 text. Type it as UTF-8, or rename what it names.")


def test_an_argument_that_the_locale_cannot_show_is_read_as_utf_8(finished: Path) -> None:
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    said = command("validate", finished / "config.yaml", "--json", "-s", "data.label=雪", env=environment)
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["config"]["data"]["label"] == "雪"


@pytest.mark.parametrize("word", ["output_dir=a\x01b", "data.label=\x7f"])
def test_a_character_that_yaml_lacks_is_named(finished: Path, word: str) -> None:
    refused(finetune("validate", finished / "config.yaml", "-s", word), 2, "which YAML does not take. Take it out")


def test_a_pipe_as_data_and_files_in_place_of_directories_are_named(
    finished: Path, here: Path, cache_dir: Path
) -> None:
    os.mkfifo(here / "pipe")
    (here / "file").touch()
    config = finished / "config.yaml"
    said = finetune("prepare", config, "-s", "data.path=pipe", "-s", "data.splits.validation=0.2")
    refused(said, 3, "pipe is a pipe or a device, and rows are read more than once. Write them to a file.")
    refused(finetune("train", config, "--output-dir", "file"), 2, "output_dir: file is not a directory. Choose another")
    said = finetune("prepare", config, env={"FINETUNE_CACHE": "file"})
    refused(said, 1, "cannot be written to file/prepared: Not a directory")
    assert "damaged" not in said.stderr


# ---- a run that cannot be written


@pytest.fixture
def read_only(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished run, in which this process may write nothing: as in a folder of somebody else."""
    really = Path.open

    def refusing(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if finished / "run" in self.parents and mode[0] in "wax":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return really(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", refusing)
    monkeypatch.setenv("FINETUNE_CACHE", str(finished / "cache"))
    return finished / "run"


def test_evaluate_shows_the_scores_of_a_run_that_cannot_be_written(read_only: Path) -> None:
    said = finetune("evaluate", read_only)
    assert said.code == 0, said.stderr
    assert "accuracy" in said.stdout
    assert f"warning: {read_only}: Permission denied. The scores are shown, and not kept" in said.stderr


def test_what_needs_the_files_says_so(read_only: Path) -> None:
    refused(finetune("evaluate", read_only, "--fit", "none"), 1, "not writable (Permission denied)")


# ---- locks


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    locking._warn.cache_clear()
    for _ in range(2):
        with locked(RunDir(tmp_path / "run")):
            (tmp_path / "run" / "kept").touch()
    assert len(caplog.records) == 1
    assert "this file system has no locks" in caplog.text


def test_without_locks_a_second_run_on_this_machine_is_still_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    holder = subprocess.Popen(["sleep", "60"])
    try:
        monkeypatch.setattr(fcntl, "flock", refuse)
        noted = f"{holder.pid} {locking.socket.gethostname()} {locking._started(holder.pid)}\n"
        run.lock.write_text(noted, encoding="utf-8")
        with pytest.raises(NotFinishedError, match=rf"Another run holds .*\(process {holder.pid}\)"), locked(run):
            pytest.fail("two runs on one directory")
    finally:
        holder.kill()
        holder.wait()
    with locked(run):  # its holder is gone: a killed run leaves its note behind
        pass


# ---- CPUs


def quota(root: Path, **files: str) -> tuple[Path, Path]:
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_max", ".max").replace("cfs", "cpu.cfs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return root, root / "own"


def test_the_quota_of_a_container_counts_not_the_machine(tmp_path: Path) -> None:
    cpus = len(os.sched_getaffinity(0))
    one = {"cpu_max": "100000 100000\n", "own": "0::/\n"}
    assert available_cpus(*quota(tmp_path / "one", **one)) == 1
    half = {"cpu_max": "50000 100000\n", "own": "0::/\n"}
    assert available_cpus(*quota(tmp_path / "half", **half)) == 1
    nested = {"a__b__cpu_max": "max 100000\n", "a__cpu_max": "100000 100000\n", "own": "0::/a/b\n"}
    assert available_cpus(*quota(tmp_path / "nested", **nested)) == 1
    none = {"cpu_max": "max 100000\n", "own": "0::/\n"}
    assert available_cpus(*quota(tmp_path / "none", **none)) == cpus
    wide = {"cpu_max": "99900000 100000\n", "own": "0::/\n"}
    assert available_cpus(*quota(tmp_path / "wide", **wide)) == cpus


def test_the_first_version_of_control_groups_is_read(tmp_path: Path) -> None:
    root = tmp_path / "v1"
    group = root / "cpu,cpuacct" / "docker" / "id"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("100000\n", encoding="utf-8")
    (group / "cpu.cfs_period_us").write_text("100000\n", encoding="utf-8")
    own = root / "own"
    own.write_text("4:cpu,cpuacct:/docker/id\n1:name=systemd:/docker/id\n", encoding="utf-8")
    assert available_cpus(root, own) == 1
    (group / "cpu.cfs_quota_us").write_text("-1\n", encoding="utf-8")
    assert available_cpus(root, own) == len(os.sched_getaffinity(0))


def test_a_system_that_shows_no_groups_has_its_affinity(tmp_path: Path) -> None:
    assert available_cpus(tmp_path / "none", tmp_path / "none" / "own") == len(os.sched_getaffinity(0))


def test_no_home_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(ConfigError, match="HOME is not set"):
        in_home("~/a")
