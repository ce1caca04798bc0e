"""Runs a script with stand-ins on its PATH that write down how they were called."""

import os
import shutil
import subprocess
from pathlib import Path

NEEDED = ("bash", "env", "dirname", "sed", "git", "mktemp", "rm", "mkdir", "mv", "chmod", "tail")
"""What the scripts call themselves."""
EXECUTOR = {
    "SPARK_DRIVER_URL": "spark://CoarseGrainedScheduler@driver:7078",
    "SPARK_EXECUTOR_ID": "3",
    "SPARK_EXECUTOR_CORES": "2",
    "SPARK_EXECUTOR_MEMORY": "1024m",
    "SPARK_APPLICATION_ID": "spark-1",
    "SPARK_EXECUTOR_POD_IP": "10.0.0.9",
    "SPARK_EXECUTOR_POD_NAME": "event-windows-exec-3",
    "SPARK_RESOURCE_PROFILE_ID": "0",
}
"""What Spark's scheduler tells an executor's container."""


class StandIns:
    """A PATH with stand-ins, and a way to run an entrypoint with it."""

    def __init__(self, directory: Path) -> None:
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.record = directory / "record"
        self.environment = {
            "PATH": f"{self.bin}{os.pathsep}{os.defpath}",
            "RECORD": str(self.record),
            "SPARK_HOME": "/opt/spark",
            "JAVA_HOME": "/opt/java",
        }

    def program(self, name: str, script: str = "") -> None:
        """Put a stand-in on PATH that writes its name and its arguments down, one a line."""
        path = self.bin / name
        path.write_text(f'#!/bin/bash\nprintf "%s\\n" {name} "$@" >>"$RECORD"\n{script}\n')
        path.chmod(0o755)

    def hide(self, name: str) -> None:
        """Make a program look as if it were not installed: none of the folders that have it stay on PATH."""
        folders = [each for each in self.environment["PATH"].split(os.pathsep) if not (Path(each) / name).exists()]
        for needed in NEEDED:
            found = shutil.which(needed)
            if found and not (self.bin / needed).exists():
                (self.bin / needed).symlink_to(found)
        self.environment["PATH"] = os.pathsep.join(folders)

    def run(self, script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(script), *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def called(self) -> list[str]:
        return self.record.read_text().splitlines() if self.record.exists() else []
