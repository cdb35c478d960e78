"""A drop-in ``aiographql.client.GraphQLClient`` for production. See README.md."""

from graphql_prod._version import __version__
from graphql_prod.admission.policy import AdmissionPolicy
from graphql_prod.calls.response import GraphQLResponse
from graphql_prod.calls.transport import ProductionTransport
from graphql_prod.client import ProductionClient
from graphql_prod.config import OperationPolicy, ProductionConfig
from graphql_prod.credentials import HeadersProvider
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
from graphql_prod.resilience.timeouts import BATCH, INTERACTIVE, PROBE, STANDARD, TimeoutPolicy, TimeoutPreset
from graphql_prod.schema.policy import DEVELOPMENT, PRODUCTION, PRODUCTION_CLOSED, SchemaPolicy
from graphql_prod.sessions.policy import Backend, PoolPolicy
from graphql_prod.sessions.tls import TlsPolicy
from graphql_prod.shutdown.coordinator import ShutdownCoordinator
from graphql_prod.shutdown.policy import ShutdownPolicy
from graphql_prod.shutdown.report import ShutdownReport
from graphql_prod.subscriptions.context import Restart, Resume
from graphql_prod.subscriptions.events import SubscriptionErrorEvent, SubscriptionGap
from graphql_prod.subscriptions.payload import PayloadProvider
from graphql_prod.subscriptions.policy import EndpointProvider, SubscriptionPolicy
from graphql_prod.subscriptions.states import OnState, SubscriptionState
from graphql_prod.subscriptions.subscription import ProductionSubscription
from graphql_prod.telemetry.hooks import ClientHooks, HookRecord, Watcher
from graphql_prod.telemetry.policy import TelemetryPolicy
from graphql_prod.telemetry.stats import AdmissionStats, ClientStats, PoolStats, ThrottleStats
from graphql_prod.throttling.policy import ThrottlingPolicy
from graphql_prod.throttling.quotas import Quota
from graphql_prod.throttling.recognition import Reader as ThrottleReader
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
    "Backend",
    "CallError",
    "ClientClosedError",
    "ClientHooks",
    "ClientStats",
    "ConfigurationError",
    "EndpointProvider",
    "GraphQLResponse",
    "HTTPStatusError",
    "HeadersProvider",
    "HealthPolicy",
    "HookRecord",
    "InvalidResponseError",
    "NoSchemaError",
    "OnState",
    "OperationPolicy",
    "PayloadProvider",
    "PoolPolicy",
    "PoolStats",
    "Problem",
    "ProductionClient",
    "ProductionConfig",
    "ProductionSubscription",
    "ProductionTransport",
    "Quota",
    "Readiness",
    "RequestTimeoutError",
    "Restart",
    "Resume",
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
    "ThrottleReader",
    "ThrottleStats",
    "ThrottledError",
    "ThrottlingPolicy",
    "TimeoutPolicy",
    "TimeoutPreset",
    "TlsPolicy",
    "TransportError",
    "Watcher",
    "__version__",
    "headers_from_files",
]
