"""Writes the pages that are made from the settings' model: docs/settings.md and examples/client.toml.

python docs/generate.py           # write them (make docs)
python docs/generate.py --check   # exit status 1 if they are not what would be written
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

from graphql_prod import ProductionConfig
from graphql_prod.settings.base import Policy
from graphql_prod.settings.names import DELIMITER
from graphql_prod.settings.variables import PREFIX

ROOT = Path(__file__).parent.parent

INTRO = """\
# Settings

Made from the model by `make docs`; do not edit. Each setting can stand in a file, in the environment or in
code: code wins over the environment, the environment over a file. Times are in seconds; in a file or in the
environment the word `none` stands for no limit. A set is a list, in the environment with commas.
`GRAPHQL_PROD_TIMEOUT` may name a preset. Header values are secrets and are never shown; in a variable's name
`_` stands for the `-` of a header. An empty variable is as good as none; one newline at the end of a value
from a file or a variable is dropped.

**Several upstreams in one process** have variables of their own: `from_config("b.toml", env_prefix="B_")`
reads `B_ENDPOINT` and so on, `env_prefix=None` reads no environment. Where code names another endpoint than
the environment does, and headers, `tls` or `proxy` would come from the environment, that is a
`ConfigurationError`; where the environment replaces the endpoint of a file, a warning says so.

**Mounted secrets**: `secrets_dir="/run/secrets"`, or `GRAPHQL_PROD_SECRETS_DIR`, names a directory with one
setting a file, called as its variable is: `graphql_prod_headers__authorization`. They rank below the
environment and above a file. A variable whose name ends in `_FILE` is refused, unless a setting has that
name: nothing would read the file.

**An operation's own** `timeout` and `retry` change what they name; the rest stays the client's.
"""

TOML_INTRO = """\
# All settings of a graphql_prod client, with their defaults. Made by `make docs`.
# Use: ProductionClient.from_config("client.toml"). The environment (GRAPHQL_PROD_…) wins over this file.
"""

# What the defaults cannot show.
EXAMPLES = {
    "endpoint": '"https://api.example.com/graphql"',
    "headers": '{ X-Client = "billing" }',
    "operations": '{ Report = { timeout = "batch" } }',
}


def descriptions(model: type[Policy]) -> dict[str, str]:
    """What a model's docstring says of each of its settings."""
    text = inspect.cleandoc(model.__doc__ or "")
    found = re.findall(r":param (\w+): (.*?)(?=\n:param |\Z)", text, re.DOTALL)
    return {name: " ".join(said.split()).replace("``", "`") for name, said in found}


def summary(model: type[Policy]) -> str:
    """The part of a model's docstring that comes before its settings."""
    text = inspect.cleandoc(model.__doc__ or "").partition(":param")[0]
    return re.sub(r":class:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text.replace("``", "`")).strip()


def groups(model: type[Policy], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], type[Policy]]]:
    """A model and the groups within it, in the order of a page."""
    found = [(path, model)]
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, Policy):
            found += groups(type(default), (*path, name))
    return found


def leaves(model: type[Policy]) -> dict[str, Any]:
    """The settings of a model that are no groups, with their defaults."""
    fields = {
        name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()
    }
    return {name: default for name, default in fields.items() if not isinstance(default, Policy)}


def variable(path: tuple[str, ...]) -> str:
    """The environment variable of a setting."""
    return PREFIX + DELIMITER.join(part.upper() for part in path)


def shown(value: object) -> str:
    """A default, as a page shows it."""
    if isinstance(value, frozenset | tuple):
        return ", ".join(ranges(value) if isinstance(value, frozenset) else value) or "empty"
    if value in ({}, None):
        return "none" if value is None else "empty"
    return str(value).lower() if isinstance(value, bool) else str(value)


def ranges(values: frozenset[Any]) -> list[str]:
    """Members in order, runs of numbers drawn together."""
    parts: list[list[Any]] = []
    for value in sorted(values):
        if parts and isinstance(value, int) and parts[-1][-1] + 1 == value:
            parts[-1].append(value)
        else:
            parts.append([value])
    return [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in parts]


def page() -> str:
    """docs/settings.md."""
    parts = [INTRO]
    for path, model in groups(ProductionConfig):
        said = descriptions(model)
        parts.append(f"\n## {'.'.join(path) or 'The client'}\n\n{summary(model)}\n")
        parts.append("| setting | default | environment | meaning |\n| --- | --- | --- | --- |")
        parts += [
            f"| `{name}` | {shown(default)} | `{variable((*path, name))}` | {plain(said[name])} |"
            for name, default in leaves(model).items()
        ]
    return "\n".join(parts) + "\n"


def plain(text: str) -> str:
    """A docstring's sentence, in Markdown."""
    return re.sub(r":class:`(\w+)`", r"`\1`", text).replace("|", "\\|")


def toml() -> str:
    """examples/client.toml."""
    parts = [TOML_INTRO]
    for path, model in groups(ProductionConfig):
        said = descriptions(model)
        if path:
            parts.append(f"\n[{'.'.join(path)}]")
        for name, default in leaves(model).items():
            comment = textwrap.fill(plain(said[name]), 100, initial_indent="# ", subsequent_indent="# ")
            parts.append(f"{comment}\n{line(name, default, path)}")
    return "\n".join(parts) + "\n"


def line(name: str, default: object, path: tuple[str, ...]) -> str:
    """One setting with its default, commented out: a setting that is named counts for more."""
    if not path and name in EXAMPLES:
        return f"{'' if name == 'endpoint' else '# '}{name} = {EXAMPLES[name]}"
    return f"# {name} = {written(default)}"


def written(value: object) -> str:
    """A value in TOML."""
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, frozenset | tuple):
        members = sorted(value) if isinstance(value, frozenset) else value
        return f"[{', '.join(written(member) for member in members)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def main() -> int:
    """Write the pages, or look whether they are current."""
    pages = {ROOT / "docs" / "settings.md": page(), ROOT / "examples" / "client.toml": toml()}
    if "--check" in sys.argv[1:]:
        old = [path for path, text in pages.items() if path.read_text(encoding="utf-8") != text]
        print("\n".join(f"{path} is not current: make docs" for path in old) or "current")
        return 1 if old else 0
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
