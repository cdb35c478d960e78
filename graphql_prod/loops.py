"""Calls from one event loop to another."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def call_on(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object) -> None:
    """Call on a loop that may be another one, in another thread, or no more; at once on the one that runs."""
    try:
        here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:  # what was left of a loop is collected after its end
        here = None
    if loop is here:
        function(*args)
    else:
        with contextlib.suppress(RuntimeError):  # it is closed, and all that ran on it with it
            loop.call_soon_threadsafe(function, *args)  # one that stands still comes to it when it goes on
