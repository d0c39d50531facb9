"""The embedded broker with one listener for clients: TLS, and a name and password."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from botify.core.kafka.config import common_config
from botify.core.settings import Settings
from botify.services.stack.kafka import Kafka
from botify.services.stack.ports import find_free
from botify.services.stack.record import Watchdog
from tests.integration.security.certificates import Certificates

ITERATIONS = 4096
LISTENER = "listener.name.broker"
SASL = "org.apache.kafka.common.security"


class SecuredKafka(Kafka):
    """Knows one administrator (SASL PLAIN), who may add users (SCRAM-SHA-512); nobody else gets in.

    Attributes
    ----------
    administrator : Settings
    """

    def __init__(self, home: Path, certificates: Certificates, password: str, watchdog: Watchdog) -> None:
        port = find_free()
        super().__init__(
            home, port=port, controller_port=find_free(frozenset({port})), watchdog=watchdog, notify=lambda _: None
        )
        self._properties |= {
            "listener.security.protocol.map": "BROKER:SASL_SSL,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            f"{LISTENER}.plain.sasl.jaas.config": (
                f'{SASL}.plain.PlainLoginModule required username="admin" password="{password}" '
                f'user_admin="{password}";'
            ),
            f"{LISTENER}.scram-sha-512.sasl.jaas.config": f"{SASL}.scram.ScramLoginModule required;",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(certificates.server),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(certificates.authority),
        }
        self.administrator = Settings(
            kafka_bootstrap_servers=self.bootstrap_servers,
            kafka_security={
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "PLAIN",
                "sasl.username": "admin",
                "sasl.password": password,
                "ssl.ca.location": str(certificates.authority),
            },
        )

    def answers(self) -> bool:
        """Return whether the administrator gets an answer."""
        try:
            return bool(
                AdminClient(common_config(self.administrator) | {"log_level": 0}).list_topics(timeout=2).brokers
            )
        except KafkaException:
            return False

    def add_user(self, name: str, password: str) -> Settings:
        """Let another user in, and return how."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
        admin = AdminClient(common_config(self.administrator))
        upsert = UserScramCredentialUpsertion(name, info, password.encode())
        admin.alter_user_scram_credentials([upsert])[name].result(30)
        security = dict(self.administrator.kafka_security)
        security |= {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": name, "sasl.password": password}
        return self.administrator.with_(kafka_security=security)
