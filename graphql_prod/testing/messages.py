"""What goes over a socket."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .documents import described


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message that a client sent over a socket."""

    connection: int
    message: dict[str, Any]
    """Parsed; {"binary": length} or {"text": …} for what is no JSON object."""
    at: float = field(repr=False)
    """`time.monotonic()` of its arrival."""

    @property
    def subscribes(self) -> bool:
        """Whether it asks for the events of a subscription."""
        return self.message.get("type") in ("subscribe", "start")

    def __str__(self) -> str:
        payload = self.message.get("payload")
        what: Any = self.message
        if self.subscribes and isinstance(payload, dict):
            what = described(payload.get("query"), payload.get("operationName"), payload.get("variables"))
        return f"connection {self.connection}: {what}"


@dataclass(frozen=True, slots=True)
class SentEvent:
    """An event of a subscription that was handed to a socket."""

    connection: int
    subscription: str
    value: Any
    """The value of its first field; None when the event has no data."""
