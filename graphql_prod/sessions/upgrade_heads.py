"""How an upgrade was refused, in a form that the websockets library reads. No I/O.

It reads HTTP/1.1 only, wants a reason phrase and the whole body, and knows no interim answers. Where an
answer is none of that, its status is lost, and with it whether credentials are renewed.
"""

from __future__ import annotations

import re

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r?\n")
_END = re.compile(rb"\r?\n\r?\n")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n\x00]{0,8000}?)[ \t]*\r?$", re.MULTILINE)
# About a body that is not read.
_ABOUT_THE_BODY = (b"content-length", b"transfer-encoding")
_MOST_HEADERS = 100
# More is no head of an answer.
_LONGEST = 64 * 1024


class AnswerHead:
    """Takes the bytes of an answer as they come, until its head is whole.

    :ivar through: True once the rest goes to the library as it is.
    """

    __slots__ = ("_held", "_refused", "through")

    def __init__(self) -> None:
        self._held = b""
        self._refused = False
        self.through: bool = False

    def feed(self, data: bytes) -> bytes:
        """What the library gets now: nothing yet, the bytes themselves, or a refusal that it can read."""
        if self._refused:
            return b""  # the body
        self._held += data
        while (whole := self._parted()) is not None:
            status, head, rest = whole
            if status == 101:
                break
            if status < 200:  # an interim answer: the next one counts
                self._held = rest
                continue
            self._held, self._refused = b"", True
            return _refusal(status, head)
        else:
            if not self._is_no_head():
                return b""
        self.through = True
        held, self._held = self._held, b""
        return held

    def end(self) -> bytes:
        """What the library gets at the end of the connection: whatever came of the head."""
        self.through = True
        held, self._held = self._held, b""
        return held

    def _parted(self) -> tuple[int, bytes, bytes] | None:
        status, end = _STATUS.match(self._held), _END.search(self._held)
        if status is None or end is None:
            return None
        return int(status[1]), self._held[status.end() : end.start()], self._held[end.end() :]

    def _is_no_head(self) -> bool:
        first = self._held.partition(b"\n")
        return len(self._held) > _LONGEST or (bool(first[1]) and not _STATUS.match(self._held))


def _refusal(status: int, head: bytes) -> bytes:
    headers = [
        name + b": " + value for name, value in _HEADER.findall(head) if name.lower() not in _ABOUT_THE_BODY
    ]
    lines = [b"HTTP/1.1 %d refused" % status, *headers[:_MOST_HEADERS], b"Content-Length: 0", b"", b""]
    return b"\r\n".join(lines)
