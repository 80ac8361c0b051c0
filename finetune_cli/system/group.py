"""A process group between its start and its end: agreeing, waiting for the main process, and leaving."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from finetune_cli.errors import GateFailedError, MembersFailedError

POLL_SECONDS = 0.1
_waits = itertools.count()  # all processes wait equally often, so that they give a wait the same number


def highest_of_all(number: int, state: Any) -> int:
    """The highest number that any process gives, the same answer on every process.

    Costs one all-reduce of an integer (0.2 ms with gloo) when there are several processes, nothing with one. state:
    Accelerate's PartialState or Accelerator.
    """
    if state.num_processes == 1:
        return number
    import torch

    highest = torch.tensor(number, device=state.device)
    torch.distributed.all_reduce(highest, op=torch.distributed.ReduceOp.MAX)
    return int(highest)


def wait_for_main_process(state: Any) -> None:
    """Call it in every process when the main one has finished work of its own, however long that took.

    The others ask the group's store, and are in no collective: NCCL ends a process that is in one for ten minutes. A
    main process that fails ends the others through the launcher, or through the lost connection.
    state: Accelerate's PartialState.
    """
    import torch

    if state.num_processes == 1:
        return
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        state.wait_for_everyone()
        return
    store = torch.distributed.distributed_c10d._get_default_store()
    key = f"finetune/main-process-finished/{next(_waits)}"
    if state.is_main_process:
        store.set(key, "yes")
    while not store.check([key]):
        time.sleep(POLL_SECONDS)
    state.wait_for_everyone()  # a moment: the store ends with the main process, and all must have read it


@contextmanager
def leaving_group() -> Iterator[None]:
    """Leave the process group after the block, also when a gate failed, which all processes know.

    After another error the group stays: the others may be in the middle of an exchange, and to leave could wait for it.
    """
    try:
        yield
    except (GateFailedError, MembersFailedError):
        _leave()
        raise
    _leave()


def _leave() -> None:
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
