"""No full garbage collection while a thread of ours calculates: one stops all threads while it lasts.

Measured with a document of 15 kB and GitHub's schema in memory: the event loop stood still for 270 to 470 ms
at every fourth such document; without full collections for 5 to 15 ms.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Young generations, which take less than a millisecond, are collected as ever. No program gets so far.
_NEVER = 1_000_000_000

_lock = threading.Lock()
_holders = 0
_before = gc.get_threshold()


@contextlib.contextmanager
def no_full_collection() -> Iterator[None]:
    """Hold full collections off, in the whole process, until the last of those who ask for it has ended."""
    global _holders, _before
    with _lock:
        if _holders == 0:
            _before = gc.get_threshold()
            gc.set_threshold(*_before[:2], _NEVER)
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _restore()


def _restore() -> None:
    if gc.get_threshold()[2] == _NEVER:  # else the program has set its own meanwhile
        gc.set_threshold(*_before)


def _begin_anew() -> None:
    """In a child that was forked: the thread is not there to end it."""
    global _holders, _lock
    _lock = threading.Lock()
    _holders = 0
    _restore()


os.register_at_fork(after_in_child=_begin_anew)
