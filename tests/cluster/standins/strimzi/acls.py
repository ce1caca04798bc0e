"""Rules of KafkaUsers as Kafka's own."""

from typing import Any

from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

TYPES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "cluster": ResourceType.BROKER,  # the client library's name for it
    "transactionalId": ResourceType.TRANSACTIONAL_ID,
}
PATTERNS = {"literal": ResourcePatternType.LITERAL, "prefix": ResourcePatternType.PREFIXED}
CLUSTER = "kafka-cluster"


def bindings(user: str, rules: list[dict[str, Any]]) -> set[AclBinding]:
    """Return the rules of a user's `spec.authorization.acls`, one for each operation."""
    return {
        AclBinding(
            TYPES[rule["resource"]["type"]],
            rule["resource"].get("name", CLUSTER),
            PATTERNS[rule["resource"].get("patternType", "literal")],
            f"User:{user}",
            rule.get("host", "*"),
            AclOperation[_snake(operation)],
            AclPermissionType[rule.get("type", "allow").upper()],
        )
        for rule in rules
        for operation in rule["operations"]
    }


def _snake(name: str) -> str:
    """`DescribeConfigs` as `DESCRIBE_CONFIGS`."""
    return "".join(f"_{letter}" if letter.isupper() and at else letter for at, letter in enumerate(name)).upper()
