"""Seconds since the process started, imports included: what a person waits for."""

import os
import time

_IMPORTED = time.monotonic()


def seconds_since_start() -> float:
    """Wall seconds since the system started this process; where it does not tell, since this file was imported."""
    try:
        with open("/proc/self/stat") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])  # field 22, counted behind the command's name
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return time.monotonic() - _IMPORTED
