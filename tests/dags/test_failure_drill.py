"""`failure_drill`: real runs, with retries; people are told by local servers of what fails for good."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millrace import drill
from tests.dags.conftest import only, run_python
from tests.notification_servers import Servers, notification_servers

RATE = 0.5
CODE = """
import json
from datetime import datetime
from failure_drill import dag
at = datetime.fromisoformat(%r)
run = dag.test(logical_date=at, run_after=at, run_conf={"failure_rate": %r, "steps": 2})
tries = {f"{ti.task_id}{max(ti.map_index, 0)}": [ti.state, ti.try_number] for ti in run.get_task_instances()}
print(json.dumps({"run": run.state, "id": run.run_id, "tasks": tries}))
"""


def fits(at: datetime) -> bool:
    """Whether in the run of that time one step needs one try, and the other more but not too many."""
    drawn = [[drill.luck(f"manual__{at.isoformat()}", f"step {number}", t) for t in (1, 2, 3)] for number in range(2)]
    return drawn[0][0] >= RATE > drawn[1][0] and drawn[1][1] >= RATE


BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
TIME = next(at for at in (BEGIN + timedelta(minutes=number) for number in range(1000)) if fits(at))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with notification_servers(tmp_path_factory.mktemp("drill") / "authority") as found:
        yield found


@pytest.fixture(scope="module")
def outcomes(
    airflow_database: dict[str, str], servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """One run in which half of the tries fail, and one in which all do."""
    environment = only("failure_drill.py", tmp_path_factory.mktemp("dags"), airflow_database)
    environment |= servers.environment() | {"MILLRACE_RETRY_DELAY_SECONDS": "0.1"}
    code = CODE % (TIME.isoformat(), RATE) + CODE % ((TIME + timedelta(days=1)).isoformat(), 1.0)
    return [json.loads(line) for line in run_python(code, environment).splitlines() if line.startswith('{"run"')]


def test_a_failed_try_is_tried_again_and_succeeds(outcomes: list[dict[str, Any]]) -> None:
    assert outcomes[0]["id"] == f"manual__{TIME.isoformat()}"
    assert outcomes[0]["run"] == "success"
    assert outcomes[0]["tasks"] == {
        "plan0": ["success", 1],
        "step0": ["success", 1],
        "step1": ["success", 2],
        "count0": ["success", 1],
    }


def test_people_are_told_once_of_the_run_that_failed_for_good(outcomes: list[dict[str, Any]], servers: Servers) -> None:
    assert outcomes[1]["run"] == "failed"
    assert outcomes[1]["tasks"]["step0"] == ["failed", 3]
    subject = f"failure_drill has failed: run {outcomes[1]['id']}"
    assert [mail["Subject"] for mail in servers.mails] == [subject]
    assert [event["payload"]["summary"] for event in servers.events] == [subject]
    (post,) = servers.posts
    assert post["text"].startswith(f"*{subject}*")
