"""What a scripted server sends instead of, or around, the real result."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypedDict, Unpack

RESPONSE_JSON = "application/graphql-response+json"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Whole:
    """The answer as HTTP means it."""


@dataclass(frozen=True, slots=True)
class Drip:
    """The body in pieces of `chunk` bytes with `pause` seconds between them."""

    chunk: int
    pause: float

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"chunk must be at least 1 byte, not {self.chunk}")


@dataclass(frozen=True, slots=True)
class Truncated:
    """The whole length announced, `keep` bytes of the body sent, then a clean close."""

    keep: int


@dataclass(frozen=True, slots=True)
class Reset:
    """A TCP reset before the first byte, after the headers, or in the middle of the body."""

    when: Literal["before", "headers", "body"]


@dataclass(frozen=True, slots=True)
class Disconnect:
    """A clean close (FIN) without one byte of an answer."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Nothing, until the client leaves or the server stops."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes that are no HTTP, then a close."""


Delivery = Whole | Drip | Truncated | Reset | Disconnect | Hang | Garbage


class Around(TypedDict, total=False):
    """What every constructor of `Answer` takes besides its own arguments."""

    headers: Mapping[str, str]
    delay: float
    execute: bool
    gate: asyncio.Event | None
    breaks_schema: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One scripted answer. The order is: execute, await the gate, wait the delay, deliver.

    `Answer()` is the real thing, so `Answer(delay=0.5)` is a slow server and
    `Answer(status=503)` a real result under a wrong status. Every constructor below also takes
    `headers`, `delay`, `execute`, `gate` and `breaks_schema`.
    """

    status: int | None = None
    """The HTTP status. None: what the real execution earned, or 200 for a body given here."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers to add. `Connection: close` really closes the connection afterwards."""
    body: bytes | str | Mapping[str, Any] | None = None
    """What to send. None: the operation is executed and its real result is sent."""
    media_type: str | None = None
    """The Content-Type. None: the negotiated one for a real result, else one that fits the body
    (a mapping is application/json, text is text/plain, bytes are application/octet-stream)."""
    delay: float = 0.0
    """Seconds to wait before the answer is sent, after the execution."""
    execute: bool = False
    """Whether the operation is executed, and counted, although `body` or a fault is sent."""
    gate: asyncio.Event | None = None
    """Awaited before the answer is sent, so that a test decides when. None: no gate."""
    extensions: Mapping[str, Any] = field(default_factory=dict)
    """What to add to the `extensions` of the real result."""
    delivery: Delivery = field(default_factory=Whole)
    """How the bytes travel, or do not."""
    breaks_schema: bool = False
    """Whether the data of `body` may be what no server of that schema sends. False: where the
    server was given a `schema`, such an answer is an error of the test."""

    @property
    def executes(self) -> bool:
        """Whether the operation really runs."""
        wants_result = isinstance(self.delivery, Whole | Drip | Truncated) and self.body is None
        return self.execute or wants_result

    @property
    def data(self) -> Mapping[str, Any] | None:
        """The data of a GraphQL response that is given here; None when there are none."""
        found = self.body.get("data") if isinstance(self.body, Mapping) else None
        return found if isinstance(found, Mapping) else None

    @property
    def cuts(self) -> bool:
        """Whether the server itself breaks the connection."""
        return isinstance(self.delivery, Truncated | Reset | Disconnect | Garbage)

    @classmethod
    def graphql(
        cls,
        status: int = 200,
        *,
        data: Mapping[str, Any] | None = None,
        errors: Sequence[Mapping[str, Any] | str] = (),
        media_type: str = RESPONSE_JSON,
        **around: Unpack[Around],
    ) -> Self:
        """A well-formed GraphQL response; an error given as text becomes its message.

        With errors and no data the response has no `data` entry: the request was refused.
        """
        body: dict[str, Any] = {}
        if errors:
            body["errors"] = [{"message": e} if isinstance(e, str) else dict(e) for e in errors]
        if data is not None or not errors:
            body["data"] = data
        return cls(status=status, body=body, media_type=media_type, **around)

    @classmethod
    def page(cls, status: int = 502, html: str | None = None, **around: Unpack[Around]) -> Self:
        """A proxy's HTML page. `html` None: a plain page that names the status."""
        text = f"<html><body><h1>{status}</h1></body></html>" if html is None else html
        return cls(status=status, body=text, media_type="text/html", **around)

    @classmethod
    def login_page(cls, **around: Unpack[Around]) -> Self:
        """What a portal sends in the place of the answer: HTML under a 200."""
        return cls.page(200, '<html><form action="/login"></form></html>', **around)

    @classmethod
    def redirect(cls, location: str, status: int = 302, **around: Unpack[Around]) -> Self:
        """A redirect to `location`, absolute or relative."""
        around["headers"] = {**around.get("headers", {}), "Location": location}
        return cls(status=status, body=b"", **around)

    @classmethod
    def reset(
        cls,
        when: Literal["before", "headers", "body"] = "before",
        *,
        body: bytes | str | Mapping[str, Any] | None = None,
        **around: Unpack[Around],
    ) -> Self:
        """A TCP reset. `body` None: the real result if executed, else a stand-in of 1 KiB."""
        return cls(delivery=Reset(when), body=body, **around)

    @classmethod
    def disconnect(cls, **around: Unpack[Around]) -> Self:
        """A clean close without an answer."""
        return cls(delivery=Disconnect(), **around)

    @classmethod
    def truncated(
        cls,
        keep: int = 10,
        *,
        body: bytes | str | Mapping[str, Any] | None = None,
        **around: Unpack[Around],
    ) -> Self:
        """A body cut short after `keep` bytes. `body` None: that of the real result."""
        return cls(delivery=Truncated(keep), body=body, **around)

    @classmethod
    def drip(
        cls,
        chunk: int = 1,
        pause: float = 0.01,
        *,
        body: bytes | str | Mapping[str, Any] | None = None,
        **around: Unpack[Around],
    ) -> Self:
        """A body in pieces of `chunk` bytes, `pause` seconds apart. `body` None: the real one.

        Raises ValueError for a chunk below one byte.
        """
        return cls(delivery=Drip(chunk, pause), body=body, **around)

    @classmethod
    def hang(cls, **around: Unpack[Around]) -> Self:
        """No answer until the client leaves or the server stops."""
        return cls(delivery=Hang(), **around)

    @classmethod
    def garbage(cls, **around: Unpack[Around]) -> Self:
        """Bytes that are no HTTP."""
        return cls(delivery=Garbage(), **around)
