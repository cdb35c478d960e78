"""What the tests of schema policies share."""

from __future__ import annotations

from typing import Any

from graphql_prod import (
    ProductionConfig,
    SchemaPolicy,
)
from graphql_prod.testing import Answer

URL = "http://api.example.com/graphql"
OFF = Answer.graphql(400, errors=["introspection is off"])


def config_of(**policy: Any) -> ProductionConfig:
    return ProductionConfig(schema=SchemaPolicy(**policy))
