"""The pages of the platform: where they are, how to log in, and a way to them from this machine."""

import re
import shlex
import subprocess
import tempfile
import time
from dataclasses import dataclass

from k8s.install.cluster import Cluster
from k8s.install.console import say
from k8s.install.errors import UserError
from k8s.install.releases import REPOSITORY
from k8s.install.runner import last_lines, missing

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Page:
    """One page, served in the cluster."""

    title: str
    namespace: str
    service: str
    port: int
    """Of the service."""
    local: int
    """On this machine."""
    user: str = ""
    secret: str = ""
    """Name of the secret with the password, in the same namespace; empty where nobody logs in."""
    key: str = "password"

    def forward(self, cluster: Cluster) -> list[str]:
        """The command that makes it reachable."""
        place = ["--namespace", self.namespace]
        return cluster.kubectl("port-forward", f"service/{self.service}", f"{self.local}:{self.port}", *place)

    def password_command(self, cluster: Cluster) -> str:
        """The command that shows the password."""
        template = f"{{{{index .data {json_quoted(self.key)} | base64decode}}}}"
        place = ["--namespace", self.namespace]
        return shlex.join(cluster.kubectl("get", "secret", self.secret, *place, "--template", template))


def json_quoted(text: str) -> str:
    """The text as a Go template takes it."""
    return f'"{text}"'


PAGES = (
    Page("Airflow", "airflow", "airflow-api-server", 8080, 8080, "admin", "airflow-admin"),
    Page("Grafana", "monitoring", "grafana", 80, 3000, "admin", "grafana-admin", "admin-password"),
    Page("Prometheus", "monitoring", "monitoring-prometheus", 9090, 9090),
    Page("Alertmanager", "monitoring", "monitoring-alertmanager", 9093, 9093),
    Page("Kafka UI", "millrace", "kafka-ui", 8080, 8081),
    Page("Spark history", "millrace", "history-server", 18080, 18080),
    Page("Spark event-windows (while it runs)", "streams", "event-windows-ui-svc", 4040, 4040),
)


def show_pages(cluster: Cluster, forward: bool) -> None:
    """Print each page that is there, with where its password is; with `forward`, keep them reachable until Ctrl-C.

    Raises:
        UserError: none is there, or none can be reached.
    """
    here = [page for page in PAGES if cluster.existing("service", [page.service], page.namespace)]
    if not here:
        raise UserError(
            f"None of Millrace's pages is in the cluster {cluster.context}: install it first (docs/install.md)."
        )
    for page in here:
        say(f"{page.title}: http://localhost:{page.local}")
        if page.secret:
            say(f"  user {page.user}, password: {page.password_command(cluster)}")
        if not forward:
            say(f"  {shlex.join(page.forward(cluster))}")
    absent = [page.title for page in PAGES if page not in here]
    if absent:
        say(f"Not in this cluster: {', '.join(absent)}.")
    if forward:
        _forward(cluster, here)


def _forward(cluster: Cluster, pages: list[Page]) -> None:
    running: dict[Page, Forward] = {}
    try:
        for page in pages:
            running[page] = Forward(page.forward(cluster))
        say("Reachable until Ctrl-C.")
        while running:
            for page, forward in list(running.items()):
                if forward.process.poll() is not None:
                    del running[page]
                    say(f"{page.title} is no longer reachable: {forward.reason()}")
            time.sleep(POLL_SECONDS)
    finally:
        for forward in running.values():
            forward.stop()
    raise UserError("No page can be reached any more: see above, then try again.")


class Forward:
    """One `kubectl port-forward` that runs."""

    def __init__(self, command: list[str]) -> None:
        """Start it. Raises CommandError if kubectl is missing."""
        # A file, not a pipe: it writes a line for each connection, and nobody reads along.
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output, text=True, cwd=REPOSITORY
            )
        except FileNotFoundError:
            raise missing(command[0]) from None

    def local_port(self, seconds: float = 30) -> int:
        """Wait for the port on this machine. Raises UserError if it ends, or says none within `seconds`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := re.search(r"Forwarding from 127\.0\.0\.1:(\d+)", self._written()):
                return int(found[1])
            if self.process.poll() is not None:
                raise UserError(f"Airflow can't be reached: {self.reason()}.")
            time.sleep(0.05)
        raise UserError(f"Airflow can't be reached: `kubectl port-forward` named no port within {seconds:.0f} s.")

    def reason(self) -> str:
        """The end of what it wrote."""
        return last_lines(self._written(), 1)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()
        self._output.close()

    def _written(self) -> str:
        self._output.seek(0)
        return self._output.read()
