"""Holds the floors of docs/architecture.md: imports go down only, and nothing imports in a circle.

python docs/architecture.py            # exit status 1, and what to do, where something looks up
python docs/architecture.py --floors   # which module stands on which floor
"""

from __future__ import annotations

import ast
import sys
from fnmatch import fnmatchcase
from pathlib import Path

PACKAGE = "graphql_prod"
MOST_LINES, MOST_TEST_LINES, MOST_AT_THE_TOP = 400, 700, 18

# The first pattern that a module's name fits says where it stands. A folder is no floor: its policy stands
# on 1, its pure decision on 2. Fractions are steps of one floor.
FLOORS: tuple[tuple[float, str, tuple[str, ...]], ...] = (
    (9, "the package", ("", "__main__")),
    (8, "edges", ("cli", "cli.*", "integrations*", "demo*", "testing.pytest")),
    (7, "facade", ("client",)),
    (6.9, "composition", ("_build",)),
    (1.3, "sources", ("sources",)),
    (1.2, "config's names", ("settings.names", "settings.files", "settings.variables", "settings.arguments")),
    (1.1, "config", ("config",)),
    (
        1,
        "settings",
        ("*.policy", "resilience.timeouts", "sessions.tls", "sessions.transport_options", "testing*"),
    ),
    (0.9, "what settings share", ("settings*",)),
    (0.1, "ground", ("resilience.retry.retry_after",)),
    (2, "decisions", ("registry", "renewals", "resilience*")),
    (
        2,
        "decisions",
        (
            "throttling.recognition",
            "throttling.quotas",
            "throttling.meters",
            "throttling.bucket",
            "admission.decision",
        ),
    ),
    (2, "decisions", ("subscriptions.refusals", "subscriptions.backoff", "subscriptions.rest")),
    (0.2, "ground", ("texts.redaction",)),
    (0.1, "ground", ("urls", "headers", "documents", "runtime.logs")),
    (0, "ground", ("_version", "errors", "clock", "loops", "texts*", "runtime*")),
    (0, "ground", ("calls.reading", "calls.request_errors", "calls.unwritable", "calls.get_requests")),
    (
        3,
        "mechanisms",
        ("sessions*", "credentials", "header_files", "telemetry*", "throttling*", "admission*"),
    ),
    (4, "a call", ("calls*",)),
    (5, "promises", ("schema*", "subscriptions*")),
    (6, "conductors", ("shutdown*", "health*")),
)


def modules(root: Path) -> dict[str, Path]:
    """The files of a package by the names of their modules, without the package's own."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(known: dict[str, Path], package: str = PACKAGE) -> dict[str, set[str]]:
    """Which module imports which, those for types only counted."""
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for target in _targets(node, name, path.name == "__init__.py", package):
                while target not in known and "." in target:
                    target = target.rpartition(".")[0]
                if target in known and target != name:
                    graph[name].add(target)
    return graph


def _targets(node: ast.AST, name: str, is_package: bool, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [
            each.name.removeprefix(f"{package}.")
            for each in node.names
            if each.name.startswith(f"{package}.")
        ]
    if not isinstance(node, ast.ImportFrom):
        return []
    if node.level:
        base = [*name.split("."), *([""] if is_package else [])][: -node.level]
        start = ".".join([*filter(None, base), *([node.module] if node.module else [])])
    elif node.module == package or (node.module or "").startswith(f"{package}."):
        start = (node.module or "").removeprefix(package).removeprefix(".")
    else:
        return []
    return [f"{start}.{each.name}".removeprefix(".") for each in node.names]


def floor_of(module: str) -> float | None:
    """The number of the floor that a module stands on; None for one that the table does not know."""
    return next(
        (floor for floor, _, names in FLOORS if any(fnmatchcase(module, each) for each in names)), None
    )


def looking_up(graph: dict[str, set[str]]) -> list[str]:
    """What imports from above, or from another room on its own floor; with what to do."""
    found = []
    for module, targets in graph.items():
        floor = floor_of(module)
        if floor is None:
            found.append(f"{module} has no floor: give it one in docs/architecture.py")
            continue
        for target in sorted(targets):
            above = floor_of(target)
            if above is None or above < floor or (above == floor and _room(target) == _room(module)):
                continue
            found.append(
                f"{module} (floor {floor:g}) imports {target} (floor {above:g}): move what it needs down, "
                "take it as an argument of the constructor, or own a Protocol of it"
            )
    return found


def _room(module: str) -> str:
    return module.partition(".")[0]


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other, directly or around some corners."""
    found, done = [], set[str]()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append(
                " -> ".join([*path[path.index(module) :], module]) + ": a circle. Give one of them a Protocol"
            )
            return
        if module not in done:
            for target in sorted(graph[module]):
                visit(target, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])
    return found


def assigned_elsewhere(path: Path) -> list[str]:
    """Attributes that are set on another object than ``self``; a view that is being made excepted."""
    return [
        f"{path.name}:{node.lineno} sets one of {ast.unparse(node.value)}: give it to the constructor"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "view"))
    ]


def too_long(files: list[Path], most: int) -> list[str]:
    """Files with more lines than that."""
    counted = [(path, path.read_text(encoding="utf-8").count("\n")) for path in files]
    return [
        f"{path} has {lines} lines, more than {most}: split it by what it is about"
        for path, lines in counted
        if lines > most
    ]


def problems(root: Path) -> list[str]:
    """All that is against the rules of the house, in a checkout."""
    known = modules(root / PACKAGE)
    graph = imports(known)
    found = looking_up(graph) + circles(graph)
    for name in ("client", "_build"):
        found += assigned_elsewhere(known[name])
    found += too_long([path for name, path in known.items() if name != "client"], MOST_LINES)
    found += too_long(sorted((root / "tests").rglob("*.py")), MOST_TEST_LINES)
    top = [path for path in known.values() if path.parent == root / PACKAGE]
    if len(top) > MOST_AT_THE_TOP:
        found.append(
            f"{len(top)} files at the top of {PACKAGE}, more than {MOST_AT_THE_TOP}: use its folders"
        )
    return found


def main(arguments: list[str]) -> int:
    """The command."""
    root = Path(__file__).parents[1]
    if "--floors" in arguments:
        for module in sorted(modules(root / PACKAGE), key=lambda each: (floor_of(each) or 0, each)):
            print(f"{floor_of(module) or 0:g}  {module or PACKAGE}")
        return 0
    found = problems(root)
    print(*found, sep="\n") if found else print("the floors hold: imports go down only")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
