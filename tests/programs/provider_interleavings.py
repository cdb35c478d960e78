"""Calls that meet at one flight of a headers_provider, in every order that a round of the loop allows.

usage: provider_interleavings.py KIND. Writes "done". A loop that stands still ends the program with status 1.
"""

from __future__ import annotations

import asyncio
import faulthandler
import itertools
import sys
from typing import TYPE_CHECKING, Any

from graphql_prod.credentials import Credentials, ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

KIND = sys.argv[1]


class Provider:
    def __init__(self) -> None:
        self.asked: list[bool] = []
        self.token = 0

    async def __call__(self, refresh: bool = False) -> dict[str, str]:
        self.asked.append(refresh)
        if KIND in ("one step", "fails late"):
            await asyncio.sleep(0)
        if KIND in ("fails", "fails late"):
            raise RuntimeError("no token")
        if KIND == "cancelled":
            raise asyncio.CancelledError
        if KIND == "overruns" and len(self.asked) == 1:
            await asyncio.Event().wait()
        self.token += refresh
        return {"Authorization": str(self.token)}


async def meet(steps: tuple[int, ...]) -> None:
    """A call, two that were refused, and two more, each so many rounds of the loop after the last one."""
    provider = Provider()
    credentials = Credentials(provider)
    limit = -0.999 if KIND == "overruns" else None  # a flight is given up a second after it
    first = await credentials.headers(None, None) if KIND in ("no step", "one step") else None
    provider.asked.clear()
    calls: list[Callable[[], Coroutine[Any, Any, Any]]] = [
        lambda: credentials.headers(None, limit),
        lambda: credentials.headers(first, limit),
        lambda: credentials.headers(first, limit),
        lambda: credentials.headers(None, limit),
        lambda: credentials.headers(None, limit),
    ]
    tasks = []
    for call, rounds in zip(calls, steps, strict=True):
        for _ in range(rounds):
            await asyncio.sleep(0)
        tasks.append(asyncio.create_task(call()))
    ended: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    if KIND in ("no step", "one step"):
        assert [str(given[0]["Authorization"]) for given in ended[1:3]] == ["1", "1"], ended
        assert provider.asked.count(True) == 1, provider.asked
    elif KIND != "overruns":
        assert all(isinstance(each, ProviderError) for each in ended), ended


async def main() -> None:
    for steps in itertools.product(range(3), repeat=5):
        await meet(steps)
    sys.stdout.write("done\n")


faulthandler.dump_traceback_later(20, exit=True)
asyncio.run(main())
