"""KafkaUsers: what each says, done in Kafka, and its secret."""

import hashlib
import secrets as random
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from tests.cluster.standins.strimzi import names, secrets
from tests.cluster.standins.strimzi.acls import bindings
from tests.cluster.standins.strimzi.api import Api
from tests.cluster.standins.strimzi.clusters import RefusedError
from tests.cluster.standins.strimzi.kafka import Kafka

ITERATIONS = 4096
MANAGED_BY = "strimzi-user-operator"
PREFIX = "User:"


class Users:
    """Does in Kafka as KafkaUsers say."""

    kind = "KafkaUser"

    def __init__(self, api: Api, kafka: Kafka, rules: bool) -> None:
        """Prepare; `rules` where the brokers ask for rules at all."""
        self._api, self._kafka, self._rules = api, kafka, rules
        # Kafka keeps passwords so that they can't be read back: what was set last is remembered, for the same reason as
        # a digest, and set again after each start.
        self._known: dict[str, bytes] = {}

    def reconcile(self, resource: dict[str, Any]) -> dict[str, Any] | None:
        """Do as a resource says. Return the fields of its status; None if it is on its way out. Raises RefusedError."""
        if "deletionTimestamp" in resource["metadata"]:
            return None
        name, spec = resource["metadata"]["name"], resource["spec"]
        if (spec.get("authentication") or {}).get("type") != "scram-sha-512":
            raise RefusedError("The stand-in for Strimzi knows users with scram-sha-512 only.")
        if spec.get("quotas"):
            raise RefusedError("The stand-in for Strimzi has no quotas.")
        if spec.get("authorization") and not self._rules:
            raise RefusedError("Simple authorization ACL rules are configured but not supported in the Kafka cluster.")
        password = self._password(resource)
        self._set_password(name, password)
        self._set_rules(name, bindings(name, (spec.get("authorization") or {}).get("acls") or []))
        self._api.apply(secret(resource, password))
        return {"username": name, "secret": name}

    def gone(self, name: str) -> None:
        """Take its password and its rules from a user."""
        self._known.pop(name, None)
        self._set_rules(name, set())
        if name in self._in_kafka(name):
            deletion = UserScramCredentialDeletion(name, ScramMechanism.SCRAM_SHA_512)
            self._kafka.answers(self._kafka.admin.alter_user_scram_credentials([deletion]).values())

    def sweep(self, names_of_resources: set[str]) -> None:
        """End the users whose resources went while nobody looked."""
        ruled = {each.principal.removeprefix(PREFIX) for each in self._find_rules(None)} if self._rules else set()
        for name in (self._in_kafka() | ruled) - names_of_resources:
            self.gone(name)

    def _password(self, resource: dict[str, Any]) -> str:
        namespace, name = resource["metadata"]["namespace"], resource["metadata"]["name"]
        source = (resource["spec"]["authentication"].get("password") or {}).get("valueFrom", {}).get("secretKeyRef")
        if not source:
            own = self._api.get("Secret", namespace, name)
            return secrets.value(own, "password") if own else random.token_urlsafe(24)
        found = self._api.get("Secret", namespace, source["name"])
        if found is None:
            raise RefusedError(f"Secret {source['name']} with requested user password does not exist.")
        if source["key"] not in (found.get("data") or {}):
            raise RefusedError(
                f"Secret {source['name']} does not contain the key {source['key']} with the user's password."
            )
        password = secrets.value(found, source["key"])
        if not password:
            raise RefusedError("The requested user password is empty.")
        return password

    def _set_password(self, name: str, password: str) -> None:
        digest = hashlib.sha256(password.encode()).digest()
        if self._known.get(name) == digest and name in self._in_kafka(name):
            return
        credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
        change = UserScramCredentialUpsertion(name, credential, password.encode())
        self._kafka.answers(self._kafka.admin.alter_user_scram_credentials([change]).values())
        self._known[name] = digest

    def _in_kafka(self, name: str | None = None) -> set[str]:
        """Return the users, or the one, that have a password."""
        describe, timeout = self._kafka.admin.describe_user_scram_credentials, self._kafka.seconds
        if name is None:
            [found] = self._kafka.answers([describe(None, request_timeout=timeout)])
            return set(found)
        futures = describe([name], request_timeout=timeout).values()
        return {name} if any(self._kafka.answers(futures, KafkaError.RESOURCE_NOT_FOUND)) else set()

    def _set_rules(self, name: str, wanted: set[AclBinding]) -> None:
        if not self._rules:
            return
        found = self._find_rules(name)
        if wanted - found:
            self._kafka.answers(self._kafka.admin.create_acls(list(wanted - found)).values())
        if found - wanted:
            self._kafka.answers(self._kafka.admin.delete_acls([_exactly(each) for each in found - wanted]).values())

    def _find_rules(self, name: str | None) -> set[AclBinding]:
        everything = AclBindingFilter(
            ResourceType.ANY,
            None,
            ResourcePatternType.ANY,
            PREFIX + name if name else None,
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        future = self._kafka.admin.describe_acls(everything, request_timeout=self._kafka.seconds)
        [found] = self._kafka.answers([future])
        return set(found)


def secret(user: dict[str, Any], password: str) -> dict[str, Any]:
    """Return the secret of a user, for its clients."""
    metadata, name = user["metadata"], user["metadata"]["name"]
    owner = {"apiVersion": user["apiVersion"], "kind": user["kind"], "name": name, "uid": metadata["uid"]}
    labels = {
        names.CLUSTER: metadata["labels"][names.CLUSTER],
        "strimzi.io/kind": user["kind"],
        "app.kubernetes.io/name": MANAGED_BY,
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/part-of": f"strimzi-{name}",
        "app.kubernetes.io/managed-by": MANAGED_BY,
    }
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    values = {
        "password": password,
        "sasl.jaas.config": f'{module} required username="{name}" password="{password}";',
    }
    place = {"name": name, "namespace": metadata["namespace"]}
    return secrets.secret({**place, "labels": labels, "ownerReferences": [owner]}, values)


def _exactly(rule: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        rule.restype,
        rule.name,
        rule.resource_pattern_type,
        rule.principal,
        rule.host,
        rule.operation,
        rule.permission_type,
    )
