"""A broker as the chart configures it: TLS with SCRAM-SHA-512, ACLs, nobody may do anything that no rule allows.

It may know users by SASL PLAIN too, as Event Hubs' Kafka endpoint does.
"""

from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from embedded.broker import Broker, BrokerSettings
from embedded.ports import LOOPBACK, free_port
from tests.certificates import Authority
from tests.topics import admin_of

PATTERNS = {"literal": ResourcePatternType.LITERAL, "prefix": ResourcePatternType.PREFIXED}


class SecuredBroker(Broker):
    """A broker with a second listener for users; the first one, for the test itself, is a super user's."""

    def __init__(self, settings: BrokerSettings) -> None:
        super().__init__(settings)
        self.secured_port = free_port()
        self.plain_users: dict[str, str] = {}
        """Passwords of users by SASL PLAIN; to be set before the start."""
        settings.directory.mkdir(parents=True, exist_ok=True)
        signer = Authority(settings.directory / "certificates")
        certificate, key = signer.sign("broker", "broker", server=True)
        self.authority = signer.path
        # Kafka reads both from one file.
        self._key_store = signer.folder / "broker.pem"
        self._key_store.write_bytes(key.read_bytes() + certificate.read_bytes())

    @property
    def secured_servers(self) -> str:
        return f"{LOOPBACK}:{self.secured_port}"

    def _properties(self) -> dict[str, str | int]:
        properties = super()._properties()
        listeners = f"{properties['listeners']},SECURED://{self.secured_servers}"
        return (
            properties
            | self._plain()
            | {
                "listeners": listeners,
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL",
                "inter.broker.listener.name": "PLAINTEXT",
                "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN" if self.plain_users else "SCRAM-SHA-512",
                "listener.name.secured.scram-sha-512.sasl.jaas.config": (
                    "org.apache.kafka.common.security.scram.ScramLoginModule required;"
                ),
                "listener.name.secured.ssl.keystore.type": "PEM",
                "listener.name.secured.ssl.keystore.location": str(self._key_store),
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
            }
        )

    def _plain(self) -> dict[str, str | int]:
        if not self.plain_users:
            return {}
        users = " ".join(f'user_{name}="{password}"' for name, password in self.plain_users.items())
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        return {"listener.name.secured.plain.sasl.jaas.config": f"{module} required {users};"}

    def add_user(self, name: str, password: str, rules: list[dict[str, Any]]) -> None:
        """Make a user with the rules of a KafkaUser's `spec.authorization.acls`, as Strimzi's user operator does."""
        admin = admin_of(self.bootstrap_servers)
        credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(name, credential, password.encode())
        for done in admin.alter_user_scram_credentials([change]).values():
            done.result(30)
        self.allow(name, rules)

    def allow(self, name: str, rules: list[dict[str, Any]]) -> None:
        """Give a user the rights of such rules."""
        admin = admin_of(self.bootstrap_servers)
        bindings = list(dict.fromkeys(binding for rule in rules for binding in acl_bindings(name, rule)))
        for done in admin.create_acls(bindings).values():
            done.result(30)


def acl_bindings(user: str, rule: dict[str, Any]) -> list[AclBinding]:
    """One rule of a KafkaUser as Kafka's own rules, one for each operation."""
    resource = rule["resource"]
    return [
        AclBinding(
            ResourceType[resource["type"].upper()],
            resource["name"],
            PATTERNS[resource["patternType"]],
            f"User:{user}",
            rule["host"],
            AclOperation[snake(operation)],
            AclPermissionType.ALLOW,
        )
        for operation in rule["operations"]
    ]


def snake(name: str) -> str:
    """`DescribeConfigs` as `DESCRIBE_CONFIGS`."""
    return "".join(f"_{letter}" if letter.isupper() and at else letter for at, letter in enumerate(name)).upper()
