"""Settings of our own sessions: the size of the pool, and bounds of what is taken."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from graphql_prod.settings.base import Number, Policy, Seconds

Backend = Literal["aiohttp", "httpx"]

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""What is read of an answer, after decompression."""
MAX_RESPONSE_VALUES = 5_000_000
"""What an answer over 1 MiB may hold of ``,`` ``[`` and ``{``: about as many as it has values."""


class PoolPolicy(Policy):
    """How many connections a client holds, and for how long. Sizes our own sessions only.

    :param requests: calls that are served at once; further ones wait for ``timeout.pool``.
    :param subscriptions: sockets that subscriptions may hold beside them.
    :param retry_headroom: connections on top of ``requests``, as a share: room for repeated attempts,
        which whoever comes first may take.
    :param keepalive: seconds an idle connection is kept. Node closes one after 5 s; a connection kept
        longer than its server keeps it is a reset waiting for the next mutation.
    :param max_age: seconds after which connections are renewed, for load balancers and DNS that moved;
        calls under way finish on the old ones. None keeps them.
    """

    requests: Annotated[int, Number, Field(ge=1)] = 100
    subscriptions: Annotated[int, Number, Field(ge=0)] = 100
    retry_headroom: Annotated[float, Number, Field(ge=0)] = 0.2
    keepalive: Annotated[float, Number, Field(ge=0)] = 4.0
    max_age: Seconds | None = None

    @property
    def request_connections(self) -> int:
        """Connections that calls may use at once."""
        return math.ceil(self.requests * (1 + self.retry_headroom))
