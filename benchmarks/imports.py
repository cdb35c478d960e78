"""Time to import the package, beside the stock client's: a new interpreter each time, interleaved, medians.

python -m benchmarks.imports [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

PROGRAM = "import time; begun = time.process_time(); {statement}; print(time.process_time() - begun)"
CONTENDERS = {
    "stock client with aiohttp": "import aiographql.client, aiohttp",
    "stock, tenacity, pydantic": "import aiographql.client, aiohttp, tenacity, pydantic",
    "graphql_prod": "import graphql_prod",
}


def once(statement: str) -> float:
    """CPU seconds of one import in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(statement=statement)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--rounds", type=int, default=15)
    rounds = arguments.parse_args().rounds
    figures: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, statement in CONTENDERS.items():
            figures[name].append(once(statement))
    base = statistics.median(figures["stock client with aiohttp"])
    print("CPU time of an import")
    for name, values in figures.items():
        median = statistics.median(values)
        print(f"  {name:28} {median * 1e3:6.0f} ms  {median / base:5.2f} x stock")


if __name__ == "__main__":
    main()
