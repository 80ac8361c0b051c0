"""Freed memory is kept, so that what a tensor leaves behind is not faulted in again, until it is given back."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import sys

import numpy as np

from finetune_cli.system.allocator import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
np.ones(8_000_000)  # 64 MB once, so that there is something to keep
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(8_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

RESIDENT = """
import mmap
from pathlib import Path

import numpy as np

from finetune_cli.system.allocator import give_back_freed_memory, keep_freed_memory


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


assert keep_freed_memory()
below, above = np.ones(8_000_000), np.ones(1000)
del below  # 64 MB in the middle of the heap
kept = resident()
give_back_freed_memory()
print(kept - resident())
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the GNU C library's malloc is meant")


def number_from(script: str, *arguments: str) -> int:
    command = [sys.executable, "-c", script, *arguments]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_memory_that_was_kept_is_given_back_when_asked() -> None:
    assert number_from(RESIDENT) > 60_000_000


def test_memory_that_was_freed_is_used_again_without_new_page_faults() -> None:
    assert number_from(FAULTS, "kept") < number_from(FAULTS, "as it comes") / 10
