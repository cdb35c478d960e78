"""Memory of the process over many calls: it must not grow.

python -m benchmarks.memory [--calls 200000]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
from pathlib import Path

from benchmarks.call import QUERY, VARIABLES, burst
from benchmarks.canned import canned_server
from graphql_prod import ProductionClient

TASKS = 20


def resident() -> float:
    """MiB of this process that are in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def measure(url: str, calls: int) -> None:
    """Print what is resident after each tenth of the calls."""
    async with ProductionClient(url, validate=False) as client:

        async def call() -> object:
            return await client.query(QUERY, variables=VARIABLES)

        await burst(call, 2000, TASKS)
        before = resident()
        print(f"  {'after 2,000 calls':24} {before:7.1f} MiB")
        for tenth in range(1, 11):
            await burst(call, calls // 10, TASKS)
            print(
                f"  {f'{calls // 10 * tenth:,} more':24} {resident():7.1f} MiB  {resident() - before:+6.2f}"
            )


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--calls", type=int, default=200_000)
    chosen = arguments.parse_args()
    logging.disable()
    print(f"Resident memory over {chosen.calls:,} calls")
    with canned_server() as url:
        asyncio.run(measure(url, chosen.calls))


if __name__ == "__main__":
    main()
