"""A drop-in ``aiographql.client.GraphQLClient`` for production. See README.md."""

from graphql_prod._version import __version__
from graphql_prod.admission.policy import AdmissionPolicy
from graphql_prod.calls.response import GraphQLResponse
from graphql_prod.client import ProductionClient
from graphql_prod.config import ProductionConfig
from graphql_prod.errors import (
    AdmissionRejectedError,
    CallError,
    ClientClosedError,
    ConfigurationError,
    HTTPStatusError,
    InvalidResponseError,
    NoSchemaError,
    Problem,
    RequestTimeoutError,
    SubscriptionClosedError,
    SubscriptionLimitError,
    ThrottledError,
    TransportError,
)
from graphql_prod.header_files import headers_from_files
from graphql_prod.health.policy import HealthPolicy
from graphql_prod.health.probe import Readiness
from graphql_prod.resilience.retry.policy import RetryBudget, RetryPolicy
from graphql_prod.resilience.timeouts import BATCH, INTERACTIVE, PROBE, STANDARD, TimeoutPolicy
from graphql_prod.schema.policy import DEVELOPMENT, PRODUCTION, PRODUCTION_CLOSED, SchemaPolicy
from graphql_prod.sessions.policy import PoolPolicy
from graphql_prod.shutdown.coordinator import ShutdownCoordinator
from graphql_prod.shutdown.policy import ShutdownPolicy
from graphql_prod.shutdown.report import ShutdownReport
from graphql_prod.subscriptions.events import SubscriptionErrorEvent, SubscriptionGap
from graphql_prod.subscriptions.policy import SubscriptionPolicy
from graphql_prod.subscriptions.states import SubscriptionState
from graphql_prod.subscriptions.subscription import ProductionSubscription
from graphql_prod.telemetry.hooks import ClientHooks, HookRecord
from graphql_prod.telemetry.policy import TelemetryPolicy
from graphql_prod.telemetry.stats import AdmissionStats, ClientStats, PoolStats, ThrottleStats
from graphql_prod.throttling.policy import ThrottlingPolicy
from graphql_prod.throttling.quotas import Quota
from graphql_prod.throttling.recognition import Throttle

__all__ = [
    "BATCH",
    "DEVELOPMENT",
    "INTERACTIVE",
    "PROBE",
    "PRODUCTION",
    "PRODUCTION_CLOSED",
    "STANDARD",
    "AdmissionPolicy",
    "AdmissionRejectedError",
    "AdmissionStats",
    "CallError",
    "ClientClosedError",
    "ClientHooks",
    "ClientStats",
    "ConfigurationError",
    "GraphQLResponse",
    "HTTPStatusError",
    "HealthPolicy",
    "HookRecord",
    "InvalidResponseError",
    "NoSchemaError",
    "PoolPolicy",
    "PoolStats",
    "Problem",
    "ProductionClient",
    "ProductionConfig",
    "ProductionSubscription",
    "Quota",
    "Readiness",
    "RequestTimeoutError",
    "RetryBudget",
    "RetryPolicy",
    "SchemaPolicy",
    "ShutdownCoordinator",
    "ShutdownPolicy",
    "ShutdownReport",
    "SubscriptionClosedError",
    "SubscriptionErrorEvent",
    "SubscriptionGap",
    "SubscriptionLimitError",
    "SubscriptionPolicy",
    "SubscriptionState",
    "TelemetryPolicy",
    "Throttle",
    "ThrottleStats",
    "ThrottledError",
    "ThrottlingPolicy",
    "TimeoutPolicy",
    "TransportError",
    "__version__",
    "headers_from_files",
]
