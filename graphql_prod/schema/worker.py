"""One thread for what would hold the event loop up."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakSet

from aiographql.client import GraphQLClientException

from graphql_prod import clock
from graphql_prod.errors import renewed
from graphql_prod.loops import call_on
from graphql_prod.runtime.garbage import no_full_collection

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Job(Generic[T]):
    """Work for the thread, and how many wait for it.

    :ivar dropped: called, with the worker's lock held, when nobody waits any more before it has begun.
    """

    def __init__(self, work: Callable[[], T], dropped: Callable[[], object] | None = None) -> None:
        self.work = work
        self.dropped = dropped
        self.waiters = 0
        self.future: Future[T] = Future()

    def run(self) -> None:
        """Do it, and tell those who wait."""
        try:
            result = self.work()
        except Exception as error:  # noqa: BLE001 -- it belongs to those who wait
            self.future.set_exception(error)
        except BaseException as error:  # noqa: BLE001 -- what ends a thread shall not end their event loop
            self.future.set_exception(RuntimeError(f"validation ended with {type(error).__name__}"))
        else:
            self.future.set_result(result)


class ValidationWorker:
    """Runs jobs one after another, in a thread that is there only while there are any.

    One thread: several that calculate keep the event loop waiting for the interpreter's lock several times
    as long. Our own: whatever clogs the loop's default executor shall not stop calls. A daemon: no job shall
    hold up the end of a program.
    """

    def __init__(self) -> None:
        self.begin_anew()
        _workers.add(self)

    def begin_anew(self) -> None:
        """As new, without the jobs that there are: in a child that was forked nobody does them."""
        # May be taken again by the thread that holds it: the collector may end a coroutine of ours then.
        self.lock: threading.RLock = threading.RLock()
        self.life: int = os.getpid()
        self._jobs: deque[Job[Any]] = deque()
        self._thread: threading.Thread | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """What a function returns, called in the thread. Safe to cancel; what has begun goes on there."""
        job = Job(work)
        job.waiters += 1
        self.submit(job)
        return await self.result(job)

    def submit(self, job: Job[Any]) -> None:
        """Have a job done; somebody waits for it."""
        with self.lock:
            self._jobs.append(job)
            # After a fork the child's is not alive.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="graphql_prod schema", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError as error:  # none is left now
                    self._refuse(error)

    def _refuse(self, error: RuntimeError) -> None:
        """Tell those who wait that nobody does their jobs; what comes later begins anew."""
        self._thread = None
        refusal = GraphQLClientException(
            f"Nothing was sent: no thread could be begun to look at documents ({error}). See how many "
            "threads and how much memory this process may have."
        )
        refusal.__cause__ = error
        jobs, self._jobs = self._jobs, deque()
        for job in jobs:
            if job.dropped is not None:
                job.dropped()
            job.future.set_exception(refusal)

    async def result(self, job: Job[T]) -> T:
        """What came of a job that the caller has been counted in for. Safe to cancel."""
        try:
            if not job.future.done():
                loop = asyncio.get_running_loop()
                bell: asyncio.Future[None] = loop.create_future()
                job.future.add_done_callback(lambda _: call_on(loop, clock.end, bell))
                await bell
            error = job.future.exception()
            if error is not None:
                raise renewed(error)
            return job.future.result()
        finally:
            with self.lock:
                job.waiters -= 1

    def _work(self) -> None:
        with no_full_collection():
            while (job := self._next()) is not None:
                job.run()

    def _next(self) -> Job[Any] | None:
        with self.lock:
            while self._jobs:
                job = self._jobs.popleft()
                if job.waiters:
                    return job
                if job.dropped is not None:
                    job.dropped()
            self._thread = None
            return None


_workers: WeakSet[ValidationWorker] = WeakSet()


def _in_a_child() -> None:
    for worker in list(_workers):
        worker.begin_anew()


if hasattr(os, "register_at_fork"):  # not where there is no fork
    os.register_at_fork(after_in_child=_in_a_child)
