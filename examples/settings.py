"""A client made of settings: a file, and the environment over it. ``client.toml`` lists all there are."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from graphql_prod import ConfigurationError, ProductionClient
from graphql_prod.testing import ScriptedServer

FILE = """
endpoint = "{url}"
timeout = "interactive"

[retry]
attempts = 2

[operations.Report]       # one operation may take longer
timeout = "batch"
"""


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with ScriptedServer() as server:
            file = Path(folder) / "client.toml"
            file.write_text(FILE.format(url=server.url), encoding="utf-8")
            os.environ["GRAPHQL_PROD_RETRY__ATTEMPTS"] = "6"
            async with ProductionClient.from_config(file) as client:
                print((await client.query("{ hello }")).data["hello"])
                print(f"retry: {client.config.retry!r:.30}…, total: {client.config.timeout.total} s")

        os.environ["GRAPHQL_PROD_RETRY__ATTEMPTS"] = "six"
        try:
            ProductionClient.from_config(file)
        except ConfigurationError as error:
            print(str(error).replace(folder, "…"))


if __name__ == "__main__":
    asyncio.run(main())
