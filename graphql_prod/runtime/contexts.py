"""Code of a caller's that is run later, and for that caller: in the context that was the caller's own."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from contextvars import Context

T = TypeVar("T")


async def called_in(
    context: Context, function: Callable[..., T | Awaitable[T]], /, *arguments: object
) -> T | Any:
    """What a sync or async function returns, run in a copy of a context. Safe to cancel.

    It runs in the task that is current: a cancel, a time-out and the end of the program reach it there.
    """
    own = context.copy()
    answer = own.run(function, *arguments)
    return await _InContext(own, answer) if inspect.isawaitable(answer) else answer


class _InContext:
    """Awaits something, with another context for each of its steps."""

    __slots__ = ("_awaited", "_context")

    def __init__(self, context: Context, awaited: Awaitable[Any]) -> None:
        self._context = context
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._context.run(self._awaited.__await__)
        step: Callable[[], Any] = functools.partial(next, steps)
        while True:
            try:
                waited_for = self._context.run(step)
            except StopIteration as end:
                return end.value
            try:
                sent = yield waited_for
            except BaseException as error:  # noqa: BLE001 -- it is the step's own affair
                step = functools.partial(_thrown, steps, error)
            else:
                step = functools.partial(_sent, steps, sent)


def _sent(steps: Any, value: object) -> Any:
    return next(steps) if value is None else steps.send(value)


def _thrown(steps: Any, error: BaseException) -> Any:
    if isinstance(error, GeneratorExit):
        steps.close()
        raise error
    if hasattr(steps, "throw"):
        return steps.throw(error)
    raise error
