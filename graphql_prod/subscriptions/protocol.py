"""The two GraphQL WebSocket protocols: what their messages are called, and how they look. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiographql.client.subscription import GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_WS_PROTOCOL

from graphql_prod.runtime.garbage import no_full_collection
from graphql_prod.sessions.bodies import LARGE, TooManyValuesError, require_few_values
from graphql_prod.subscriptions.shapes import NO_WORDS, errors_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiographql.client import GraphQLRequest
    from aiographql.client.serializer import GraphQLSerializer

Message = dict[str, Any]

EVENTS = frozenset({"next", "data"})
ENDINGS = frozenset({"complete", "error"})
# What concerns the connection and not one of its subscriptions.
CONTROL = frozenset({"connection_ack", "connection_error", "ping", "pong", "ka"})

UNREADABLE = 4400
"""The close code for a message that cannot be read (graphql-transport-ws: "Invalid message received")."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a protocol calls the messages that a client sends."""

    name: str
    start: str
    stop: str
    pings: bool
    """Whether it has a ping of its own; the other is pinged by WebSocket frames."""


MODERN = Dialect(GRAPHQL_TRANSPORT_WS_PROTOCOL, start="subscribe", stop="complete", pings=True)
LEGACY = Dialect(GRAPHQL_WS_PROTOCOL, start="start", stop="stop", pings=False)


class UnreadableError(Exception):
    """The server sent what is no message of the protocol."""


class UnofferedError(Exception):
    """The server chose a protocol that it was not offered; the argument is its name."""


def dialect_of(agreed: str | None, offered: Sequence[str]) -> Dialect:
    """The protocol in use; where the server named none, the stock client's choice.

    :raises UnofferedError: the server chose another one.
    """
    if not agreed:
        return LEGACY if GRAPHQL_WS_PROTOCOL in offered else MODERN
    if agreed not in offered:
        raise UnofferedError(agreed)
    return LEGACY if agreed == GRAPHQL_WS_PROTOCOL else MODERN


def read(data: str | bytes, serializer: GraphQLSerializer, max_values: int | None = None) -> Message:
    """The message in a frame.

    :param max_values: what a large one may hold. None: no limit.
    :raises UnreadableError: it is no JSON, no object, or has no type.
    :raises TooManyValuesError: it holds more than that.
    """
    try:
        message = serializer.loads(data) if len(data) <= LARGE else _large(data, serializer, max_values)
    except TooManyValuesError:
        raise
    except Exception as error:  # a serializer of the caller's may raise anything
        raise UnreadableError("sent a message that is no JSON") from error
    if not isinstance(message, dict) or type(message.get("type")) is not str:
        raise UnreadableError("sent a message that is no object with a type")
    return message if type(message) is dict else dict(message)


def _large(data: str | bytes, serializer: GraphQLSerializer, max_values: int | None) -> Any:
    require_few_values(data, max_values)
    with no_full_collection():
        return serializer.loads(data)


def init_message(payload: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Message:
    """``connection_init``: the caller's payload, with the HTTP headers in it as the stock client has them."""
    payload = dict(payload or {})
    given = payload.get("headers")
    payload["headers"] = {**(given if isinstance(given, dict) else {}), **headers}
    return {"type": "connection_init", "payload": payload}


def start_message(dialect: Dialect, key: str, request: GraphQLRequest) -> Message:
    return {"id": key, "type": dialect.start, "payload": request.payload()}


def stop_message(dialect: Dialect, key: str) -> Message:
    return {"id": key, "type": dialect.stop}


def pong_message(ping: Message) -> Message:
    """The answer to a ping; it carries the ping's payload."""
    return {**ping, "type": "pong"}


def errors_of(message: Message) -> list[Message]:
    """The errors in an ``error`` message, whatever its shape; never none."""
    return errors_in(message.get("payload")) or [{"message": NO_WORDS}]


class Parsed:
    """The client's serializer, for a stock object that is handed messages read already."""

    def __init__(self, serializer: GraphQLSerializer) -> None:
        self._serializer = serializer

    def loads(self, data: Any) -> Any:
        """A message as it is; a text as the client's serializer reads it."""
        return data if type(data) is dict else self._serializer.loads(data)

    def dumps(self, value: Any) -> str | bytes:
        """As the client's serializer."""
        return self._serializer.dumps(value)
