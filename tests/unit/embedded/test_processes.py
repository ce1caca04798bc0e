"""Processes come and go while they are looked at; what is asked of the others must still be answered."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from embedded import status
from embedded.processes import command_line
from embedded.settings import load_settings


@pytest.fixture
def zombie() -> Iterator[psutil.Process]:
    """A process that has ended and that nobody has waited for: its command line can't be read any more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield psutil.Process(process.pid)
    process.wait()


@pytest.fixture
def broker() -> Iterator[psutil.Process]:
    """A process that looks like Kafka's, younger than the zombie."""
    program = "import sys; print(flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "kafka.Kafka"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    # Linux lets Popen return some moments before the new program's command line can be read.
    assert process.stdout is not None
    process.stdout.readline()
    yield psutil.Process(process.pid)
    process.communicate()


def test_a_process_that_has_ended_has_an_empty_command_line(zombie: psutil.Process, broker: psutil.Process) -> None:
    with pytest.raises(psutil.ZombieProcess):
        zombie.cmdline()
    assert command_line(zombie) == []
    assert command_line(broker)[-1] == "kafka.Kafka"


def test_status_shows_kafka_though_an_older_process_has_just_ended(
    zombie: psutil.Process, broker: psutil.Process, tmp_path: Path
) -> None:
    settings = load_settings({"MILLRACE_HOME": str(tmp_path)})
    parts = list(status._parts(settings, os.getpid()))
    assert ("kafka", broker.pid, settings.logs / "kafka.log") in parts
