"""What the worker's Kafka client shows the brokers."""

from __future__ import annotations

from faust.auth import SASLCredentials, SSLCredentials

from schemas.kafka_security import MECHANISM, PASSWORD, PROTOCOL, USERNAME, ssl_context
from schemas.settings import Settings


def broker_credentials(settings: Settings) -> SASLCredentials | SSLCredentials | None:
    """Return Faust's form of `settings.kafka_security`; None for plain text.

    Raises
    ------
    SettingsError
        A certificate or key cannot be used.
    """
    security = settings.kafka_security
    context = ssl_context(security)
    if security.get(PROTOCOL, "").startswith("SASL_"):
        return SASLCredentials(
            username=security[USERNAME],
            password=security[PASSWORD],
            mechanism=security[MECHANISM],
            ssl_context=context,
        )
    return None if context is None else SSLCredentials(context)
