"""The definitions of the kinds that operators bring, as objects to apply."""

from typing import Any

import yaml

from embedded.versions import versions
from tests.definitions import kafka_definitions, operators_definitions
from tests.go_tools import go_module

PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator"
FOLDER = "example/prometheus-operator-crd"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 has a meaning for a lone `=`, which PyYAML knows and can't make; in these files it is a string."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the class that it comes from
        first: resolvers for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items() if first != "="
    }


def all_definitions() -> list[dict[str, Any]]:
    """Strimzi's, the Spark operator's, and those of the very prometheus-operator that runs."""
    module = go_module(PROMETHEUS_OPERATOR, versions()["tools"]["prometheus-operator"])
    files = sorted((module / FOLDER).glob("*.yaml"))
    monitoring = [yaml.load(file.read_text(), _Loader) for file in files]  # noqa: S506 - a safe one
    groups = {each["spec"]["group"] for each in monitoring}
    others = [each for each in operators_definitions().values() if each["spec"]["group"] not in groups]
    return [*monitoring, *others, *kafka_definitions().values()]
