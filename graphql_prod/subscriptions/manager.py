"""All subscriptions of a client: which lines there are, who shares one, how many sockets there may be."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import logging
import sys
import uuid
from dataclasses import dataclass, field
from types import MethodType
from typing import TYPE_CHECKING, Protocol

from graphql_prod import clock
from graphql_prod.errors import SubscriptionLimitError
from graphql_prod.loops import call_on
from graphql_prod.runtime import forks
from graphql_prod.subscriptions.connection import Connection
from graphql_prod.subscriptions.connector import Connector
from graphql_prod.subscriptions.payload import is_provider
from graphql_prod.subscriptions.protocol import Parsed
from graphql_prod.subscriptions.refusals import Refusals
from graphql_prod.subscriptions.subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiographql.client import GraphQLRequest
    from aiographql.client.serializer import GraphQLSerializer
    from aiographql.client.transport import GraphQLSession, GraphQLSubscriptionTransport

    from graphql_prod.credentials import Credentials
    from graphql_prod.sessions.session import Session
    from graphql_prod.sessions.sessions import Sessions
    from graphql_prod.sessions.transport_options import TransportOptions
    from graphql_prod.subscriptions.payload import Payload, PayloadProvider
    from graphql_prod.subscriptions.policy import SubscriptionPolicy
    from graphql_prod.subscriptions.subscriber import Resume
    from graphql_prod.telemetry.telemetry import Telemetry

logger = logging.getLogger("graphql_prod")

# Seconds for which a renewal that did not help is not asked for again.
IN_VAIN = 30.0


@dataclass(frozen=True, slots=True)
class SubscribeRequest:
    """What a caller asks to be subscribed to, and over what."""

    endpoint: str = field(repr=False)
    request: GraphQLRequest
    protocols: tuple[str, ...]
    payload: Payload | PayloadProvider | None = field(repr=False)
    session: GraphQLSession | None
    transport: GraphQLSubscriptionTransport | None
    resume: Resume | None
    credentials: Credentials | None = field(default=None, repr=False)

    def to(self, endpoint: str, session: GraphQLSession | None) -> SubscribeRequest:
        """The same, at another address, or over another session."""
        return dataclasses.replace(self, endpoint=endpoint, session=session or self.session)


class Reader(Protocol):
    """Who empties a mailbox: the callbacks of a subscription, or a stream."""

    loop: asyncio.AbstractEventLoop
    member: Subscriber

    @property
    def in_order(self) -> bool:
        """Whether it came to its end in order: acknowledged once, and nothing of it cut."""

    def drain(self) -> None:
        """Take nothing new; come to an end after what waits."""

    def cut(self) -> None:
        """Come to an end now."""

    def is_caller(self) -> bool:
        """Whether it is this reader's own code that is running."""

    def disown(self) -> object:
        """In a child that was forked: it has ended, nothing is done for that. Returns what was its own."""


@dataclass(frozen=True, slots=True)
class SubscriptionContext:
    """What all lines of a client stand on."""

    sessions: Sessions
    wire: TransportOptions
    serializer: GraphQLSerializer
    static_headers: Mapping[str, str] = field(repr=False)
    provider_limit: float | None
    telemetry: Telemetry
    transport: GraphQLSubscriptionTransport | None
    """The client's own subscription transport, which outlives its subscriptions."""
    auth_error_codes: frozenset[str] = frozenset()

    def over_websockets(self, session: GraphQLSession | None) -> bool:
        """Whether a socket is one of the websockets library; a session given for it decides."""
        if session is None:
            return self.sessions.backend == "httpx"
        httpx = sys.modules.get("httpx")
        return httpx is not None and isinstance(session, httpx.AsyncClient)

    def session_for(self, session: GraphQLSession | None) -> Session:
        """The aiohttp session for the next socket."""
        return self.sessions.current() if session is None else self.sessions.wrap(session)


class ConnectionManager:
    """Every line of a client and every reader; lines of other loops too.

    :ivar changed: called whenever somebody has left, for whoever waits for that.
    :ivar drained: subscriptions that have ended in order since the client's end began.
    :ivar cut_off: those that were cut, or were still connecting for the first time.
    """

    def __init__(
        self, ground: SubscriptionContext, policy: SubscriptionPolicy, limit: int, changed: Callable[[], None]
    ) -> None:
        self.ground = ground
        self.parsed = Parsed(ground.serializer)
        self.policy = policy
        self.refusals = Refusals(policy.refused_close_codes, policy.refused_words, ground.auth_error_codes)
        self.limit = limit
        self.changed = changed
        self.draining = False
        self.lines: set[Connection] = set()
        self.readers: set[Reader] = set()
        self.events = 0
        self.dropped = 0
        self.reconnects = 0
        self.callback_failures = 0
        self.drained = 0
        self.cut_off = 0
        self._shared: dict[object, Connection] = {}
        self._joined = False
        self.transport_is_the_parents = False
        """Whether the client's transport was used before this process was forked, and so is not closed."""
        self._in_vain: list[tuple[float, tuple[object, object, object]]] = []
        """When renewals did not help, and of which providers."""
        forks.follow(self)

    def begin_anew(self) -> object:
        """As new, in a child that was forked: nobody is subscribed there."""
        kept = (self.lines, self._shared, [(reader, reader.disown()) for reader in self.readers])
        self.transport_is_the_parents = self._joined
        self.lines, self.readers, self._shared = set(), set(), {}
        self.draining, self.drained, self.cut_off = False, 0, 0
        return kept

    @property
    def transport(self) -> GraphQLSubscriptionTransport | None:
        """The client's own subscription transport; None where sockets are ours."""
        return self.ground.transport

    async def close_transport(self) -> None:
        """Close the client's own transport, unless it is one that the parent process has used."""
        if self.ground.transport is not None and not self.transport_is_the_parents:
            await self.ground.transport.close()

    def join(
        self, wish: SubscribeRequest, name: str | None = None, *, again: bool = False, control: bool = False
    ) -> Subscriber:
        """Begin a subscription: over a line that it can share, or one of its own.

        :param name: the subscription's id; None makes one up.
        :param again: whether the id may have been on the wire before.
        :param control: whether messages about the connection are wanted too.
        :raises SubscriptionLimitError: it would need one socket too many.
        """
        name = str(uuid.uuid4()) if name is None else name
        key = f"{name}.{uuid.uuid4()}" if again else name
        span = self.ground.telemetry.subscription(wish.request)
        try:
            with contextlib.nullcontext() if span is None else span.current():
                context = contextvars.copy_context()
                line = self._line(wish)
        except BaseException as error:
            if span is not None:
                span.end(error)
            raise
        member = Subscriber(line, key, name, wish, self.policy, context, control=control)
        member.span = span
        line.join(member)
        self._joined = True
        return member

    def _line(self, wish: SubscribeRequest) -> Connection:
        opener = Connector(self.ground, wish)
        share = (*self._key(wish), opener.identity()) if self.policy.share_connection else None
        line = self._shared.get(share) if share is not None else None
        if line is None or line.task.done():  # done and not forgotten yet: one cancelled before it began
            self._require_room(wish)
            line = Connection(self, opener, share)
            self.lines.add(line)
            if share is not None:
                self._shared[share] = line
        return line

    def reidentify(self, line: Connection, identity: object) -> None:
        """A shared line goes on with other credentials: only who has the same may join it from now on."""
        if line.key is None or line.key[-1] == identity:
            return
        self.forget(line)
        line.key = (*line.key[:-1], identity)
        self._shared.setdefault(line.key, line)

    def relocate(self, member: Subscriber) -> None:
        """Give a member of a shared line that has other credentials now a line where they fit."""
        before = member.line
        before.members.pop(member.key)
        try:
            member.line = member.context.copy().run(self._line, member.wish)
        except Exception as error:  # noqa: BLE001 -- no room, or a provider that fails: it is this one's end
            member.end(error)
            return
        member.line.take_over(member, before)

    def _key(self, wish: SubscribeRequest) -> tuple[object, ...]:
        """What subscriptions on one socket must have in common, besides what their provider gives them."""
        return (
            asyncio.get_running_loop(),
            wish.endpoint,
            wish.protocols,
            frozenset(wish.request.headers.items()),
            self._payload_key(wish.payload),
            id(wish.session),
            id(wish.transport),
        )

    def _payload_key(self, payload: Payload | PayloadProvider | None) -> object:
        if not is_provider(payload):
            return self.ground.serializer.dumps(payload)
        # A method is made anew each time that it is named; the line keeps the object of any other id.
        return payload if isinstance(payload, MethodType) else id(payload)

    def forget_the_dead(self) -> None:
        """Leave out what was left on loops that have been closed: it holds nothing, and never ends."""
        dead = {line for line in self.lines if line.loop.is_closed()}
        if dead:
            self.lines -= dead
            self.readers -= {each for each in self.readers if each.loop.is_closed()}
            for line in dead:
                self.forget(line)

    def _require_room(self, wish: SubscribeRequest | Connector) -> None:
        self.forget_the_dead()
        if len(self.lines) >= self.limit:
            raise SubscriptionLimitError(
                f"The client has no WebSocket left for another subscription: pool.subscriptions={self.limit} "
                f"allows no more than the {len(self.lines)} it holds. Nothing was opened. Raise it, end "
                "subscriptions that are no longer needed, or let them share sockets "
                "(subscriptions.share_connection)."
            )
        room = self._room_of_a_callers(wish)
        if room is not None and len(self.lines) >= room:
            raise SubscriptionLimitError(
                f"The given aiohttp session may open {room + 1} in all, and a WebSocket more than the "
                f"{len(self.lines)} of its subscriptions would leave none for calls. Nothing was opened. "
                "Raise the limit of the session's connector, lower pool.subscriptions, or let subscriptions "
                "share sockets (subscriptions.share_connection)."
            )

    def _room_of_a_callers(self, wish: SubscribeRequest | Connector) -> int | None:
        """How many sockets a caller's session has room for beside calls; None where that is no question."""
        given = wish.session or self.ground.sessions.given
        connector = getattr(given, "connector", None)
        if given is None or wish.transport is not None or connector is None:
            return None
        limits = [limit for limit in (connector.limit, connector.limit_per_host) if limit]  # 0: none
        return min(limits) - 1 if limits else None

    def is_own(self, wish: SubscribeRequest) -> bool:
        """Whether its transport is for this subscription alone, and so is closed with it, as stock does."""
        return wish.transport is not None and wish.transport is not self.ground.transport

    def forget(self, line: Connection) -> None:
        """Let nobody join a line any more."""
        if line.key is not None and self._shared.get(line.key) is line:
            del self._shared[line.key]

    # Credentials that are refused to one subscription, on a line that others share.

    def is_superseded(self, line: Connection) -> bool:
        """Whether another line takes those that come, since this one's credentials have grown old."""
        return self._shared.get(line.key, line) is not line

    def move(self, member: Subscriber) -> bool:
        """Put a subscription on a line with newer credentials; False if there is no room for another.

        The line takes those that come, too.
        """
        line = member.line
        newer = self._shared.get(line.key, line)
        if newer is line:
            newer = self._fitting(member) or line
        if newer is line:
            try:
                self._require_room(line.opener)
            except SubscriptionLimitError as error:
                logger.warning("%s: the credentials of a subscription are not renewed: %s", line.host, error)
                return False
            newer = line.renewed()
            self.lines.add(newer)
            self._shared[line.key] = newer
            self.tell_renewal(line, "its answer to a subscription says so")
        member.refused()
        line.leave(member)
        member.line = newer
        newer.join(member)
        return True

    def _fitting(self, member: Subscriber) -> Connection | None:
        """A line with what a sync provider gives a user by now, where another subscription has renewed it."""
        opener, before = Connector(self.ground, member.wish), member.line.key
        if before is None:
            return None
        try:
            identity = member.context.copy().run(opener.identity)
        except Exception:  # noqa: BLE001 -- a provider that fails: it will say so when it is asked for a renewal
            return None
        return self._shared.get((*before[:-1], identity))

    def renewed_in_vain(self, line: Connection) -> None:
        """Credentials were renewed, and refused to a subscription all the same."""
        now = clock.monotonic()
        self._in_vain = [each for each in self._in_vain if now - each[0] < IN_VAIN]
        self._in_vain.append((now, line.opener.renews))
        elder = line.elder
        if elder is None or elder.over or elder.key != line.key:
            return
        if self._shared.get(line.key) is line:
            self._shared[line.key] = elder  # its credentials are as good

    def is_in_vain(self, opener: Connector) -> bool:
        """Whether a renewal has just not helped, and nobody has renewed the credentials since."""
        now = clock.monotonic()
        return not opener.outdated and any(
            now - then < IN_VAIN
            and renews[0] is opener.renews[0]
            and renews[1] is opener.renews[1]
            and renews[2] == opener.renews[2]
            for then, renews in self._in_vain
        )

    def tell_renewal(self, line: Connection, evidence: str) -> None:
        """Log why new credentials are asked for."""
        logger.warning(
            "%s refused the credentials (%s); new ones are asked for",
            line.host,
            evidence,
            extra={"host": line.host, "reason": evidence},
        )

    def ended(self, line: Connection) -> None:
        """A line has ended, its socket with it."""
        self.lines.discard(line)
        self.changed()

    def enter(self, reader: Reader) -> None:
        """A reader begins."""
        self.readers.add(reader)

    def leave(self, reader: Reader) -> None:
        """A reader is through; again does nothing."""
        if reader not in self.readers:
            return
        self.readers.discard(reader)
        reader.member.over()
        if self.draining:
            self.drained += reader.in_order
            self.cut_off += not reader.in_order
        self.changed()

    # The end of the client.

    def own_readers(self) -> set[Reader]:
        """Readers whose own code is asking, and which can therefore not be waited for."""
        return {reader for reader in list(self.readers) if reader.is_caller()}

    def drain(self) -> None:
        """Take nothing new, on any loop."""
        self.draining = True
        for reader in list(self.readers):
            call_on(reader.loop, reader.drain)
        for line in list(self.lines):
            call_on(line.loop, line.close_if_idle)

    def busy(self, exempt: set[Reader]) -> bool:
        """Whether anything is left that comes to its end on a loop that runs."""
        left: list[Reader | Connection] = [*(self.readers - exempt), *self.lines]
        return any(each.loop.is_running() for each in left)

    def abort(self, exempt: set[Reader]) -> None:
        """End what is left, now."""
        for reader in self.readers - exempt:
            call_on(reader.loop, reader.cut)
        for line in list(self.lines):
            call_on(line.loop, line.cut)
