"""The two GraphQL WebSocket protocols, as far as they differ for a server."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a protocol calls its messages; None is a message that it does not have."""

    name: str
    start: str
    event: str
    stop: str
    terminate: str | None = None
    pings: bool = True


MODERN = Dialect("graphql-transport-ws", start="subscribe", event="next", stop="complete")
LEGACY = Dialect(
    "graphql-ws",
    start="start",
    event="data",
    stop="stop",
    terminate="connection_terminate",
    pings=False,
)
DIALECTS = {dialect.name: dialect for dialect in (MODERN, LEGACY)}


class Refusal(Exception):  # noqa: N818 - a decision, not a failure
    """The close code and reason that a client's message has earned."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


def invalid(text: str) -> Refusal:
    """The message breaks the protocol."""
    return Refusal(4400, text)


UNAUTHORIZED = (4401, "Unauthorized")
INIT_TIMEOUT = (4408, "Connection initialisation timeout")
TOO_MANY_INITS = (4429, "Too many initialisation requests")
NO_PROTOCOL = (4406, "Subprotocol not acceptable")
