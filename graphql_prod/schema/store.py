"""The schema that a client validates against: asked for once, kept, refreshed, or done without."""

from __future__ import annotations

import asyncio
import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from aiographql.client import GraphQLIntrospectionException
from graphql import get_introspection_query

from graphql_prod import clock
from graphql_prod.calls.call import current
from graphql_prod.calls.request import PreparedRequest
from graphql_prod.credentials import CalledItselfError, provider_failed
from graphql_prod.errors import NoSchemaError, renewed
from graphql_prod.loops import call_on
from graphql_prod.runtime import forks
from graphql_prod.schema import building, reports
from graphql_prod.schema.refusals import IntrospectionRefusal, refusal_of
from graphql_prod.schema.single_flight import SingleFlight
from graphql_prod.schema.validation_cache import ValidationCache
from graphql_prod.schema.worker import ValidationWorker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from aiographql.client import GraphQLRequest, GraphQLResponse
    from graphql import GraphQLSchema

    from graphql_prod.calls.call import Call
    from graphql_prod.calls.settings import CallSettings
    from graphql_prod.credentials import Credentials
    from graphql_prod.registry import Registry
    from graphql_prod.schema.building import Built
    from graphql_prod.schema.policy import SchemaPolicy

logger: logging.Logger = logging.getLogger("graphql_prod")

# After a refresh that failed: the contract's figures.
FIRST_DELAY, LONGEST_DELAY = 1.0, 60.0

# How graphql-core calls the operation.
INTROSPECTION = "IntrospectionQuery"


def introspection(headers: Mapping[str, str] | None, *, descriptions: bool = False) -> GraphQLRequest:
    """The stock client's introspection; it leaves out what people read."""
    query = get_introspection_query(descriptions=descriptions)
    return PreparedRequest(query=query, validate=False, headers=dict(headers or {}))


class Schemas:
    """What a client and its views know of the server's schema.

    :ivar known: the schema in use, or None.
    :ivar due: when it has to be asked for anew, on the clock in use.

    :param fetch: the client's ``introspect``, which may be somebody's own; with whose credentials, if not
        with the client's.
    :param guard: runs something as a call, within its deadline.
    :param conceal: takes secrets out of an error that quotes the server.
    """

    def __init__(
        self,
        policy: SchemaPolicy,
        registry: Registry,
        settings: CallSettings,
        given: GraphQLSchema | None,
        *,
        fetch: Callable[..., Awaitable[GraphQLSchema]],
        guard: Callable[..., Awaitable[Any]],
        conceal: Callable[[Exception, Any], Exception],
    ) -> None:
        self.policy = policy
        self.validates: bool = policy.mode != "off"
        self.known = given
        self.due: float = math.inf
        self.worker: ValidationWorker = ValidationWorker()
        self._registry = registry
        self._fetch = fetch
        self._guard = guard
        self._conceal = conceal
        self._settings = settings
        self._since: float | None = None
        self._refused: IntrospectionRefusal | None = None
        self._untaken: tuple[NoSchemaError, float] | None = None
        """Why the server's schema is not taken, and until when it is not asked for again."""
        self._warned = False
        self._failures = 0
        self._fingerprints: WeakKeyDictionary[GraphQLSchema, bytes] = WeakKeyDictionary()
        self._memories: WeakKeyDictionary[GraphQLSchema, ValidationCache] = WeakKeyDictionary()
        self._flights: dict[asyncio.AbstractEventLoop, SingleFlight] = {}
        self._file: tuple[object, Built] | None = None
        self._memory = None if given is None else self._memory_of(given)
        """That of the known schema."""
        forks.follow(self)

    def begin_anew(self) -> object:
        """What is known stays, in a child that was forked; nothing is on its way."""
        flights, self._flights = self._flights, {}
        return flights

    @property
    def age(self) -> float | None:
        """Seconds since the schema was asked for or read; None without one, and for a given one."""
        return None if self._since is None or self.known is None else clock.monotonic() - self._since

    def fits(self, document: str) -> bool:
        """The short way: True for what is known to fit a schema that is not to be asked for anew."""
        memory = self._memory
        return memory is not None and clock.monotonic() < self.due and memory.fits(document)

    async def check(
        self,
        document: str,
        schema: GraphQLSchema | None,
        headers: Mapping[str, str] | None,
        settings: CallSettings,
        *,
        strict: bool,
    ) -> None:
        """Nothing for a document that fits. Safe to cancel.

        :param schema: None means the server's.
        :param strict: True fails where there is no schema, whatever the mode.
        :raises GraphQLClientValidationException: it does not fit.
        :raises graphql.GraphQLSyntaxError: it is no document.
        """
        if schema is None:
            schema = self.known
            if schema is None or clock.monotonic() >= self.due:
                schema = await self._current(headers, settings, strict=strict)
                if schema is None:
                    return
        await self._memory_of(schema).check(schema, document)

    async def theirs(
        self, ask: Callable[[], Awaitable[GraphQLSchema]], *, strict: bool
    ) -> GraphQLSchema | None:
        """The schema of a ``get_schema`` that is not ours; None where calls go on without."""
        lenient = not strict and self.policy.mode == "auto"
        if lenient and self._refused:
            if clock.monotonic() >= self.due:
                self._refresh()
            return self.known
        try:
            return await ask()
        except Exception:
            if lenient and self._refused:
                return None
            raise

    async def get(
        self, refresh: bool, headers: Mapping[str, str] | None, settings: CallSettings
    ) -> GraphQLSchema:
        """The schema; asked for where it is not known, or a new one is wanted. Safe to cancel."""
        if self.known is None or refresh:
            return await self._flown(headers, settings)
        if clock.monotonic() >= self.due:
            self._refresh()
        return self.known

    async def built(self, answer: GraphQLResponse) -> GraphQLSchema:
        """The schema that an introspection was answered with.

        :raises GraphQLIntrospectionException: it makes none.
        """
        try:
            schema, fingerprint = await self.worker.run(partial(building.introspected, answer.data))
        except Exception as error:
            no_schema = building.no_schema(answer, error, self._registry.host)
            raise self._conceal(no_schema, answer.request) from error
        self._fingerprints[schema] = fingerprint
        return schema

    def drain(self) -> None:
        """End what nobody waits for."""
        for loop, flight in list(self._flights.items()):
            if not flight.waiters:
                call_on(loop, flight.task.cancel)

    async def close(self) -> None:
        """End all that is under way."""
        here = asyncio.get_running_loop()
        tasks = {loop: flight.task for loop, flight in self._flights.items()}
        for loop, task in tasks.items():
            call_on(loop, task.cancel)
        if here in tasks:
            await asyncio.wait({tasks[here]})

    def _memory_of(self, schema: GraphQLSchema) -> ValidationCache:
        memory = self._memories.get(schema)
        if memory is None:
            memory = self._memories[schema] = ValidationCache(self.worker, self._registry.host)
        return memory

    async def _current(
        self, headers: Mapping[str, str] | None, settings: CallSettings, *, strict: bool
    ) -> GraphQLSchema | None:
        """The schema, be it an old one; None where calls go on without."""
        lenient = not strict and self.policy.mode == "auto"
        if self._inside(current()):
            return None  # part of what brings the schema
        if self.known is not None or (lenient and self._refused):
            if clock.monotonic() >= self.due:
                self._refresh()
            return self.known
        if self._untaken is not None and clock.monotonic() < self._untaken[1]:
            raise renewed(self._untaken[0])
        try:
            return await self._flown(headers, settings)
        except Exception:
            if lenient and self._refused:
                return None
            raise

    def _inside(self, call: Call | None) -> bool:
        """Whether a call is part of what brings the schema."""
        return call is not None and call.internal and call.owner is self._registry

    async def _flown(self, headers: Mapping[str, str] | None, settings: CallSettings) -> GraphQLSchema:
        """A schema that the server, or the file, has now."""
        call = current()
        if self._inside(call):
            raise GraphQLIntrospectionException(
                "introspect() asked for the schema that it is to bring itself"
            )
        if call is None or call not in self._registry.calls:
            schema: GraphQLSchema = await self._guard(settings, None, self._flown, headers, settings)
            return schema
        loop = asyncio.get_running_loop()
        flight = self._flights.get(loop)
        if flight is not None and flight.task.done():
            flight = None  # not forgotten yet: cancelled before it began
        self._refuse_a_provider(settings.credentials if flight is None else flight.credentials)
        flight = flight or self._begin(headers, settings.credentials, background=False)
        try:
            built = await flight.wait(call, self._registry.host)
        finally:
            unwanted = not flight.background or self._registry.state != "open"
            if not flight.waiters and unwanted:
                self._landed(flight)
                flight.task.cancel()
        return built.schema

    def _refuse_a_provider(self, credentials: Credentials | None) -> None:
        """Refuse who would wait for a flight that waits for the headers which they are to bring."""
        if credentials is not None and credentials.asking:
            itself = CalledItselfError()
            raise provider_failed(self._registry.host, itself) from itself

    def _refresh(self) -> None:
        """Begin to ask for the schema anew, unless that is under way."""
        if asyncio.get_running_loop() not in self._flights and self._registry.state == "open":
            self._begin(None, None, background=True)

    def _begin(
        self, headers: Mapping[str, str] | None, credentials: Credentials | None, *, background: bool
    ) -> SingleFlight:
        loop, credentials = asyncio.get_running_loop(), credentials or self._settings.credentials
        work = partial(self._fly, headers, credentials)
        for ended in [each for each in list(self._flights) if each.is_closed()]:
            self._flights.pop(ended, None)
        flight = self._flights[loop] = SingleFlight(
            self._settings, self._registry, work, credentials, background=background
        )
        flight.task.add_done_callback(lambda _: self._landed(flight))
        return flight

    def _landed(self, flight: SingleFlight) -> None:
        loop = flight.task.get_loop()
        if self._flights.get(loop) is flight:
            del self._flights[loop]
        if not flight.task.done():
            return
        flight.call.done = True
        flight.call.release_references()
        if not flight.task.cancelled():
            flight.task.exception()  # told by now, or of no interest to anybody

    async def _fly(
        self, headers: Mapping[str, str] | None, credentials: Credentials | None, flight: SingleFlight
    ) -> Built:
        try:
            built = await flight.limited(self._uncancelled(headers, credentials), self._registry.host)
        except Exception as error:
            flight.call.annotate(error)
            self._failed(error, flight.call)
            raise
        else:
            self._adopt(built)
            return built
        finally:
            self._landed(flight)  # who comes now shall not join what is over

    async def _uncancelled(self, headers: Mapping[str, str] | None, credentials: Credentials | None) -> Built:
        try:
            return await self._obtained(headers, credentials)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise GraphQLIntrospectionException(
                "The introspection was cancelled by something it waited for"
            ) from error

    async def _obtained(self, headers: Mapping[str, str] | None, credentials: Credentials | None) -> Built:
        if self.policy.file is not None:
            return await self.worker.run(partial(self._read, self.policy.file))
        schema = await self._fetch(None if headers is None else dict(headers), credentials)
        return building.Built(schema, self._fingerprints.get(schema))

    def read_file(self) -> None:
        """Read ``schema.file`` now, so that one that cannot be used is found at the start; it is read once.

        :raises ConfigurationError: it cannot be read, or makes no schema.
        """
        if self.policy.file is not None and self.validates and self.known is None:
            self._read(self.policy.file)

    def _read(self, path: Path) -> Built:
        stamp = building.stamp_of(path)
        if self._file is None or self._file[0] != stamp:
            self._file = (stamp, building.read(path))
        return self._file[1]

    def _adopt(self, built: Built) -> None:
        before, memory = self.known, None
        if before is not None and built.fingerprint is not None:
            same = self._fingerprints.get(before) == built.fingerprint
            memory = self._memories.get(before) if same else None
        if memory is not None:
            self._memories[built.schema] = memory
        if built.fingerprint is not None:
            self._fingerprints[built.schema] = built.fingerprint
        reports.known(self._registry.host, built.schema, before=before, changed=memory is None)
        now = clock.monotonic()
        self.known, self._since = built.schema, now
        self._memory = self._memory_of(built.schema)
        self._refused, self._untaken, self._failures = None, None, 0
        self.due = math.inf if self.policy.ttl is None else now + self.policy.ttl

    def _failed(self, error: Exception, call: Call) -> None:
        if self.known is not None and self._since is None:
            return  # a given one: nobody but who asks for another hears of it
        if self.known is not None:
            self._postpone()
            reports.stale(
                self._registry.host,
                error,
                age=self.age,
                again_in=self.due - clock.monotonic() if self.policy.stale_if_error else None,
            )
            if self.policy.stale_if_error:
                return
            self.known, self._memory, self.due = None, None, math.inf
        if isinstance(error, NoSchemaError) and error.refused is not None:
            self._postpone()
            kept = NoSchemaError(*error.args)  # without what the other one holds: the answer
            kept.refused, kept.codes = error.refused, error.codes
            self._untaken, self.due = (kept, self.due), math.inf
        refusal = None
        if self.policy.mode == "auto" and self.policy.file is None:
            refusal = refusal_of(error, call.status, self._settings.auth_error_codes)
        if refusal is not None:
            self._refuse(refusal, error, call.status)
        elif self._refused is not None:
            self._postpone()

    def _postpone(self) -> None:
        """Ask again later, and later each time."""
        self._failures += 1
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self._failures - 1, 10))
        self.due = clock.monotonic() + delay

    def _refuse(self, refusal: IntrospectionRefusal, error: Exception, status: int | None) -> None:
        self._refused = refusal
        if refusal is IntrospectionRefusal.FOR_NOW:
            self._postpone()
        else:
            self.due = math.inf if self.policy.ttl is None else clock.monotonic() + self.policy.ttl
        if self._warned:
            return
        self._warned = True
        reports.refused(self._registry.host, error, refusal, status)
