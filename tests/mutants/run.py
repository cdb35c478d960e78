"""``make mutants``: how many small lies about the deciding modules the tests notice.

Each mutant is one module of a copy of the project with one change in it. It runs against the tests that
concern the module, the fast ones first, until one fails. Every mutant is a fork of a process that has all
libraries imported, so that it costs its tests and hardly more.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from lies import Mutation, mutations

ROOT = Path(__file__).parents[2]
# Neither hypothesis nor other plugins of pytest, which wants to import those itself.
LIBRARIES = (
    "aiographql.client",
    "aiohttp",
    "graphql",
    "httpx",
    "httpx_aiohttp",
    "opentelemetry.sdk.trace",
    "pydantic",
    "pydantic_settings",
    "pytest",
    "tenacity",
    "websockets",
    "yaml",
)

_SHUTDOWN = ["test_shutdown_odds.py", "test_shutdown_coordinator.py", "test_shutdown.py"]
_SCHEMA = ["test_properties_documents.py", "test_schema_memory.py", "test_schema_policy.py"]
_SUBSCRIPTIONS = ["test_subscriptions_verdict.py", "test_properties_subscriptions.py"]
TESTS: dict[str, list[str]] = {
    "retry.py": ["test_retry_decision.py", "test_properties_retry.py"],
    "timeouts.py": ["test_config.py", "test_properties_settings.py"],
    "outcomes.py": ["test_properties_outcomes.py", "test_properties_retry.py", "test_errors.py"],
    "subscriptions/verdict.py": _SUBSCRIPTIONS,
    "subscriptions/backoff.py": _SUBSCRIPTIONS,
    "shutdown/deadline.py": ["test_properties_shutdown.py", "test_shutdown_odds.py"],
    "shutdown/stages.py": _SHUTDOWN,
    "schema/memory.py": _SCHEMA[:1],
    "schema/refusals.py": ["test_schema_policy.py"],
    "schema/store.py": [*_SCHEMA[2:], "test_schema_flights.py", "test_schema_file.py"],
    "schema/flight.py": ["test_schema_flights.py", *_SCHEMA[2:]],
}

Fate = Literal["killed", "survived", "timeout"]


@dataclass
class Result:
    """What became of a mutant."""

    module: str
    line: int
    label: str
    fate: Fate
    seconds: float


class Bench:
    """A copy of the project in which one module at a time is another."""

    def __init__(self, folder: Path) -> None:
        self.root, self.log = folder / "project", folder / "log"
        ignored = shutil.ignore_patterns(".git", ".venv", "dist", "*_cache", ".hypothesis")
        shutil.copytree(ROOT, self.root, ignore=ignored)

    def source(self, module: str) -> str:
        return (ROOT / "graphql_prod" / module).read_text(encoding="utf-8")

    def put(self, module: str, source: str) -> None:
        """Put it in, and forget what was compiled of the one before."""
        path = self.root / "graphql_prod" / module
        path.write_text(source, encoding="utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()

    def run(self, module: str, limit: float, *, first: bool = False) -> tuple[int | None, float]:
        """The exit status of the module's tests, or None when the time was up; and how long it took.

        Only the first run leaves compiled files to the others: those of a mutant would outlive it.
        """
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            try:
                os._exit(self._test(module, compiles=first))
            finally:  # whatever comes out: the way back leads through the parent's own business
                traceback.print_exc()
                os._exit(70)
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status), time.monotonic() - began
            if time.monotonic() - began > limit:
                os.killpg(child, signal.SIGKILL)  # its own group: it and what it has started
                os.waitpid(child, 0)
                return None, limit
            time.sleep(0.02)

    def _test(self, module: str, *, compiles: bool) -> int:
        os.setsid()
        log = os.open(self.log, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.chdir(self.root)
        sys.dont_write_bytecode = not compiles
        os.environ |= {
            "PYTHONPATH": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "" if compiles else "1",
            "HYPOTHESIS_PROFILE": "mutants",
        }
        sys.path.insert(0, str(self.root))
        import pytest

        tests = [f"tests/{name}" for name in TESTS[module]]
        return pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests])


def judge(bench: Bench, module: str, chosen: list[Mutation], report: Any) -> list[Result]:
    """Run a module's mutants; first the module as it is, whose tests must pass."""
    bench.put(module, bench.source(module))
    status, usual = bench.run(module, 600, first=True)
    if status != 0:
        raise SystemExit(f"{module}: without a mutation, too, its tests fail\n{bench.log.read_text()}")
    results = []
    for mutant in chosen:
        bench.put(module, mutant.source)
        status, seconds = bench.run(module, 3 * usual + 20)
        if status == 5:  # 4 is a mutant that cannot even be imported
            raise SystemExit(f"{module}: pytest did not run\n{bench.log.read_text()}")
        fate: Fate = "timeout" if status is None else "survived" if status == 0 else "killed"
        results.append(Result(module, mutant.line, mutant.label, fate, seconds))
        report(results[-1])
    bench.put(module, bench.source(module))
    return results


def main() -> None:
    """Make mutants, run them, print those that nobody noticed and a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(TESTS)}; none means all")
    parser.add_argument("--sample", type=int, default=25, help="mutants a module, at most")
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--json", type=Path, help="write all results there, too")
    parser.add_argument("--line", type=int, help="only mutants of this line")
    options = parser.parse_args()
    for library in LIBRARIES:
        import_module(library)
    results: list[Result] = []

    def report(result: Result) -> None:
        if result.fate != "killed":
            print(f"  {result.fate}: {result.module}:{result.line}  {result.label}", flush=True)
        results.append(result)
        if options.json:
            options.json.write_text(json.dumps([asdict(each) for each in results], indent=1))

    rows: list[tuple[str, list[int]]] = []
    with tempfile.TemporaryDirectory(prefix="graphql_prod-mutants-") as folder:
        bench = Bench(Path(folder))
        for module in options.modules or TESTS:
            made = mutations(bench.source(module))
            if options.line:
                made = [mutant for mutant in made if mutant.line == options.line]
            chosen = made
            if len(made) > options.sample:
                chosen = random.Random(f"{options.seed} {module}").sample(made, options.sample)
            found = judge(bench, module, chosen, report)
            survived = sum(result.fate == "survived" for result in found)
            late = sum(result.fate == "timeout" for result in found)
            rows.append((module, [len(made), len(found), len(found) - survived, late, survived]))
            print(f"{module}: {len(found) - survived} of {len(found)}", flush=True)
    print("\n| module | mutants | run | killed | of these by time | survived |\n|---|---|---|---|---|---|")
    rows.append(("all", [sum(column) for column in zip(*(row[1] for row in rows), strict=True)]))
    for module, numbers in rows:
        print(f"| {module} | {' | '.join(map(str, numbers))} |")


if __name__ == "__main__":
    main()
