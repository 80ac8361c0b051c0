"""The limits of a container, read as the kernel writes them in both versions of its control groups."""

from __future__ import annotations

from pathlib import Path

from finetune_cli.system.containers import container_cpus, container_memory
from finetune_cli.system.machine import describe_cpu, look_at


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_the_smallest_limit_of_a_group_and_those_around_it_counts(tmp_path: Path) -> None:
    write(tmp_path / "cgroup", "0::/job/step\n")
    write(tmp_path / "fs/job/cpu.max", "150000 100000\n")
    write(tmp_path / "fs/job/step/cpu.max", "max 100000\n")
    write(tmp_path / "fs/job/memory.max", "4000000000\n")
    write(tmp_path / "fs/job/step/memory.max", "max\n")
    assert container_cpus(tmp_path / "fs", tmp_path / "cgroup") == 1.5
    assert container_memory(tmp_path / "fs", tmp_path / "cgroup") == 4_000_000_000


def test_version_1_writes_a_huge_number_or_minus_one_for_no_limit(tmp_path: Path) -> None:
    write(tmp_path / "fs/cpu/cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "fs/cpu/cpu.cfs_period_us", "100000\n")
    write(tmp_path / "fs/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert container_cpus(tmp_path / "fs", tmp_path / "none") is None
    assert container_memory(tmp_path / "fs", tmp_path / "none") is None
    write(tmp_path / "fs/cpu/cpu.cfs_quota_us", "200000\n")
    write(tmp_path / "fs/memory/memory.limit_in_bytes", "2000000000\n")
    assert container_cpus(tmp_path / "fs", tmp_path / "none") == 2
    assert container_memory(tmp_path / "fs", tmp_path / "none") == 2_000_000_000


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert container_cpus(tmp_path, tmp_path / "none") is None
    assert container_memory(tmp_path, tmp_path / "none") is None
    assert 1 <= describe_cpu().usable <= describe_cpu().count


def test_a_directory_that_is_not_there_yet_is_judged_by_the_one_it_would_be_in(tmp_path: Path) -> None:
    place = look_at("runs", tmp_path / "a" / "b")
    assert place.problem is None
    assert place.free_bytes is not None
    assert list(tmp_path.iterdir()) == []
