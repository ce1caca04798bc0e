"""Wait for what was installed, saying for what and how long, and why it is not there if it is not."""

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import IO, Any

from k8s.install.cluster import Cluster
from k8s.install.console import duration, say
from k8s.install.errors import UserError
from k8s.install.releases import REPOSITORY, Release, Wait
from k8s.install.runner import CommandError, last_lines, missing

POLL_SECONDS = 0.2
REPORT_SECONDS = 20.0
"""Time between two lines about what is still missing."""
GRACE_SECONDS = 30
"""How much longer than its own timeout the command that waits may take.

`kubectl rollout status` counts its timeout for each object anew; here it is for all of them.
"""
AGAIN_SECONDS = 5.0
"""Time at least between two starts of a command that gives up before its time."""
GIVEN_UP = "exceeded its progress deadline"
"""How `kubectl rollout status` says that a Deployment has made no progress for ten minutes, or what its spec says.

It says that at once and ends, even if what was in the way is gone since: until the next pod is ready, the Deployment's
status stays what it was.
"""
SHOWN = 4
"""At most this many pods are named in one line."""


def wait_command(cluster: Cluster, release: Release, wait: Wait) -> list[str]:
    """The command that waits."""
    place = ["--namespace", release.namespace, f"--timeout={wait.minutes * 60}s"]
    return cluster.kubectl(*wait.command, *place)


def wait_for(cluster: Cluster, release: Release, wait: Wait) -> None:
    """Wait until it is there.

    Raises:
        UserError: it was not within its time; the sentence has the reason that its pods and events give.
    """
    say(f"Waiting for {wait.what} (up to {wait.minutes} min).")
    began = time.monotonic()
    code, written = _watch(cluster, release, wait_command(cluster, release, wait), wait.minutes * 60 + GRACE_SECONDS)
    took = time.monotonic() - began
    if code == 0:
        say(f"  {wait.what}: ready after {duration(took)}.")
        return
    reasons = troubles(cluster, release.namespace) + warnings(cluster, release.namespace)
    why = "; ".join(reasons) or last_lines(written)
    raise UserError(
        f"{wait.what[0].upper()}{wait.what[1:]} did not get ready ({duration(took)}): {why}. Put that right and "
        "run the same "
        f"command again; what is done stays. More: kubectl --context {cluster.context} get pods,events --namespace "
        f"{release.namespace}"
    )


def _watch(cluster: Cluster, release: Release, command: Sequence[str], limit: float) -> tuple[int, str]:
    """Run a command that waits, and meanwhile say what is not ready; return its status and what it wrote.

    It is run again when it has given up before its time.
    """
    began = started = reported = time.monotonic()
    said = ""
    with tempfile.TemporaryFile("w+") as output:
        process = _start(command, output)
        try:
            while process.poll() is None or (process.returncode and GIVEN_UP in _written(output)):
                time.sleep(POLL_SECONDS)
                now = time.monotonic()
                if now - began > limit:
                    process.terminate()
                    break
                if process.returncode is not None and now - started >= AGAIN_SECONDS:
                    started = now
                    said = _written(output)
                    output.seek(0)
                    output.truncate()
                    process = _start(command, output)
                if now - reported >= REPORT_SECONDS:
                    reported = now
                    state = "; ".join(troubles(cluster, release.namespace)) or _progress(_written(output))
                    say(f"  {duration(now - began)}: {state}")
        except BaseException:
            process.terminate()
            process.wait()
            raise
        return process.wait(), _written(output) or said


def _start(command: Sequence[str], output: IO[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True, cwd=REPOSITORY
        )
    except FileNotFoundError:
        raise missing(command[0]) from None


def _written(output: IO[str]) -> str:
    """What was written so far; the place where the program writes on, which it shares with us, stays."""
    descriptor = output.fileno()
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")


def _progress(written: str) -> str:
    """What kubectl says last of a rollout, whose old pods may all be ready."""
    last = last_lines(written, 1)
    return last.rstrip(".") if last.lower().startswith("waiting for") else "pods are not reported yet"


def troubles(cluster: Cluster, namespace: str) -> list[str]:
    """Why pods are not ready, one sentence for each of the first few."""
    try:
        pods = cluster.items("pods", namespace)
    except CommandError as error:
        return [str(error)]
    found = [f"{pod['metadata']['name']}: {reason}" for pod in pods if (reason := _trouble(pod))]
    more = [f"and {len(found) - SHOWN} more pods"] if len(found) > SHOWN else []
    return found[:SHOWN] + more


def _trouble(pod: dict[str, Any]) -> str:
    """Why a pod is not ready; empty if it is, or has done its work."""
    status = pod.get("status", {})
    conditions = {each["type"]: each for each in status.get("conditions", [])}
    if status.get("phase") == "Succeeded" or conditions.get("Ready", {}).get("status") == "True":
        return ""
    if pod["metadata"].get("deletionTimestamp"):
        return "is ending"
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"not scheduled ({scheduled.get('message') or scheduled.get('reason')})"
    for each in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        state = each.get("state", {})
        waiting, ended = state.get("waiting"), state.get("terminated")
        if waiting and waiting.get("reason") not in ("PodInitializing", "ContainerCreating"):
            last = each.get("lastState", {}).get("terminated", {})
            exited = f", its last exit status was {last['exitCode']}" if "exitCode" in last else ""
            message = f" ({waiting['message']})" if waiting.get("message") else ""
            return f"container {each['name']} is in {waiting.get('reason')}{exited}{message}"
        if ended and ended.get("exitCode"):
            return f"container {each['name']} ended with status {ended['exitCode']} ({ended.get('reason')})"
    return f"{status.get('phase', 'Unknown')}, not ready yet"


def warnings(cluster: Cluster, namespace: str) -> list[str]:
    """The newest warnings of the namespace that say something of their own."""
    try:
        events = cluster.items("events", namespace, "--field-selector", "type=Warning")
    except CommandError:
        return []
    events.sort(key=lambda event: event.get("lastTimestamp") or event["metadata"].get("creationTimestamp") or "")
    newest: dict[str, str] = {}
    for event in events:
        thing = event.get("involvedObject", {})
        newest[f"{thing.get('kind')} {thing.get('name')}"] = (
            f"{event.get('reason')}: {event.get('message', '').strip()}"
        )
    return [f"{name} had {text}" for name, text in list(newest.items())[-2:]]
