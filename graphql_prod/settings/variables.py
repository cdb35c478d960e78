"""Settings that have one name each: environment variables, and the files of a secrets directory."""

from __future__ import annotations

import difflib
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphql_prod.config import ProductionConfig
from graphql_prod.errors import ConfigurationError, Problem
from graphql_prod.runtime import logs
from graphql_prod.settings.base import Policy, a_setting_called_schema
from graphql_prod.settings.files import check_bounds, keys_given_twice, shown
from graphql_prod.settings.names import (
    DELIMITER,
    from_texts,
    is_known,
    known_names,
    may_name_a_preset,
    spelt,
    without_newline,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PREFIX = "GRAPHQL_PROD_"
SECRETS_DIR = "SECRETS_DIR"
# A secret's file that is longer is something else.
_MAX_SECRET = 1024 * 1024

logger: logging.Logger = logging.getLogger("graphql_prod")

Key = tuple[str, ...]


def checked_prefix(prefix: object) -> str | None:
    """The prefix of the environment's variables; None where no environment is read.

    :raises ConfigurationError: it is no text, or an empty one: every variable would be a setting.
    """
    if prefix is None or (isinstance(prefix, str) and prefix.strip()):
        return prefix
    raise ConfigurationError(
        'env_prefix must be a text that the names of variables begin with, as "B_", or None, which reads no '
        f"environment; not {prefix!r}"
    )


@dataclass(slots=True)
class Variables:
    """The texts that are set under a prefix.

    :ivar texts: what is set, by its name as it is written; empty texts are as good as none.
    :ivar folder: where the texts are files; None means the environment.
    """

    prefix: str
    texts: dict[str, str]
    folder: Path | None = None

    def __post_init__(self) -> None:
        # A header keeps its newline until all texts are read alike.
        self.texts = {
            name: text if self._is_header(self.path(name)) else without_newline(text)
            for name, text in self.texts.items()
            if without_newline(text)
        }

    @classmethod
    def of_environment(cls, prefix: str | None) -> Variables:
        """Those of this process; none without a prefix."""
        if prefix is None:
            return cls(PREFIX, {})
        names = [name for name in os.environ if name.upper().startswith(prefix.upper())]
        return cls(prefix, {name: os.environ[name] for name in names})

    @classmethod
    def of_folder(cls, folder: Path, prefix: str | None, problems: list[Problem]) -> Variables:
        """The files of a directory whose names begin with the prefix, one setting each.

        Names are those of the variables, in any case, with ``_`` or ``-`` in a header's name.
        """
        prefix, folder = prefix or PREFIX, folder.expanduser()
        texts: dict[str, str] = {}
        try:
            for entry in sorted(folder.iterdir()):
                if not entry.name.upper().startswith(prefix.upper()) or not entry.is_file():
                    continue
                with entry.open("rb") as file:
                    raw = file.read(_MAX_SECRET + 1)
                if len(raw) > _MAX_SECRET:
                    problems.append(Problem(entry.name, "is too long for a setting", str(entry)))
                else:
                    texts[entry.name] = raw.decode()
        except UnicodeDecodeError:
            problems.append(Problem(entry.name, "is not UTF-8", str(entry)))
        except OSError as error:
            problems.append(Problem("secrets_dir", f"cannot be read: {error.strerror}", shown(folder)))
        return cls(prefix, texts, folder)

    def secrets_dir(self) -> str | None:
        """Take out the variable that names a secrets directory, which is no setting."""
        whole = (self.prefix + SECRETS_DIR).upper()
        return next((self.texts.pop(name) for name in list(self.texts) if name.upper() == whole), None)

    def values(self, problems: list[Problem], known: dict[str, Any]) -> dict[str, Any]:
        """What they set, by pydantic-settings; unknown names are only warned of.

        :param known: settings over which these are laid: operations are spelt as they are there.
        """
        problems += self._contradictions()
        self._set_aside(problems)
        if not self.texts:
            return {}
        for name, text in self.texts.items():
            if text.lstrip().startswith("{") and not self._is_header(self.path(name)):
                problems += [
                    Problem(f"{'.'.join(self.path(name))}.{key}", "is given twice", self.shown_name(name))
                    for key in keys_given_twice(text)
                ]
        values = from_texts(self._exploded())
        if isinstance(headers := values.get("headers"), dict):
            values["headers"] = {name.replace("_", "-"): value for name, value in headers.items()}
        self._respell_operations(values, known)
        return values

    def path(self, name: str) -> list[str]:
        """The setting that a name means."""
        return name[len(self.prefix) :].lower().split(DELIMITER)

    def shown_name(self, name: str) -> str:
        """A name for texts: a file's with its directory."""
        return name if self.folder is None else str(self.folder / name)

    def sources(self) -> set[str]:
        """Where anything stands that they set, for texts."""
        return {*map(self.shown_name, self.texts), self._all}

    @property
    def _all(self) -> str:
        return "the environment" if self.folder is None else shown(self.folder)

    def origin(self, key: Key) -> str:
        """The variable or the file behind a setting."""
        spellings = {name.upper().replace("-", "_"): name for name in self.texts}
        for end in range(len(key), 0, -1):
            if (name := self._variable_of(key[:end])) in spellings:
                return self.shown_name(spellings[name])
        below = self._variable_of(key) + DELIMITER
        return next(
            (self.shown_name(known) for name, known in spellings.items() if name.startswith(below)),
            self._all,
        )

    def _variable_of(self, key: Key) -> str:
        return self.prefix.upper() + DELIMITER.join(part.upper().replace("-", "_") for part in key)

    def _exploded(self) -> dict[str, Any]:
        from pydantic import create_model
        from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

        kinds: dict[str, Any] = {
            name: (dict[str, Any] | str | None if _is_group(name) else Any, None)
            for name in ProductionConfig.model_fields
        }
        with a_setting_called_schema():
            model = create_model("Environment", __base__=BaseSettings, **kinds)
        source = EnvSettingsSource(model, case_sensitive=False, env_prefix="", env_nested_delimiter=DELIMITER)
        source.env_vars = {DELIMITER.join(self.path(name)): text for name, text in self.texts.items()}
        try:
            values = dict(source())
            check_bounds(values)
        except SettingsError as error:
            raise ConfigurationError(str(error)) from None
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(
                [Problem("the settings", f"cannot be used: {error}", self._all)]
            ) from None
        return values

    def _contradictions(self) -> Iterator[Problem]:
        """Groups that are named as a whole and in parts; only tables in JSON can have both."""
        for whole in sorted(self.texts):
            key = self.path(whole)
            below = whole.upper() + DELIMITER
            parts = [n for n in sorted(self.texts) if n.upper().startswith(below) and is_known(self.path(n))]
            if parts and (may_name_a_preset(key) or not self.texts[whole].lstrip().startswith("{")):
                what = "a preset and single limits" if key[-1] == "timeout" else "a whole and its parts"
                message = f"{what} contradict each other; unset the one or the others"
                sources = ", ".join(map(self.shown_name, parts))
                yield Problem(".".join(key), message, f"{self.shown_name(whole)} and {sources}")

    def _set_aside(self, problems: list[Problem]) -> None:
        """Refuse names that end in ``_FILE``; warn of others that are no settings.

        Kubernetes injects some for a service of our name; nobody injects the former.
        """
        for name in list(self.texts):
            path = self.path(name)
            if path[-1].endswith("_file") and (self._is_header(path) or not is_known(path)):
                problems.append(self._no_file(name, path))
            elif is_known(path):
                continue
            else:
                self._warn(name, path)
            del self.texts[name]

    def _is_header(self, path: list[str]) -> bool:
        return path[0] == "headers" and len(path) > 1

    def _no_file(self, name: str, path: list[str]) -> Problem:
        meant = name[: -len("_FILE")]
        if self.folder is not None:
            advice = f"name it {meant}: here each file holds the value of one setting"
        else:
            advice = (
                f"no value is read from a file that a variable names. Mount a directory that holds the value "
                f"in a file called {meant.lower()}, and name the directory in {self.prefix}{SECRETS_DIR} or "
                "secrets_dir="
            )
        if self._is_header(path):
            advice += "; a header that is really called so goes into a settings file or into code"
        return Problem(".".join(path), f"is no setting; {advice}", self.shown_name(name))

    def _warn(self, name: str, path: list[str]) -> None:
        names = [*known_names(), *([SECRETS_DIR] if self.folder is None else [])]
        close = difflib.get_close_matches(DELIMITER.join(path).upper(), names, n=1, cutoff=0.8)
        logger.warning(
            "the %s %s is no setting of graphql_prod and is ignored%s",
            "environment variable" if self.folder is None else "secret's file",
            self.shown_name(name),
            f"; did you mean {self.prefix}{close[0]}?" if close else "",
            extra=logs.facts(variable=name),
        )

    def _respell_operations(self, values: dict[str, Any], known: dict[str, Any]) -> None:
        """Give operations their case back: as a file has it, else as in the variable's name."""
        operations, others = values.get("operations"), known.get("operations")
        if not isinstance(operations, dict):
            return
        whole = f"{self.prefix}OPERATIONS{DELIMITER}"
        written = {
            name[len(whole) :].split(DELIMITER)[0]: name
            for name in self.texts
            if name.upper().startswith(whole.upper())
        }
        names = {**written, **(others if isinstance(others, dict) else {})}
        values["operations"] = {
            spelt(dict(reversed(names.items())), name): below for name, below in operations.items()
        }


def _is_group(name: str) -> bool:
    return name in ("headers", "operations") or isinstance(
        ProductionConfig.model_fields[name].get_default(call_default_factory=True), Policy
    )
