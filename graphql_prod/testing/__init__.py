"""Tools for the tests of programs that talk GraphQL: a scripted server and a faulty proxy."""

from .answers import Answer
from .connection import Connection, ReceivedMessage, SentEvent
from .exchange import ReceivedRequest
from .proxy import FaultyProxy
from .server import ScriptedServer
from .waiting import no_waiting

__all__ = [
    "Answer",
    "Connection",
    "FaultyProxy",
    "ReceivedMessage",
    "ReceivedRequest",
    "ScriptedServer",
    "SentEvent",
    "no_waiting",
]
