"""What a subscription has to know of the channel that it is on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from contextlib import AbstractContextManager

    from aiographql.client.serializer import GraphQLSerializer

    from graphql_prod.subscriptions.protocol import Dialect


class SubscriberChannel(Protocol):
    """What a subscription has to know of the channel that it is on."""

    loop: asyncio.AbstractEventLoop
    task: asyncio.Task[None]
    dialect: Dialect

    @property
    def host(self) -> str:
        """Whom it connects to, for texts."""

    @property
    def shared(self) -> bool:
        """Whether other subscriptions may join."""

    @property
    def connected(self) -> bool:
        """Whether there is a socket, which takes a moment to close."""

    @property
    def serializer(self) -> GraphQLSerializer:
        """What reads messages."""

    def unregister(self, subscriber: Any) -> None:
        """Let a subscription go, and tell the server if it knows of it."""

    def held_back(self) -> AbstractContextManager[None]:
        """While this lasts nothing is read, and silence means nothing."""

    def count_drop(self) -> None:
        """An event was thrown away."""

    def concealed(self, error: Exception) -> Exception:
        """The error, without secrets."""
