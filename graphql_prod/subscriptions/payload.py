"""The payload of ``connection_init``: as it was given, or asked for at each connect."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeGuard

from graphql_prod.credentials import renewing
from graphql_prod.errors import ConfigurationError, TransportError

Payload = Mapping[str, Any]
PayloadProvider = Callable[..., Payload | Awaitable[Payload | None] | None]


def is_provider(given: Payload | PayloadProvider | None) -> TypeGuard[PayloadProvider]:
    """Whether a payload has to be asked for."""
    return callable(given) and not isinstance(given, Mapping)


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
        self.renewable = is_provider(given)

    def renew(self) -> None:
        """What the last connection was begun with was refused."""
        self._refused = True

    async def current(self, host: str, limit: float | None) -> Payload | None:
        """The payload for the next connection. Safe to cancel.

        :param limit: seconds after which a callable that is asked is given up; None: no limit.
        :raises TransportError: the callable failed, or gave what is no mapping.
        """
        given = self._given
        if given is None or isinstance(given, Mapping):
            return given
        try:
            payload = given(**(renewing(given) if self._refused else {}))
            if inspect.isawaitable(payload):
                async with asyncio.timeout(limit):
                    payload = await payload
            if payload is not None and not isinstance(payload, Mapping):
                raise TypeError(f"a mapping expected, not {type(payload).__name__}")  # noqa: TRY301
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling()):
                raise
            raise TransportError(
                f"Nothing was sent to {host}: its connection_init_payload failed with a "
                f"{type(error).__name__}. See the cause of this error."
            ) from error
        self._refused = False
        self.latest = payload
        return payload
