"""Executors come while tasks wait and go when there is nothing to do, and the answer is the same."""

from tests.cluster.plugin import HEALTHY
from tests.cluster.scaling import MOST, SCALE_SECONDS


def test_executors_come_while_tasks_wait_and_are_never_more_than_the_manifest_says(scaled_stream):
    assert 2 <= scaled_stream.most <= MOST
    assert 0 < scaled_stream.up < SCALE_SECONDS


def test_they_go_when_there_is_nothing_to_do(scaled_stream):
    assert 0 < scaled_stream.down < 2 * SCALE_SECONDS


def test_the_answer_is_the_same(platform, scaled_stream):
    """State that moved from an executor to another is whole: no window is missing, none differs."""
    found = platform.bucket.verify(HEALTHY.first_day, HEALTHY.days, scaled_stream.table)
    assert found.passed, found.failure()
