"""A table of what became of the mutants of the last ``make mutants``, by module; then the survivors."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

KILLED = {"killed", "timeout", "caught by type check", "segfault"}


def main() -> None:
    done = subprocess.run(  # noqa: S603 -- nothing of it comes from outside
        [Path(sys.executable).with_name("mutmut"), "results", "--all", "true"],
        capture_output=True,
        text=True,
        check=True,
    )
    fates: defaultdict[str, Counter[str]] = defaultdict(Counter)
    survivors = []
    for line in done.stdout.splitlines():
        name, _, fate = line.strip().partition(": ")
        module = name.split(".x")[0].removeprefix("graphql_prod.").replace(".", "/")
        fates[f"{module}.py"][fate] += 1
        if fate not in {*KILLED, "not checked"}:
            survivors.append(f"{name}: {fate}")
    fates["all"] = sum(fates.values(), Counter())
    print("| module | mutants | run | killed | of these by time | survived |\n|---|---|---|---|---|---|")
    for module, count in fates.items():
        run = count.total() - count["not checked"]
        killed = sum(count[fate] for fate in KILLED)
        print(f"| {module} | {count.total()} | {run} | {killed} | {count['timeout']} | {run - killed} |")
    print("\n".join(survivors))


if __name__ == "__main__":
    main()
