"""The control plane of the tests leaves nothing behind, however they end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from embedded.paths import REPOSITORY
from tests.control_plane.conftest import eventually
from tests.kubernetes.programs import program

CODE = """
import sys
from pathlib import Path
from tests.kubernetes.plane import control_plane
with control_plane(Path(sys.argv[1])):
    print("up", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a program together with the one that started it")
def test_tests_that_are_killed_leave_no_program_behind(tmp_path: Path) -> None:
    program("kube-apiserver")  # built, or skipped, here
    path = os.pathsep.join(str(REPOSITORY / each) for each in (".", "dags", "spark-apps"))
    tests = subprocess.Popen(
        [sys.executable, "-c", CODE, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
    )
    assert tests.stdin is not None
    assert tests.stdout is not None
    with tests.stdin, tests.stdout:
        assert tests.stdout.readline() == "up\n"
        programs = psutil.Process(tests.pid).children()
        assert {each.name() for each in programs} == {"etcd", "kube-apiserver"}
        tests.send_signal(signal.SIGKILL)
        tests.wait(60)
    eventually(lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in programs))
