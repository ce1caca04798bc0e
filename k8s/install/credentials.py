"""The secrets that must be there before anything is installed: made if absent, never overwritten, never shown.

They go to kubectl by its standard input: not on a command line, not into a file, not into a log.
"""

import base64
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from k8s.install.cluster import Cluster
from k8s.install.console import say
from k8s.install.errors import UserError
from k8s.install.runner import run

STREAM_USERS = ("ingest", "event-windows", "market-ohlc", "air-quality", "adults", "stream-join")
"""Kafka users whose pods are in the namespace of the streams."""
KAFKA_USERS = (*STREAM_USERS, "airflow", "kafka-ui")
BOOTSTRAP = "millrace-kafka-bootstrap.millrace.svc:9093"
OBJECT_STORE = "http://object-store.millrace.svc:7070"
REGION = "us-east-1"
CA_FILE = "/etc/millrace/kafka/ca.crt"

Place = tuple[str, str]
"""Namespace and name of a secret."""
Key = tuple[str, str, str]
"""Namespace, name and key of a value in a secret."""


@dataclass(frozen=True)
class Value:
    """A generated value, and everywhere it is kept."""

    make: Callable[[], str]
    keys: tuple[Key, ...]


@dataclass(frozen=True)
class Derived:
    """Values of a secret that are put together from generated ones."""

    place: Place
    sources: tuple[str, ...]
    make: Callable[[dict[str, str]], dict[str, str]]


@dataclass
class Outcome:
    """What was done."""

    made: list[Place] = field(default_factory=list)
    kept: list[Place] = field(default_factory=list)


def password() -> str:
    """A password that needs no escaping in a URL: 192 bits."""
    return secrets.token_urlsafe(24)


def fernet_key() -> str:
    """A key for Fernet: 32 bytes in the URL-safe base64 that it reads."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def access_key() -> str:
    """An S3 access key: 20 characters."""
    return secrets.token_hex(10).upper()


def _values() -> dict[str, Value]:
    values = {
        "grafana user": Value(lambda: "admin", (("monitoring", "grafana-admin", "admin-user"),)),
        "grafana": Value(password, (("monitoring", "grafana-admin", "admin-password"),)),
        "postgres": Value(password, (("millrace", "postgresql", "postgres-password"),)),
        "airflow database": Value(password, (("millrace", "postgresql", "airflow-password"),)),
        "fernet": Value(fernet_key, (("airflow", "airflow-fernet-key", "fernet-key"),)),
        "api": Value(password, (("airflow", "airflow-api-secret-key", "api-secret-key"),)),
        "jwt": Value(lambda: secrets.token_urlsafe(48), (("airflow", "airflow-jwt-secret", "jwt-secret"),)),
        "airflow administrator": Value(password, (("airflow", "airflow-admin", "password"),)),
    }
    stores = ("millrace", "streams", "airflow")
    values["access key"] = Value(access_key, tuple((place, "object-store", "access-key") for place in stores))
    values["secret key"] = Value(password, tuple((place, "object-store", "secret-key") for place in stores))
    for user in KAFKA_USERS:
        name = f"kafka-user-{user}"
        streams = user in STREAM_USERS
        values[name] = Value(password, tuple((place, name, "password") for place in _namespaces(streams)))
        if streams:
            # Bound at once: the loop goes on.
            values[f"{name} name"] = Value(lambda user=user: user, (("streams", name, "username"),))  # type: ignore[misc]
    return values


def _namespaces(streams: bool) -> tuple[str, ...]:
    return ("millrace", "streams") if streams else ("millrace",)


def _metadata(found: dict[str, str]) -> dict[str, str]:
    # The driver said outright: SQLAlchemy's own choice changed with 2.1.
    address = "postgresql.millrace.svc:5432/airflow"
    return {"connection": f"postgresql+psycopg://airflow:{found['airflow database']}@{address}"}


def _connections(found: dict[str, str]) -> dict[str, str]:
    kafka = {
        "conn_type": "kafka",
        "extra": {
            "bootstrap.servers": BOOTSTRAP,
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "airflow",
            "sasl.password": found["kafka-user-airflow"],
            "ssl.ca.location": CA_FILE,
        },
    }
    store = {
        "conn_type": "aws",
        "login": found["access key"],
        "password": found["secret key"],
        "extra": {
            "endpoint_url": OBJECT_STORE,
            "region_name": REGION,
            "config_kwargs": {"s3": {"addressing_style": "path"}},
        },
    }
    return {"AIRFLOW_CONN_KAFKA_DEFAULT": json.dumps(kafka), "AIRFLOW_CONN_OBJECT_STORE": json.dumps(store)}


DERIVED = (
    Derived(("airflow", "airflow-metadata"), ("airflow database",), _metadata),
    Derived(("airflow", "airflow-connections"), ("kafka-user-airflow", "access key", "secret key"), _connections),
)


def places() -> list[Place]:
    """Every secret that `make_secrets` sees to."""
    direct = {(namespace, name) for value in _values().values() for namespace, name, _ in value.keys}
    return sorted(direct | {derived.place for derived in DERIVED})


def make_secrets(cluster: Cluster, environment: str) -> Outcome:
    """Make those secrets that are absent; leave the others as they are.

    Raises:
        UserError: the environment brings its own, or what is there does not fit together.
        CommandError: the cluster refuses.
    """
    if environment == "production":
        raise UserError(
            "Production's secrets come from your own store: docs/gitops.md shows how External Secrets brings them; "
            "nothing was made.",
            2,
        )
    existing = _existing(cluster)
    outcome = Outcome(kept=[place for place, data in existing.items() if data])
    found, fresh = _found(existing)
    wanted = _wanted(existing, found, fresh)
    if wanted:
        run(cluster.kubectl("create", "--filename", "-"), stdin=json.dumps(_list(wanted)))
    outcome.made = sorted(wanted)
    for place in outcome.made:
        say(f"Made the secret {place[0]}/{place[1]}.")
    if outcome.kept:
        say(f"Kept {len(outcome.kept)} secrets that were there.")
    return outcome


def _existing(cluster: Cluster) -> dict[Place, dict[str, str]]:
    """The data of each secret in question; empty for those that are absent."""
    existing: dict[Place, dict[str, str]] = {place: {} for place in places()}
    for namespace in sorted({place[0] for place in existing}):
        names = [name for space, name in existing if space == namespace]
        for name, data in cluster.secrets(names, namespace).items():
            existing[namespace, name] = data
    return existing


def _found(existing: dict[Place, dict[str, str]]) -> tuple[dict[str, str], set[str]]:
    """Every value: the one that is there already, or a new one; and which are new."""
    found, fresh = {}, set()
    for title, value in _values().items():
        there = {}
        for namespace, name, key in value.keys:
            data = existing[namespace, name]
            if data and key not in data:
                raise UserError(
                    f"The secret {namespace}/{name} has no key {key}: add it, or delete the secret so that it "
                    "is made anew."
                )
            if data:
                there[f"{namespace}/{name}"] = base64.b64decode(data[key]).decode()
        if len(set(there.values())) > 1:
            raise UserError(
                f"The secrets {' and '.join(there)} differ but must agree: copy the right one over the other, "
                "or delete the "
                "wrong one so that it is made to fit."
            )
        if not there:
            fresh.add(title)
        found[title] = next(iter(there.values()), None) or value.make()
    return found, fresh


def _wanted(
    existing: dict[Place, dict[str, str]], found: dict[str, str], fresh: set[str]
) -> dict[Place, dict[str, str]]:
    """The secrets to make."""
    wanted: dict[Place, dict[str, str]] = {}
    for title, value in _values().items():
        for namespace, name, key in value.keys:
            if not existing[namespace, name]:
                wanted.setdefault((namespace, name), {})[key] = found[title]
    for derived in DERIVED:
        if not existing[derived.place]:
            wanted[derived.place] = derived.make(found)
        elif lost := fresh.intersection(derived.sources):
            place = "/".join(derived.place)
            raise UserError(
                f"The secret {place} is there, but the one that it was made from ({', '.join(sorted(lost))}) is "
                "not: restore "
                f"that, or delete {place} so that both are made anew; nothing was made."
            )
    return wanted


def _list(wanted: dict[Place, dict[str, str]]) -> dict[str, object]:
    items = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {"app.kubernetes.io/part-of": "millrace"},
            },
            "type": "Opaque",
            "stringData": data,
        }
        for (namespace, name), data in sorted(wanted.items())
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}
