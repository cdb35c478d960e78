"""Many callers of one client, while the server takes another token every ten calls.

usage: provider_rotation.py STEPS ROTATIONS PORT. Writes how many calls were answered. A loop that stands
still, or a call that never ends, ends the program with status 1.
"""

from __future__ import annotations

import asyncio
import faulthandler
import random
import sys

from aiohttp import web

from graphql_prod import HTTPStatusError, ProductionClient, clock

STEPS, ROTATIONS, CALLERS, EACH = int(sys.argv[1]), int(sys.argv[2]), 60, 10


class World:
    """The identity provider and the server, which agree on the token that is valid."""

    def __init__(self) -> None:
        self.valid = self.known = self.served = self.answered = 0

    async def token(self, refresh: bool = False) -> dict[str, str]:
        for _ in range(STEPS):
            await asyncio.sleep(0)
        if refresh:
            self.known = self.valid
        return {"Authorization": str(self.known)}

    async def graphql(self, request: web.Request) -> web.Response:
        await asyncio.sleep(random.random() * 0.005)
        if request.headers["Authorization"] != str(self.valid):
            return web.Response(status=401)
        self.served += 1
        if self.served % EACH == 0:
            self.valid += 1
        return web.json_response({"data": {"a": 1}})


class Fast(clock.Clock):
    """Renewals that did not help are forgotten after 0.3 s: here every other one comes too late."""

    def monotonic(self) -> float:
        return super().monotonic() * 100


async def main() -> None:
    world, app = World(), web.Application()
    app.router.add_post("/graphql", world.graphql)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[3])).start()
    url = f"http://127.0.0.1:{sys.argv[3]}/graphql"
    async with ProductionClient(url, validate=False, headers_provider=world.token) as client:

        async def caller() -> None:
            while world.valid < ROTATIONS:
                try:
                    await client.query("{ a }")
                except HTTPStatusError:  # two rotations within one call: it is repeated once
                    continue
                world.answered += 1

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    await runner.cleanup()
    sys.stdout.write(f"{world.answered}\n")


faulthandler.dump_traceback_later(50, exit=True)
with clock.using(Fast()):
    asyncio.run(main())
