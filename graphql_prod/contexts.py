"""Code of a caller's that is run later, and for that caller: in the context that was the caller's own."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Context

T = TypeVar("T")


async def called_in(
    context: Context, function: Callable[..., T | Awaitable[T]], /, *arguments: object
) -> T | Any:
    """What a sync or async function returns, run in a copy of a context. Safe to cancel."""
    own = context.copy()
    answer = own.run(function, *arguments)
    if not inspect.isawaitable(answer):
        return answer
    # Not create_task(): an eager factory would run it in the context that is current.
    task = asyncio.Task(_awaited(answer), loop=asyncio.get_running_loop(), context=own)
    try:
        return await task
    finally:
        if inspect.iscoroutine(answer):
            answer.close()  # one whose task was cancelled before its first step was never awaited


async def _awaited(answer: Awaitable[T]) -> T:
    return await answer
