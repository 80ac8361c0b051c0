"""How the C library of this process keeps and returns memory."""

from collections.abc import Callable

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of the GNU C library
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Keep freed memory for the next use, instead of returning it to the system. False when malloc cannot do so.

    Without this, each update maps every tensor of more than 128 KiB anew, page by page, and unmaps it again: 4 to 10 %
    of the time on a CPU.
    """
    mallopt = _c_function("mallopt")
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))


def give_back_freed_memory() -> None:
    """Return the kept memory to the system, after the work that needed it."""
    if (malloc_trim := _c_function("malloc_trim")) is not None:
        malloc_trim(0)


def _c_function(name: str) -> Callable[..., int] | None:
    """A function of the GNU C library; None when the process uses another library."""
    import ctypes  # imported here: commands without a model do not need it

    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return None
    return function
