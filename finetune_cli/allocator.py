"""How this process's C library hands out memory."""

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of the GNU C library
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have freed memory kept and used again, instead of given back to the system; False where malloc has no such knobs.

    A tensor of more than 128 KiB is otherwise mapped, faulted in page by page, and unmapped again, in every update: 4
    to 10 % of the time on a CPU.
    """
    import ctypes  # here: commands that load no model need not pay for it

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # not the GNU C library
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))
