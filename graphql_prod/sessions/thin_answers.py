"""Answers that no HTTP library made: a test's double of a session has what the stock reads, and no more.

The stock reads a status and a body, and asks the headers for a content type if there are headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def headers_of(response: object) -> Mapping[str, str]:
    """Its headers, as far as they are headers; numbers among them as texts."""
    found: Any = getattr(response, "headers", None)
    if isinstance(found, Mapping):
        items = list(found.items())
        if all(isinstance(name, str) and isinstance(value, str) for name, value in items):
            return found
        return {
            name: str(value)
            for name, value in items
            if isinstance(name, str) and isinstance(value, str | int | float)
        }
    ask = getattr(found, "get", None)
    kind = ask("Content-Type") if callable(ask) else None
    return {"Content-Type": kind} if isinstance(kind, str) else {}


def bytes_of(body: object) -> bytes:
    """Its body for our own texts; nothing where it is none. The stock's serializer gets it as it is."""
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    return bytes(body) if isinstance(body, bytes | bytearray | memoryview) else b""


def status_of(response: object) -> Any:
    """Its status, by either library's name; what is no number is for the stock to judge."""
    found = getattr(response, "status_code", None)
    return getattr(response, "status", None) if found is None else found
