"""Copy the public certificate of Kafka's certificate authority to where Kafka's clients are."""

import json

from k8s.install.cluster import Cluster
from k8s.install.console import say
from k8s.install.errors import UserError
from k8s.install.runner import run

SOURCE = ("millrace", "millrace-cluster-ca-cert")
"""Namespace and name; the Strimzi operator makes it and renews it."""
NAMESPACES = ("streams", "airflow")
NAME, KEY = "kafka-ca", "ca.crt"


def copy_kafka_ca(cluster: Cluster) -> None:
    """Make or update the secret kafka-ca in each namespace that has clients.

    Unlike the other secrets this one is overwritten: it is public, and the authority's certificate is renewed.

    Raises:
        UserError: Kafka has none yet.
        CommandError: the cluster refuses.
    """
    certificate = cluster.secret(SOURCE[1], SOURCE[0]).get(KEY)
    if not certificate:
        raise UserError(
            f"There is no secret {'/'.join(SOURCE)} yet: the Strimzi operator makes it when it makes Kafka; "
            "install the "
            "release millrace first, and wait until Kafka is ready."
        )
    for namespace in NAMESPACES:
        if cluster.secret(NAME, namespace).get(KEY) == certificate:
            say(f"{namespace}/{NAME} is up to date.")
            continue
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": NAME,
                "namespace": namespace,
                "labels": {"app.kubernetes.io/part-of": "millrace"},
            },
            "data": {KEY: certificate},
        }
        run(cluster.kubectl("apply", "--filename", "-"), stdin=json.dumps(secret))
        say(f"Copied Kafka's certificate to {namespace}/{NAME}.")
