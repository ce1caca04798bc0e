"""The command `replay-dead-letters`."""

import argparse
from collections.abc import Callable
from typing import Any

from ingest.commands import AddFeed, Instant, Producer
from ingest.letters import Wanted, parse_offsets
from ingest.progress import Progress
from ingest.replay_letters import LetterSettings, replay_letters
from ingest.sender import StopRequest

EXAMPLES = """examples:
  # what is there, and why; nothing is sent
  python -m ingest replay-dead-letters --topic events-dead-letter --dry-run
  # what an unknown version kept out, now that its contract is rolled out
  python -m ingest replay-dead-letters --topic events-dead-letter --reason "unknown schema_version"
  # what came to one partition on one day
  python -m ingest replay-dead-letters --partition 0 --since 2026-01-01T00:00:00Z --until 2026-01-02T00:00:00Z

Each record goes back to the topic and partition that it came from, with its key, value and headers as they were,
and a header replayed-from. What was replayed is remembered in the consumer group
millrace-ingest-replay-<topic>, and never sent again unless --again asks for it. A record that its topic does not
take, being too large, is named, and the exit status is 1; so is one without a header that says where it came from.
"""


def add(
    commands: Any,
    feed: AddFeed,
    producer: Producer,
    progress: Callable[[argparse.Namespace], Progress],
    instant: Instant,
) -> None:
    """Add the command to the command line of ingest."""
    help_text = "send dead letters back to where they came from, each once"
    one = feed(commands, "replay-dead-letters", help_text, EXAMPLES, "events-dead-letter")
    one.add_argument("--reason", action="append", default=[], metavar="TEXT", help="part of the reason; repeatable")
    one.add_argument("--since", type=instant, metavar="INSTANT", help="dead letters written then or later")
    one.add_argument("--until", type=instant, metavar="INSTANT", help="dead letters written before then")
    one.add_argument(
        "--partition",
        action="append",
        default=[],
        type=int,
        metavar="N",
        help="of the dead-letter topic; repeatable (default: all)",
    )
    one.add_argument("--offsets", metavar="FIRST-LAST", help="of the dead-letter topic, both included")
    one.add_argument("--group", default="", metavar="NAME", help="consumer group that remembers")
    one.add_argument("--again", action="store_true", help="also what was replayed before")
    one.add_argument("--dry-run", action="store_true", help="count, and send nothing")

    def run(arguments: argparse.Namespace, stop: StopRequest) -> dict[str, Any]:
        settings = LetterSettings(
            producer=producer(arguments),
            topic=arguments.topic,
            wanted=Wanted(
                reasons=tuple(arguments.reason),
                since=arguments.since,
                until=arguments.until,
                partitions=tuple(arguments.partition),
                offsets=parse_offsets(arguments.offsets) if arguments.offsets else None,
            ),
            group=arguments.group,
            dry_run=arguments.dry_run,
            again=arguments.again,
        )
        return replay_letters(settings, stop, progress(arguments))

    one.set_defaults(run=run)
