"""What our log records say beside their texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """The facts of a record of ours; empty for one without."""
    found = record.__dict__.get("graphql_prod", {})
    assert isinstance(found, dict)
    return found
