"""Secrets: the authorities of a cluster, and the keys that they have signed."""

import base64
from collections.abc import Sequence
from typing import Any

from tests.cluster.standins.strimzi import certificates
from tests.cluster.standins.strimzi.api import Api
from tests.cluster.standins.strimzi.certificates import Pair
from tests.cluster.standins.strimzi.clusters import Cluster


def cluster_authority(cluster: str) -> str:
    """Return the name of the secret with the certificate that clients check brokers with."""
    return f"{cluster}-cluster-ca-cert"


def value(secret: dict[str, Any], key: str) -> str:
    """Return one value of a secret."""
    return base64.b64decode(secret["data"][key]).decode()


def secret(metadata: dict[str, Any], values: dict[str, str]) -> dict[str, Any]:
    """Return a secret with these values."""
    data = {name: base64.b64encode(each.encode()).decode() for name, each in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def authority(api: Api, cluster: Cluster, name: str) -> Pair:
    """Return an authority of a cluster (`cluster-ca` or `clients-ca`), made if it isn't there."""
    stem = f"{cluster.name}-{name}"
    found = [api.get("Secret", cluster.namespace, each) for each in (f"{stem}-cert", stem)]
    if found[0] and found[1]:
        return Pair(value(found[0], "ca.crt"), value(found[1], "ca.key"))
    made = certificates.authority(name)
    annotations = {"strimzi.io/ca-cert-generation": "0"}
    api.apply(secret(cluster.metadata(f"{stem}-cert", annotations=annotations), {"ca.crt": made.certificate}))
    annotations = {"strimzi.io/ca-key-generation": "0"}
    api.apply(secret(cluster.metadata(stem, annotations=annotations), {"ca.key": made.key}))
    return made


def signed(
    api: Api, cluster: Cluster, by: Pair, name: str, file: str, common_name: str, hosts: Sequence[str] = ()
) -> Pair:
    """Return the key and certificate in a secret, made anew if there is none or it is no longer good.

    Args:
        api: connection.
        cluster: whose part it is.
        by: the authority.
        name: of the secret.
        file: of the key and of the certificate in it, without extension.
        common_name: whom the certificate names.
        hosts: the names of a server.
    """
    found = api.get("Secret", cluster.namespace, name)
    if found and certificates.good(value(found, f"{file}.crt"), by.certificate, hosts):
        return Pair(value(found, f"{file}.crt"), value(found, f"{file}.key"))
    made = certificates.sign(by, common_name, hosts)
    api.apply(secret(cluster.metadata(name), {f"{file}.crt": made.certificate, f"{file}.key": made.key}))
    return made
