"""Runs a trigger as the triggerer does, while the test changes what it waits for."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress
from importlib import import_module
from typing import Any

from millrace.triggers.base import PollingTrigger
from tests.control_plane.conftest import eventually


class Waiting:
    """A trigger that runs in an event loop of its own."""

    def __init__(self, trigger: PollingTrigger) -> None:
        self.trigger = trigger
        self._polls = 0
        self._payload: dict[str, Any] | None = None
        poll = trigger.poll

        def counted() -> dict[str, Any] | None:
            try:
                return poll()
            finally:
                self._polls += 1

        trigger.poll = counted  # type: ignore[method-assign]
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._run())
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._task,), daemon=True)
        self._thread.start()

    async def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            async with aclosing(self.trigger.run()) as events:  # type: ignore[type-var]
                self._payload = (await anext(events)).payload

    def goes_on(self, polls: int = 2) -> None:
        """It has looked again, begun after now, and waits still."""
        wanted = self._polls + polls + 1  # one may be under way, and has seen the old state
        eventually(lambda: self._polls >= wanted or self._payload)
        assert self._payload is None, self._payload

    def event(self) -> dict[str, Any]:
        """What the trigger fires with."""
        eventually(lambda: self._payload)
        assert self._payload is not None
        return self._payload

    def killed(self) -> tuple[str, dict[str, Any]]:
        """End it as a triggerer that ends does; return what the database keeps of it."""
        kept = self.trigger.serialize()
        self.end()
        return kept

    def end(self) -> None:
        if self._loop.is_closed():
            return
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(60)
            assert not self._thread.is_alive()
        self._loop.close()


@contextmanager
def waiting(trigger: PollingTrigger) -> Iterator[Waiting]:
    running = Waiting(trigger)
    try:
        yield running
    finally:
        running.end()


def made_again(kept: tuple[str, dict[str, Any]]) -> PollingTrigger:
    """Make a trigger of what the database kept, as another triggerer does."""
    path, arguments = kept
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)(**arguments)
