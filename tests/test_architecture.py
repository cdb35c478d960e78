"""The house has floors, and its map is true."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
architecture: Any = importlib.import_module("architecture")

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def graph_of(folder: Path, **files: str) -> dict[str, set[str]]:
    """The imports of a small package."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    graph: dict[str, set[str]] = architecture.imports(architecture.modules(folder))
    return graph


def test_the_tree_keeps_to_the_rules() -> None:
    """Imports go down only; no circle, no file that is too long, nothing assigned to another part."""
    assert architecture.problems(ROOT) == []


@pytest.mark.parametrize(
    "line",
    [
        "from graphql_prod.calls.call import Call",
        "from graphql_prod.calls import call",
        "import graphql_prod.calls.call",
        "if TYPE_CHECKING:\n    from graphql_prod.calls.call import Call",
        "def f():\n    from graphql_prod.calls.call import Call",
        "from ..calls.call import Call",
    ],
)
def test_looking_up_is_found(tmp_path: Path, line: str) -> None:
    """However it is written; the message says what to do."""
    graph = graph_of(tmp_path, calls__call="", sessions__pool=line)
    [problem] = architecture.looking_up(graph)
    assert problem.startswith("sessions.pool (floor 3) imports calls.call (floor 4): move what it needs down")


def test_another_room_on_the_same_floor_is_found(tmp_path: Path) -> None:
    """Two folders on one floor do not know each other; files of one folder may."""
    graph = graph_of(
        tmp_path,
        schema__store="from graphql_prod.schema import worker\nfrom graphql_prod.subscriptions import stream",
        schema__worker="",
        subscriptions__stream="",
    )
    [problem] = architecture.looking_up(graph)
    assert "schema.store (floor 5) imports subscriptions.stream (floor 5)" in problem


def test_a_module_without_a_floor_is_found(tmp_path: Path) -> None:
    """Who makes a new folder says where it stands."""
    assert "novel.thing has no floor" in "\n".join(
        architecture.looking_up(graph_of(tmp_path, novel__thing=""))
    )


def test_a_circle_is_found(tmp_path: Path) -> None:
    """Around a corner, and within one folder too."""
    graph = graph_of(
        tmp_path,
        calls__a="from graphql_prod.calls.b import B",
        calls__b="from graphql_prod.calls.c import C",
        calls__c="from graphql_prod.calls.a import A",
    )
    [problem] = architecture.circles(graph)
    assert problem.startswith("calls.a -> calls.b -> calls.c -> calls.a: a circle")


def test_an_assignment_to_another_part_is_found(tmp_path: Path) -> None:
    """A part is complete when it is made; a view is made by changing it."""
    path = tmp_path / "client.py"
    path.write_text("self.x = 1\nview.x = 1\nother.part.x = 1\n", encoding="utf-8")
    [problem] = architecture.assigned_elsewhere(path)
    assert problem.startswith("client.py:3 sets one of other.part")


def test_a_file_that_is_too_long_is_found(tmp_path: Path) -> None:
    """With its length."""
    path = tmp_path / "long.py"
    path.write_text("\n" * 401, encoding="utf-8")
    assert "has 401 lines, more than 400" in architecture.too_long([path], 400)[0]


def test_every_path_on_the_page_exists() -> None:
    """A map that names what is not there misleads."""
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:/|\.py))`", PAGE)) - {"policy.py"}
    missing = [
        each for each in named if not (ROOT / "graphql_prod" / each).exists() and not (ROOT / each).exists()
    ]
    assert len(named) > 50
    assert missing == []


def test_every_folder_and_every_file_at_the_top_is_on_the_page() -> None:
    """A newcomer finds each of them."""
    package = ROOT / "graphql_prod"
    there = {f"{path.name}/" for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    there |= {
        path.name
        for path in package.glob("*.py")
        if path.name not in ("__init__.py", "__main__.py", "_version.py")
    }
    assert [each for each in sorted(there) if f"`{each}`" not in PAGE] == []


def test_the_floors_on_the_page_are_those_of_the_check() -> None:
    """A folder stands where the page says."""
    rows = re.findall(r"^\| (\d) [a-z ]+ \| .* \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 9
    for floor, places in rows:
        for place in re.findall(r"`([a-z_]+)(?:\.py|/)`", places):
            if place == "settings":
                continue  # its parts stand on the steps of floor 1
            stands = architecture.floor_of(place)
            assert stands is not None
            assert round(stands) == int(floor), place
