"""Tools for the tests of programs that talk GraphQL: a scripted server and a faulty proxy."""

from .answers import Answer
from .connection import Connection
from .exchange import ReceivedRequest
from .limits import ConcurrencyLimit, FixedWindow, PointsBucket, SecondaryLimit
from .messages import ReceivedMessage, SentEvent
from .proxy import FaultyProxy
from .rate_limited import RateLimitedServer
from .server import ScriptedServer
from .waiting import no_waiting

__all__ = [
    "Answer",
    "ConcurrencyLimit",
    "Connection",
    "FaultyProxy",
    "FixedWindow",
    "PointsBucket",
    "RateLimitedServer",
    "ReceivedMessage",
    "ReceivedRequest",
    "ScriptedServer",
    "SecondaryLimit",
    "SentEvent",
    "no_waiting",
]
