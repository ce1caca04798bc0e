"""A broker as the chart configures it: TLS with SCRAM-SHA-512, ACLs, nobody may do anything that no rule allows."""

import datetime
import ipaddress
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from embedded.broker import Broker, BrokerSettings
from embedded.ports import LOOPBACK, free_port

PATTERNS = {"literal": ResourcePatternType.LITERAL, "prefix": ResourcePatternType.PREFIXED}


class SecuredBroker(Broker):
    """A broker with a second listener for users; the first one, for the test itself, is a super user's."""

    def __init__(self, settings: BrokerSettings) -> None:
        super().__init__(settings)
        self.secured_port = free_port()
        settings.directory.mkdir(parents=True, exist_ok=True)
        self.authority, self._key_store = certificates(settings.directory)

    @property
    def secured_servers(self) -> str:
        return f"{LOOPBACK}:{self.secured_port}"

    def _properties(self) -> dict[str, str | int]:
        properties = super()._properties()
        listeners = f"{properties['listeners']},SECURED://{self.secured_servers}"
        return properties | {
            "listeners": listeners,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.secured.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "listener.name.secured.ssl.keystore.type": "PEM",
            "listener.name.secured.ssl.keystore.location": str(self._key_store),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }

    def add_user(self, name: str, password: str, rules: list[dict[str, Any]]) -> None:
        """Make a user with the rules of a KafkaUser's `spec.authorization.acls`, as Strimzi's user operator does."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(name, credential, password.encode())
        for done in admin.alter_user_scram_credentials([change]).values():
            done.result(30)
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


def certificates(directory: Path) -> tuple[Path, Path]:
    """A certificate authority, and a key store with the broker's key and certificate; both as PEM files."""
    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])

    def builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(authority_name).public_key(public_key)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        return made.not_valid_after(now + datetime.timedelta(days=1))

    authority = builder(authority_name, authority_key.public_key())
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    broker = builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")]), key.public_key())
    address = x509.IPAddress(ipaddress.ip_address(LOOPBACK))
    broker = broker.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    pem = serialization.Encoding.PEM
    authority_file, key_store = directory / "ca.crt", directory / "broker.pem"
    authority_file.write_bytes(authority.sign(authority_key, hashes.SHA256()).public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_store.write_bytes(private + broker.sign(authority_key, hashes.SHA256()).public_bytes(pem))
    return authority_file, key_store
