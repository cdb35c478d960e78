"""The payload of ``connection_init``: as it was given, or asked for at each connect."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeGuard

from graphql_prod.credentials import bare_context, renewing
from graphql_prod.errors import ConfigurationError, TransportError
from graphql_prod.runtime.contexts import called_in

if TYPE_CHECKING:
    from contextvars import Context

    from aiographql.client.serializer import GraphQLSerializer

_HINT = (
    " On a shared connection it runs in an empty context and sees no ContextVar of a subscriber: give each "
    "user a payload, or a callable, of their own."
)

Payload = Mapping[str, Any]
PayloadProvider = Callable[..., Payload | Awaitable[Payload | None] | None]


def is_provider(given: Payload | PayloadProvider | None) -> TypeGuard[PayloadProvider]:
    """Whether a payload has to be asked for."""
    return callable(given) and not isinstance(given, Mapping)


def payload_key(payload: Payload | PayloadProvider | None, serializer: GraphQLSerializer) -> object:
    """What two payloads have to have in common to share a connection."""
    if not is_provider(payload):
        return serializer.dumps(payload)
    # A method is made anew each time that it is named; the channel keeps the object of any other id.
    return payload if isinstance(payload, MethodType) else id(payload)


def checked(given: Payload | PayloadProvider | None) -> Payload | PayloadProvider | None:
    """What a caller gave, a mapping as it is now.

    :raises ConfigurationError: it is neither a mapping nor a callable.
    """
    if given is None or is_provider(given):
        return given
    if not isinstance(given, Mapping):
        raise ConfigurationError(
            "connection_init_payload must be a mapping, or a callable that returns one, "
            f"not {type(given).__name__}"
        )
    return dict(given)


class InitPayload:
    """The payload for one connection after another.

    :ivar renewable: whether a refused one can be exchanged for another.
    :ivar latest: what the last connection was begun with, for whoever must not show it.
    """

    __slots__ = ("_given", "_refused", "latest", "renewable")

    def __init__(self, given: Payload | PayloadProvider | None) -> None:
        self._given = given
        self._refused = False
        self.latest: Payload | None = given if isinstance(given, Mapping) else None
        self.renewable: bool = is_provider(given)

    @property
    def provider(self) -> object:
        """The callable that is asked; None if there is none."""
        return self._given if self.renewable else None

    def renew(self) -> None:
        """What the last connection was begun with was refused."""
        self._refused = True

    async def current(self, host: str, limit: float | None, context: Context | None) -> Payload | None:
        """The payload for the next connection. Safe to cancel.

        :param context: that of the subscriber. None: an empty one, since others may share the connection, and
            nobody shall come by another's credentials.
        :param limit: seconds after which a callable that is asked is given up; None: no limit.
        :raises TransportError: the callable failed, or gave what is no mapping.
        """
        given = self._given
        if given is None or isinstance(given, Mapping):
            return given
        try:
            asked = functools.partial(given, **(renewing(given) if self._refused else {}))
            async with asyncio.timeout(limit):
                payload = await called_in(bare_context() if context is None else context, asked)
            if payload is not None and not isinstance(payload, Mapping):
                raise TypeError(f"a mapping expected, not {type(payload).__name__}")  # noqa: TRY301
        except (Exception, asyncio.CancelledError) as error:
            bare = context is None and type(error) is LookupError
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise
            raise TransportError(
                f"Nothing was sent to {host}: its connection_init_payload failed with a "
                f"{type(error).__name__}.{_HINT if bare else ''} See the cause of this error."
            ) from error
        self._refused = False
        self.latest = payload
        return payload
