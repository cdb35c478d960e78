"""Headers from mounted secrets, which are exchanged under a program that runs."""

from __future__ import annotations

import logging
import os
import re
import stat
import string
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

from graphql_prod import clock
from graphql_prod.errors import ConfigurationError
from graphql_prod.runtime import logs

logger: logging.Logger = logging.getLogger("graphql_prod")

Path = str | os.PathLike[str]

# Seconds between two looks at the files.
LOOK_INTERVAL = 1.0
# A file that was changed a moment ago may change again without a trace: some file systems keep coarse times.
SETTLED = 2.0
# No header is longer; a file that is may be anything.
LONGEST = 65536
# A longer name, without a folder, of a file that is not there is perhaps no name.
_LONGEST_NAME = 15

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class FileHeadersProvider(Protocol):
    """A sync ``headers_provider``."""

    def __call__(self, *, refresh: bool = False) -> Mapping[str, str]: ...


class _UnusableError(Exception):
    """Why a file cannot be used; never with what is in it."""


class _File:
    """A header's file, and the value that it had when it was last read."""

    __slots__ = ("_format", "_name", "_path", "_settled", "_stamp", "_warned", "value")

    def __init__(self, name: str, path: Path, format_: str) -> None:
        self._name = name
        self._path = path
        self._format = format_
        self._stamp: object = None
        self._settled = False
        self._warned = False
        self.value = ""

    def look(self, *, again: bool) -> None:
        """Read the file if it has changed.

        :param again: True reads it in any case.
        :raises _UnusableError: it cannot be used. The value stays.
        """
        try:
            found = os.stat(self._path)  # follows links: Kubernetes exchanges the one to the folder
            if not stat.S_ISREG(found.st_mode):
                raise _UnusableError("it is no regular file")
            stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            if stamp == self._stamp and self._settled and not again:
                return
            with open(self._path, "rb") as file:
                content = file.read(LONGEST + 1)
        except (OSError, ValueError) as error:
            raise _UnusableError(f"it cannot be read ({type(error).__name__})") from None
        self.value = self._format.format(_text_of(content))
        # As it was before reading: what is written meanwhile makes another one.
        self._stamp, self._settled = stamp, time.time() - found.st_mtime > SETTLED

    def look_again(self, *, again: bool) -> None:
        """The same; where the file cannot be used the last value stays, and one warning says so."""
        try:
            self.look(again=again)
        except _UnusableError as error:
            if not self._warned:
                self._warned = True
                logger.warning(
                    "the file %s of the header %s cannot be used: %s. The last value that it had is sent",
                    os.fspath(self._path),
                    self._name,
                    error,
                    extra=logs.facts(header=self._name, file=os.fspath(self._path)),
                )
            return
        if self._warned:
            self._warned = False
            logger.info("the file %s of the header %s can be used again", os.fspath(self._path), self._name)

    def __repr__(self) -> str:
        return f"{self._name}={os.fspath(self._path)}"


class _FileHeaders:
    __slots__ = ("_files", "_given", "_look_at")

    def __init__(self, files: dict[str, _File]) -> None:
        self._files = files
        self._look_at = clock.monotonic() + LOOK_INTERVAL
        self._given = self._now()

    def __call__(self, *, refresh: bool = False) -> Mapping[str, str]:
        now = clock.monotonic()
        if refresh or now >= self._look_at:
            self._look_at = now + LOOK_INTERVAL
            for file in self._files.values():
                file.look_again(again=refresh)
            self._given = self._now()
        return self._given

    def _now(self) -> Mapping[str, str]:
        return MappingProxyType({name: file.value for name, file in self._files.items()})

    def __repr__(self) -> str:
        return f"<headers_from_files {', '.join(map(repr, self._files.values()))}>"


def headers_from_files(
    files: Mapping[str, Path],
    *,
    format: str | Mapping[str, str] = "{}",  # noqa: A002 -- as in str.format
) -> FileHeadersProvider:
    """A ``headers_provider`` that reads mounted secrets and follows their rotation.

    Each file holds one value; one newline at its end is dropped. The files are read now, and again when they
    have changed: they are looked at once a second at most, not at every attempt, and at once when the server
    has refused what they held. Links are followed, as Kubernetes exchanges them.

    A file that cannot be used later (missing, unreadable, empty, or with characters that no header can carry)
    keeps its last value, and one warning names the header and the file. The provider is a sync one: a look
    takes some microseconds on a local file system.

    :param files: the path of each header's file, by the header's name.
    :param format: what makes a header of a value, with ``{}`` in the value's place: ``"Bearer {}"``. For all
        headers, or by the header's name; headers that are not named get the value as it is.
    :raises ConfigurationError: a file cannot be used, naming the header and the file; or names, paths or
        formats are not what they should be.
    """
    given: Any = files
    if not isinstance(given, Mapping) or not given:
        raise ConfigurationError("headers_from_files needs a mapping of header names to paths of files")
    for name in given:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigurationError(f"headers_from_files: {name!r} is no name of a header")
    formats = _formats(given, format)
    made: dict[str, _File] = {}
    for name, path in given.items():
        if name.lower() in (known.lower() for known in made):
            raise ConfigurationError(f"headers_from_files: the header {name} is given twice")
        if not isinstance(path, str | os.PathLike):
            raise ConfigurationError(
                f"headers_from_files: the file of the header {name} must be a path, not {type(path).__name__}"
            )
        made[name] = file = _File(name, path, formats[name])
        try:
            file.look(again=True)
        except _UnusableError as error:
            raise ConfigurationError(
                f"headers_from_files: the file {_shown(path)} of the header {name} cannot be used: {error}"
            ) from None
    return _FileHeaders(made)


def _shown(path: Path) -> str:
    """A file's name for texts. What may be the secret itself, given in its place, is not shown."""
    text = os.fspath(path)
    if any(char.isspace() for char in text) or (os.sep not in text and len(text) > _LONGEST_NAME):
        return f"(a text of {len(text)} characters, which is no file's name)"
    return text


def _formats(files: Mapping[Any, Any], given: object) -> dict[str, str]:
    by_name = given if isinstance(given, Mapping) else dict.fromkeys(files, given)
    known = {name.lower(): name for name in files if isinstance(name, str)}
    formats = dict.fromkeys(files, "{}")
    for name, text in by_name.items():
        own = known.get(name.lower()) if isinstance(name, str) else None
        if own is None:
            raise ConfigurationError(f"headers_from_files: format names {name!r}, which has no file")
        if not isinstance(text, str) or not _has_one_place(text):
            raise ConfigurationError(
                f"headers_from_files: the format of the header {own} must be a text with one {{}}, "
                "such as 'Bearer {}'"
            )
        if not _can_be_carried(text):
            raise ConfigurationError(
                f"headers_from_files: the format of the header {own} has characters that no header can carry"
            )
        formats[own] = text
    return formats


def _has_one_place(text: str) -> bool:
    try:
        places = [part[1:] for part in string.Formatter().parse(text) if part[1] is not None]
    except ValueError:
        return False
    return places == [("", "", None)]


def _text_of(content: bytes) -> str:
    if len(content) > LONGEST:
        raise _UnusableError(f"it is longer than {LONGEST} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _UnusableError("it is no text") from None
    text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
    if not text.strip():
        raise _UnusableError("it is empty")
    if not _can_be_carried(text):
        raise _UnusableError("it holds characters that no header can carry, such as a newline")
    return text


def _can_be_carried(text: str) -> bool:
    return all(char == "\t" or " " <= char <= "~" or "\xa0" <= char <= "\xff" for char in text)
