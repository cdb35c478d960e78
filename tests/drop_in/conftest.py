"""Fixtures of these tests."""

from __future__ import annotations

from typing import cast

import pytest
from aiographql.client import (
    GraphQLClient,
)
from dropping_in import VARIANTS, Variant

from graphql_prod import (
    ProductionClient,
)


@pytest.fixture(params=VARIANTS, ids=str)
def variant(request: pytest.FixtureRequest) -> Variant:
    """Each way to make a client, the stock ones among them."""
    return cast("Variant", request.param)


@pytest.fixture(params=[GraphQLClient, ProductionClient])
def kind(request: pytest.FixtureRequest) -> type[GraphQLClient]:
    """The stock class, and ours in its place."""
    return cast("type[GraphQLClient]", request.param)
