"""What stands for a socket where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from graphql_prod.subscriptions.stock_registry import Said

if TYPE_CHECKING:
    from graphql_prod.subscriptions.protocol import Message


class Nothing(Said):
    """In the place of a socket, for a task that was left before it had one."""

    __slots__ = ()
    subprotocol: str | None = None

    async def __aenter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        raise StopAsyncIteration

    async def __aexit__(self, *_: object) -> None:
        """Nothing."""
