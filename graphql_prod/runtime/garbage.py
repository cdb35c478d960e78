"""No full garbage collection while a thread of ours calculates, or a large answer becomes objects.

One stops all threads while it lasts, and while millions of objects are made there is one after the other.

Measured with a document of 15 kB and GitHub's schema in memory: the event loop stood still for 270 to 470 ms
at every fourth such document; without full collections for 5 to 15 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Young generations, which take less than a millisecond, are collected as ever. No program gets so far.
_NEVER = 1_000_000_000
# Seconds without one, at most: what a busy program leaves to the collector meanwhile has to fit into memory.
_LONGEST = 5.0

_lock = threading.RLock()
_holders = 0
_since = 0.0
_before = gc.get_threshold()


@contextlib.contextmanager
def no_full_collection() -> Iterator[None]:
    """Hold full collections off, in the whole process, until the last who asks for it has ended, or 5 s."""
    _enter()
    try:
        yield
    finally:
        _leave()


def no_full_collection_in_this_step() -> None:
    """The same until the running loop has its next turn: for what the caller's code does without awaiting."""
    asyncio.get_running_loop().call_soon(_Step())


class _Step:
    """Ends with its call, or with a loop that is closed before that."""

    __slots__ = ("_over",)

    def __init__(self) -> None:
        self._over = False
        _enter()

    def __call__(self) -> None:
        if not self._over:
            self._over = True
            _leave()

    __del__ = __call__


def _enter() -> None:
    global _holders
    with _lock:
        _holders += 1
        if _holders == 1:
            _hold()


def _leave() -> None:
    global _holders
    with _lock:
        _holders = max(0, _holders - 1)  # in a child that was forked there are none
        if _holders == 0:
            _release()


def _hold() -> None:
    global _before, _since
    now = gc.get_threshold()
    if now[2] != _NEVER:  # a program that saves and restores them may have kept ours
        _before = now
    _since = time.monotonic()
    gc.set_threshold(*_before[:2], _NEVER)
    gc.callbacks.append(_look)


def _look(_phase: str, _facts: dict[str, int]) -> None:
    """Called by the collector, at young collections too; in whatever thread, so without a lock."""
    if time.monotonic() - _since > _LONGEST:
        _restore()


def _release() -> None:
    with contextlib.suppress(ValueError):  # the program has cleared the list
        gc.callbacks.remove(_look)
    _restore()


def _restore() -> None:
    if gc.get_threshold()[2] == _NEVER:  # else the program has set its own meanwhile
        gc.set_threshold(*_before)


def _in_a_child() -> None:
    """The thread that would end it was not forked."""
    global _holders, _lock
    _lock = threading.RLock()
    _holders = 0
    _release()


if hasattr(os, "register_at_fork"):  # not where there is no fork
    os.register_at_fork(after_in_child=_in_a_child)
