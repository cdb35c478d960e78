"""What the tests of flights share."""

from __future__ import annotations

import asyncio
from typing import Any

from schema_world import (
    INTROSPECTION,
    a_few_rounds,
    asked_so_often,
)
from telemetry_sdk import sdk_fixture  # noqa: F401 -- the fixture

from graphql_prod.testing import Answer, ScriptedServer


class Gated:
    """Introspections that are held until the test lets them go."""

    def __init__(self, server: ScriptedServer, **answer: Any) -> None:
        self._gate = asyncio.Event()
        self._server = server
        server.always(Answer(gate=self._gate, **answer), INTROSPECTION)

    async def came(self, n: int = 1) -> None:
        """Wait until so many have arrived, and all who are to wait for them do."""
        await asked_so_often(self._server, n)
        await a_few_rounds()

    def go(self) -> None:
        """Let them go, and further ones pass."""
        self._server.always(None, INTROSPECTION)
        self._gate.set()


async def failed(call: asyncio.Future[Any]) -> BaseException:
    """The exception that a call ends in."""
    await asyncio.wait({call}, timeout=10)
    error = call.exception()
    assert error is not None
    return error
