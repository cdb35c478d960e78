"""Certificates of our own sessions."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import model_validator

from graphql_prod.errors import ConfigurationError, Problem
from graphql_prod.settings.base import Policy

if TYPE_CHECKING:
    from collections.abc import Callable


class TlsPolicy(Policy):
    """Certificates of our own sessions, as PEM files; they are read when the settings are made.

    :param ca_file: the authorities to trust, instead of the system's. None trusts the system's.
    :param cert_file: a client certificate, with its chain.
    :param key_file: its private key, unencrypted; None looks for it in ``cert_file``.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            ca_file: str | Path | None = None,
            cert_file: str | Path | None = None,
            key_file: str | Path | None = None,
        ) -> None: ...

    @model_validator(mode="after")
    def _loads(self) -> TlsPolicy:
        self.context()
        return self

    def context(self) -> ssl.SSLContext | None:
        """What these settings come to; None where they leave everything to the library.

        :raises ConfigurationError: a file is missing, or is no certificate.
        """
        if self.key_file is not None and self.cert_file is None:
            raise ConfigurationError([Problem("key_file", "needs cert_file beside it")])
        if self.ca_file is None and self.cert_file is None:
            return None
        context = ssl.create_default_context()
        if self.ca_file is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            trust = context.load_verify_locations
            _load("ca_file", [self.ca_file], "certificates", lambda: trust(self.ca_file))
        if self.cert_file is not None:
            files = [file for file in (self.cert_file, self.key_file) if file is not None]
            _load(
                "cert_file" if self.key_file is None else "cert_file, key_file",
                files,
                "a certificate and its unencrypted key",
                # The password keeps an encrypted key from asking for one at the terminal.
                lambda: context.load_cert_chain(str(self.cert_file), self.key_file, password=""),
            )
        return context


def _named(file: Path) -> str:
    """A file's name for texts, unless it is no name but a key or a certificate, which is never shown."""
    text = str(file)
    encoded = (
        text.startswith(("LS0t", "MI")) and len(text) > 60
    )  # "-----" and what DER begins with, in base64
    if encoded or len(text) > 200 or any(mark in text for mark in ("-----", "\n", "\r")):
        return f"(a text of {len(text)} characters: a name is wanted, not what the file holds)"
    return text


def _load(key: str, files: list[Path], wanted: str, load: Callable[[], None]) -> None:
    try:
        load()
    except (OSError, ValueError) as error:
        reason = "is no PEM file of" if isinstance(error, ssl.SSLError | ValueError) else "cannot be read as"
        detail = "" if isinstance(error, ssl.SSLError) else f" ({getattr(error, 'strerror', None) or error})"
        raise ConfigurationError(
            [Problem(key, f"{' and '.join(map(_named, files))} {reason} {wanted}{detail}")]
        ) from None
