"""One attempt over a session: what was sent, and what came back."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import aiohttp

from graphql_prod.runtime import garbage
from graphql_prod.sessions import bodies

if TYPE_CHECKING:
    from collections.abc import Mapping


T = TypeVar("T")


class Exchange:
    """What is known of an attempt, whichever library carries it."""

    __slots__ = ("body", "headers", "sent", "status")

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.body: bytes = b""
        self.sent: bool | None = False
        """Whether the request was written; None where nobody can tell."""


class StaleConnectionError(aiohttp.ClientConnectionError):
    """A kept connection had ended, or brought an answer that nobody had asked for; nothing was sent on it."""


class SessionClosedError(Exception):
    """The caller's session was closed by its owner; nothing was sent."""


class UnwritableRequestError(Exception):
    """The HTTP library refuses to write a request, for something that the caller's session adds to it."""


def before_parsing(body: bytes, values: int | None) -> None:
    """What is due before a large body becomes objects, which happens in the same step of the loop.

    :raises TooManyValuesError: they would be too many.
    """
    bodies.require_few_values(body, values)
    garbage.no_full_collection_in_this_step()
