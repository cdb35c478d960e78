"""The kinds of faults, with the words for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphql_prod.resilience.retry.decision import SendStatus

if TYPE_CHECKING:
    from graphql_prod.errors import Phase


@dataclass(frozen=True, slots=True)
class Fault:
    """What a foreign exception means.

    ``what`` continues "<host> …" in a sentence; ``hint`` says what to do; ``phase`` is set for timeouts.
    """

    send_status: SendStatus
    reason: str
    what: str
    hint: str
    phase: Phase | None = None
    sent: bool = True
    """Whether the server may have seen the request."""


STALE = Fault(
    SendStatus.UNSENT,
    "stale connection",
    "had closed a kept connection, or had sent an answer to nobody on it, before the request was written",
    "Keep connections for a shorter time than the server or the proxy in between does.",
)
POOL_FULL = Fault(
    SendStatus.UNSENT,
    "pool timeout",
    "got no request from us: no connection became free in time",
    "Lower the number of calls at once.",
    "pool",
)
DNS = Fault(SendStatus.UNSENT, "dns", "could not be resolved", "Check the name and the resolver.")
REFUSED = Fault(
    SendStatus.UNSENT, "connect", "could not be reached", "Check that it is up and the port is right."
)
PROXY = Fault(
    SendStatus.UNSENT, "proxy", "could not be reached through the proxy", "Check the proxy's own log."
)
CONNECT = Fault(
    SendStatus.UNSENT,
    "connect timeout",
    "did not accept a connection in time",
    "Check the network.",
    "connect",
)
READ = Fault(
    SendStatus.AMBIGUOUS,
    "read timeout",
    "did not answer in time",
    "See what it is busy with.",
    "read",
)
WRITE = Fault(
    SendStatus.AMBIGUOUS,
    "write timeout",
    "did not take the request in time",
    "See what it is busy with.",
    "write",
)
ATTEMPT = Fault(
    SendStatus.AMBIGUOUS,
    "attempt timeout",
    "did not finish an attempt in time",
    "See what it is busy with.",
    "attempt",
)
LOST = Fault(
    SendStatus.AMBIGUOUS,
    "connection lost",
    "closed the connection before the answer was whole",
    "Look for a restart or a proxy in between.",
)
NO_HTTP = Fault(
    SendStatus.FINAL,
    "invalid HTTP",
    "sent an answer that is no valid HTTP",
    "Look at what it, or the proxy before it, answers; the next answer would be the same.",
)
CERTIFICATE = Fault(
    SendStatus.FINAL,
    "certificate",
    "showed a certificate that is not trusted",
    "Check its name, its dates and the authorities you trust.",
)
TLS = Fault(
    SendStatus.FINAL,
    "tls",
    "did not agree on TLS",
    "Check that it speaks TLS on this port, and its versions and client certificates.",
)
URL = Fault(SendStatus.FINAL, "url", "cannot be asked: its URL is not usable", "Correct the endpoint.")
ENCODING = Fault(
    SendStatus.FINAL,
    "content encoding",
    "sent a body that does not decode",
    "Look for a proxy that changes the body but not its Content-Encoding.",
)
UNWRITABLE = Fault(
    SendStatus.FINAL,
    "request",
    "cannot be asked: the HTTP library refuses to write this request",
    "Look at the headers and the credentials (.netrc, auth) that the session itself adds.",
)
REDIRECTS = Fault(
    SendStatus.FINAL, "redirect", "redirects too often", "Point the endpoint at the final address."
)
BAD_REDIRECT = Fault(
    SendStatus.FINAL,
    "redirect",
    "redirects to an address that cannot be read",
    "Point the endpoint at the final address.",
)
SESSION_CLOSED = Fault(
    SendStatus.FINAL,
    "session closed",
    "was not asked: the session that was given for it is closed",
    "Close the client before its session, or give it a session that is open.",
)
OTHER = Fault(SendStatus.FINAL, "client error", "could not be asked", "The cause of this error says more.")

TOO_LARGE = Fault(
    SendStatus.FINAL,
    "response too large",
    "sent more than max_response_bytes allows",
    "Ask for less, or raise max_response_bytes.",
)

TOO_MANY_VALUES = Fault(
    SendStatus.FINAL,
    "too many values",
    "sent JSON with more values than max_response_values allows",
    "Ask for less, or raise max_response_values.",
)

# On a caller's session, before 3.14.2: 32 MiB.
TOO_LARGE_A_PIECE = Fault(
    SendStatus.FINAL,
    "response too large",
    "sent more in one piece than this version of aiohttp inflates",
    "Ask for less, or use aiohttp 3.14.2 or later.",
)
