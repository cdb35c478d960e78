"""Bad weather for subscriptions alone: errors of each shape in mid-stream, and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from aiographql.client import GraphQLRequestException

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable
    from random import Random

    from graphql_prod.testing import ScriptedServer
    from graphql_prod.testing.connection import Connection

BROKEN = "out of order in bad weather"
"""What the server says when it ends a subscription with an error."""
SHAPES: tuple[Any, ...] = (
    [{"message": BROKEN}],
    {"message": BROKEN},
    {"errors": [{"message": BROKEN, "extensions": {"code": "INTERNAL"}}]},
    {"errors": {"message": BROKEN, "trace-id": 7}},
    {"reason": BROKEN},
    BROKEN,
    [BROKEN],
    [],
    {},
    None,
)
"""What real servers have been seen to send as the payload of an `error`."""
REFUSES: tuple[Any, ...] = (
    [{"message": "expired", "extensions": {"code": "UNAUTHENTICATED"}}],
    {"errors": [{"message": "expired", "extensions": {"code": "invalid-jwt"}}]},
    {"message": "token expired"},
)
"""The same of one whose token has expired."""


@dataclass(frozen=True)
class Sent:
    """An error that the server has sent.

    :ivar value: the last event before it. One more may have been on its way.
    :ivar words: what has to be in the client's error.
    """

    value: int
    words: str


class Endings:
    """The errors with which the server ended subscriptions, by the ids of those."""

    def __init__(self, check: Callable[[object, str], None], done: Counter[str]) -> None:
        self._check = check
        self._done = done
        self._sent: dict[str | None, Sent] = {}
        self._doubts: dict[str | None, str] = {}
        """What must not be, unless a gap is still to come."""
        self._ended: WeakKeyDictionary[Connection, set[str]] = WeakKeyDictionary()
        """What was ended over which socket: a slow reader hears of the first time long after the second."""

    async def end(self, server: ScriptedServer, chance: Random) -> None:
        """End some of the subscriptions, each with an error of some shape, with an id or without."""
        for socket in server.sockets:
            if chance.random() < 0.5:
                # Where others may be about to join, nobody can know whose an error without an id is.
                alone = len(socket.subscriptions) == 1 and not token_of(server, socket)
                await self._send(server, socket, SHAPES, chance, may_be_nameless=alone)

    async def refuse(self, server: ScriptedServer, stale: Iterable[Connection], chance: Random) -> None:
        """Refuse the credentials of all subscriptions on these sockets."""
        for socket in stale:
            await self._send(server, socket, REFUSES, chance, may_be_nameless=False)

    async def _send(
        self,
        server: ScriptedServer,
        socket: Connection,
        shapes: tuple[Any, ...],
        chance: Random,
        *,
        may_be_nameless: bool,
    ) -> None:
        last = {
            each.subscription: each.value for each in server.events_sent if each.connection == socket.number
        }
        for key in socket.subscriptions:
            name = key.partition(".")[0]
            if key not in last:
                continue  # one that has not begun may be begun anew, in silence
            if any(key in each.subscriptions for each in server.sockets if each.number > socket.number):
                continue  # the client has left this socket, which does not know yet
            if name in self._sent:
                continue  # its reader is slow: the first error is the one that it will hear of
            if key in self._ended.setdefault(socket, set()):
                continue
            payload = chance.choice(shapes)
            words = BROKEN if BROKEN in str(payload) else ""
            self._sent[name] = Sent(last[key], words)
            message = {"type": "error", "id": key, "payload": payload}
            if may_be_nameless and chance.random() < 0.5:
                del message["id"]
            self._done["errors sent"] += 1
            self._ended[socket].add(key)
            try:
                await socket.send(message)
            except ConnectionError:
                del self._sent[name]

    def connected_again(self, name: str | None) -> None:
        """The error may have been lost with the connection, and no longer counts."""
        self._sent.pop(name, None)
        self._doubts.pop(name, None)

    def event(self, name: str | None, value: int, who: str) -> None:
        """The server goes on sending events after its error: they are nobody's.

        A reader that is behind may still have events of the connection before: then a gap follows them.
        """
        sent = self._sent.get(name)
        if sent is not None and value > sent.value + 1:
            text = f"{who}: {value} came after the error that came after {sent.value}"
            self._doubts.setdefault(name, text)

    def completed(self, name: str | None) -> None:
        """The server has said that this was all."""
        self._clear_up(name)

    def _clear_up(self, name: str | None) -> None:
        doubt = self._doubts.pop(name, None)
        self._check(doubt is None, str(doubt))

    def told(self, name: str | None, last: int, error: object, who: str) -> None:
        """The client says that the server has ended a subscription with an error."""
        self._done["errors told"] += 1
        self._clear_up(name)
        sent = self._sent.pop(name, None)
        if sent is None:
            return
        self._check(sent.words in str(error), f"{who}: the words of the server are lost: {error}")
        self._check(
            last in (sent.value, sent.value + 1),
            f"{who}: an error after {sent.value} was told after {last}",
        )


def is_told(error: Exception) -> bool:
    """Whether it is the server's own error that ended a subscription, and no end that we made."""
    return type(error) is GraphQLRequestException


def token_of(server: ScriptedServer, socket: Connection) -> str | None:
    """What a socket was opened with."""
    return server.upgrades[socket.number - 1].headers.get("Authorization")
