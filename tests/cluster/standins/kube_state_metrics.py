"""Stands in for kube-state-metrics: the phase of each pod, of a real cluster's API.

Name, labels and values are those of kube-state-metrics 2.20. Left out: all its other metrics, of which our rules and
dashboards use none, and its watches: each scrape asks for the pods anew. It runs in a pod, as its service account.

    python -m tests.cluster.standins.kube_state_metrics --port=8080
"""

import argparse
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.cluster.standins.metrics_page import Family, UnreadableError, serve

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PHASES = ("Pending", "Succeeded", "Failed", "Unknown", "Running")
TIMEOUT_SECONDS = 10


def phases(pods: list[dict[str, Any]]) -> Family:
    """Each pod with each phase: 1 for the one that it is in, 0 for the others."""
    family = Family("kube_pod_status_phase", "gauge", "[STABLE] The pods current phase.")
    for pod in pods:
        meta, status = pod["metadata"], pod["status"]
        # A pod that was to go, and whose node is lost.
        lost = bool(meta.get("deletionTimestamp")) and status.get("reason") == "NodeLost"
        current = "Unknown" if lost else status.get("phase", "")
        for phase in PHASES if current else ():
            labels = {"namespace": meta["namespace"], "pod": meta["name"], "uid": meta["uid"], "phase": phase}
            family.add(phase == current, **labels)
    return family


def pods_of_cluster() -> list[dict[str, Any]]:
    """All pods. Raises UnreadableError."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    # Read each time: the kubelet renews the token.
    token = (ACCOUNT / "token").read_text().strip()
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    # From the API server's memory, as a watch would have it.
    request = urllib.request.Request(
        f"https://{host}:{port}/api/v1/pods?resourceVersion=0", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS, context=context) as response:  # noqa: S310 - as above
            return json.load(response)["items"]
    except urllib.error.HTTPError as error:
        raise UnreadableError(f"the API server answers HTTP {error.code}") from None
    except (OSError, ValueError) as error:
        raise UnreadableError(f"the API server does not answer: {error}") from None


def main() -> int:
    """Serve; returns an exit status where it can't."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8080)
    port = parser.parse_args().port
    if "KUBERNETES_SERVICE_HOST" not in os.environ or not (ACCOUNT / "token").exists():
        sys.stderr.write("This runs in a pod, which has a service account.\n")
        return 2
    serve(port, lambda: [phases(pods_of_cluster())])
    return 0


if __name__ == "__main__":
    sys.exit(main())
