"""What a program does before and after its clients end."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from graphql_prod.errors import ClientClosedError, ConfigurationError
from graphql_prod.loops import StartedTask
from graphql_prod.registry import ASKING, Asker, asking
from graphql_prod.shutdown.records import log_safely

if TYPE_CHECKING:
    from graphql_prod.shutdown.deadline import Deadline

HookPhase = Literal["before", "after"]
Hook = TypeVar("Hook", bound=Callable[[], Any])

# The hooks' time when nothing is left of the deadline: enough to write a line somewhere, and short enough
# for somebody who asks for the end a second time.
HOOK_GRACE = 0.25


class HookRun(Asker):
    """A hook that is running, and all that it calls."""

    __slots__ = ()
    done = False

    def __init__(self) -> None:
        self.outer: Asker | None = ASKING.get()


class Hooks:
    """Sync and async functions, called one after another in the order of their registration.

    :ivar failed: the names of those that raised or took too long.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._waiting: dict[HookPhase, list[Callable[[], Any]] | None] = {"before": [], "after": []}
        self._current: HookRun | None = None
        self._spared: asyncio.Future[None] | None = None
        self._patience = HOOK_GRACE
        """Seconds left for hooks that do not let themselves be cancelled."""
        self.failed: list[str] = []

    def begin_anew(self) -> None:
        """In a child that was forked no hook runs; those that the parent's shutdown took are the parent's."""
        self._current = self._spared = None
        self._waiting = {phase: hooks or [] for phase, hooks in self._waiting.items()}
        self.failed = []

    def add(self, hook: Hook, phase: HookPhase) -> Hook:
        """Register a hook.

        :raises ConfigurationError: it is not callable, or there is no such phase.
        :raises ClientClosedError: it is too late for this phase.
        """
        if phase not in get_args(HookPhase):
            raise ConfigurationError(f"phase must be 'before' or 'after', not {phase!r}")
        if not callable(hook):
            raise ConfigurationError(f"a hook must be a callable, not {type(hook).__name__}")
        hooks = self._waiting[phase]
        if hooks is None:
            raise ClientClosedError(
                f"The {phase} hook {_name_of(hook)} comes too late: the shutdown of {self._what} "
                "is past it. Register hooks when the program starts."
            )
        hooks.append(hook)
        return hook

    def registered(self, hook: Any, phase: HookPhase) -> Any:
        """What a method gives back that is used on a function, or as a decorator with or without brackets."""
        return functools.partial(self.add, phase=phase) if hook is None else self.add(hook, phase)

    @property
    def inside(self) -> bool:
        """Whether the running task belongs to the hook that is being waited for."""
        return self._current is not None and asking(HookRun) is self._current

    def spare(self) -> None:
        """Do not wait for the hook that is running: it waits for us."""
        if self._spared is not None and not self._spared.done():
            self._spared.set_result(None)

    async def run(self, phase: HookPhase, deadline: Deadline) -> None:
        """Call all of a phase. None stops the others, nor does the deadline: all are begun.

        Nor does a cancel, by a loop that ends or a hook that cancels whatever it finds: it leaves no more
        than the grace, and comes out after the last of them.
        """
        hooks, self._waiting[phase] = self._waiting[phase] or [], None
        begun = asyncio.get_running_loop().time()
        self._patience = HOOK_GRACE
        cancelled = False
        for hook in hooks:
            cancelled = await self._run(hook, phase, deadline, begun) or cancelled
        if cancelled:
            raise asyncio.CancelledError

    async def _run(self, hook: Callable[[], Any], phase: HookPhase, deadline: Deadline, begun: float) -> bool:
        """Call one; True if we were cancelled meanwhile."""
        loop = asyncio.get_running_loop()
        self._current = run = HookRun()
        self._spared = spared = loop.create_future()
        task = StartedTask(self._call(hook, run), loop=loop)
        cancelled, begins = False, loop.time()
        while True:
            # Once no time is left, what is granted begins then, for all of them together.
            since = begins if deadline.passed is None else max(begun, deadline.passed)
            try:
                await asyncio.sleep(0)  # it begins: one that does not wait for anything is always finished
                in_time = await deadline.within(task, spared, at_least=since + HOOK_GRACE - loop.time())
                break
            except asyncio.CancelledError:
                cancelled = True
                deadline.shorten(0.0)
        self._current = None
        if not in_time:
            await self._give_up(hook, phase, task)
        elif task.done():
            self._judge(hook, phase, task)
        else:
            task.add_done_callback(functools.partial(self._judge, hook, phase))
        return cancelled

    async def _call(self, hook: Callable[[], Any], run: HookRun) -> None:
        ASKING.set(run)
        result = hook()
        if inspect.isawaitable(result):
            await result

    async def _give_up(self, hook: Callable[[], Any], phase: HookPhase, task: asyncio.Task[None]) -> None:
        self.failed.append(_name_of(hook))
        log_safely(
            logging.ERROR,
            "shutdown of %s: the %s hook %s has outlived the deadline and is cancelled",
            self._what,
            phase,
            _name_of(hook),
        )
        task.cancel()
        begun = asyncio.get_running_loop().time()
        await asyncio.wait({task}, timeout=self._patience)
        self._patience = max(0.0, self._patience - (asyncio.get_running_loop().time() - begun))
        if task.done() and not task.cancelled():
            task.exception()  # whatever it says of its end

    def _judge(self, hook: Callable[[], Any], phase: HookPhase, task: asyncio.Task[None]) -> None:
        error: BaseException | None = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            return
        self.failed.append(_name_of(hook))
        log_safely(
            logging.ERROR,
            "shutdown of %s: the %s hook %s failed with %s; the shutdown goes on",
            self._what,
            phase,
            _name_of(hook),
            type(error).__name__,
            exc_info=error,
        )


def _name_of(hook: Any) -> str:
    while isinstance(hook, functools.partial):
        hook = hook.func
    return str(getattr(hook, "__name__", None) or type(hook).__name__)
