"""The public surface changes only on purpose."""

from __future__ import annotations

import json
from pathlib import Path

from surface import surface

KNOWN = Path(__file__).parent / "data" / "public_surface.json"


def test_the_surface_is_the_one_that_is_written_down() -> None:
    """Names, signatures, settings and fields that users rely on stay as they are."""
    known, now = json.loads(KNOWN.read_text(encoding="utf-8")), json.loads(json.dumps(surface()))
    changed = sorted(name for name in known.keys() | now.keys() if known.get(name) != now.get(name))
    details = [f"{name}: {_difference(known.get(name), now.get(name))}" for name in changed]
    assert not changed, (
        "\n".join(details) + "\nIf it is meant: python tests/surface.py > tests/data/public_surface.json"
    )


def _difference(before: object, after: object) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        return "; ".join(f"{key} was {before.get(key)}, is {after.get(key)}" for key in keys)
    return f"was {before}, is {after}"
