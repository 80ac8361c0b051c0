"""How this process's C library hands out memory."""

from collections.abc import Callable

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of the GNU C library
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have freed memory kept and used again, instead of given back to the system; False where malloc has no such knobs.

    A tensor of more than 128 KiB is otherwise mapped, faulted in page by page, and unmapped again, in every update: 4
    to 10 % of the time on a CPU.
    """
    mallopt = _c_function("mallopt")
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))


def give_back_freed_memory() -> None:
    """Return what was kept to the system, for when the work that needed it is over."""
    if (malloc_trim := _c_function("malloc_trim")) is not None:
        malloc_trim(0)


def _c_function(name: str) -> Callable[..., int] | None:
    """A function of the GNU C library; None where the process runs on another one."""
    import ctypes  # here: commands that load no model need not pay for it

    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return None
    return function
