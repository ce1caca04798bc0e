"""What the command line of recovery takes, and how offsets are written there."""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamkit.recovery import RecoveryError
from streamkit.recovery.layout import Positions

_EPILOG = """examples:
  python -m streamkit.checkpoint inspect .millrace/storage/checkpoints/event-windows
  python -m streamkit.checkpoint --settings spark-apps/event-windows/settings.yaml check
  python -m streamkit.checkpoint --settings spark-apps/event-windows/settings.yaml rewind --to-batch 12 --dry-run

exit status: 0 done, or all is sound; 1 something is not, or was refused; 2 it can't be done as asked.
docs/recovery.md says which command helps against which symptom.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m streamkit.checkpoint",
        description="Look into checkpoints, judge them, take them back.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--settings", metavar="FILE", help="the app's settings.yaml: says where checkpoint, topic, table are"
    )
    top.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE", help="override one setting")
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    one = _command(
        commands, "inspect", "show batches, offsets, commits, state, size, age; status 1 if one is not clean"
    )
    one.add_argument("--batches", type=int, default=10, metavar="N", help="how many of the newest batches (default 10)")
    one = _command(commands, "check", "say what is not sound, one sentence each")
    _judged(one)
    one = _command(commands, "state", "show rows of a query's state")
    one.add_argument("--operator", type=int, metavar="N", help="only this operator's (default: all)")
    one.add_argument("--store", metavar="NAME", help="only this store's (default: all)")
    one.add_argument("--batch", type=int, metavar="N", help="as it was after this batch (default: the newest)")
    one.add_argument("--limit", type=int, default=20, metavar="N", help="rows to show of each store (default 20)")
    one = _command(commands, "rewind", "go back to the end of a batch, or to offsets, after a backup")
    _judged(one)
    goal = one.add_mutually_exclusive_group(required=True)
    goal.add_argument("--to-batch", type=int, metavar="N", help="the batch that is to be the newest")
    goal.add_argument(
        "--to-offsets",
        nargs="+",
        metavar="OFFSETS",
        help="without state only: topic:partition:offset..., or a JSON file {topic: {partition: offset}}",
    )
    one.add_argument("--keep-table", action="store_true", help="leave the Delta table as it is")
    one.add_argument("--dry-run", action="store_true", help="show the plan, change nothing")
    one.add_argument("--yes", action="store_true", help="don't ask")
    claim = one.add_mutually_exclusive_group(required=True)
    claim.add_argument("--lock", type=Path, metavar="FILE", help="the app's lock, apps/<name>/lock of MILLRACE_HOME")
    claim.add_argument(
        "--claimed", action="store_true", help="for whoever holds the app already (python -m millrace.recovery)"
    )
    return top


def _command(commands: Any, name: str, help_text: str) -> argparse.ArgumentParser:
    one = commands.add_parser(name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.")
    one.add_argument(
        "path", nargs="?", help="a query's checkpoint, or a folder of several (local or any Hadoop address)"
    )
    one.add_argument("--query", metavar="NAME", help="only this query's (default: all that are there)")
    one.add_argument("--json", action="store_true", help="JSON, one object a line")
    one.add_argument("--output", metavar="PATH", help="write the result to this file too, as JSON")
    return one


def _judged(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--bootstrap-servers", metavar="HOST:PORT", help="compare offsets with the topics (default: settings)"
    )
    one.add_argument("--offline", action="store_true", help="don't ask the broker")
    one.add_argument("--table", metavar="PATH", help="the Delta table that the query writes (default: settings)")


def parse_offsets(texts: Sequence[str]) -> Positions:
    """Return the offsets that the command line names. Raises RecoveryError."""
    positions: Positions = {}
    for text in texts:
        if match := re.fullmatch(r"([A-Za-z0-9._-]+):(\d+):(\d+)", text):
            positions.setdefault(match[1], {})[int(match[2])] = int(match[3])
            continue
        try:
            document = json.loads(Path(text).read_text(encoding="utf-8"))
            for topic, partitions in document.items():
                positions.setdefault(topic, {}).update({int(p): int(offset) for p, offset in partitions.items()})
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise RecoveryError(
                f"--to-offsets {text}: is neither topic:partition:offset nor a JSON file "
                f"{{topic: {{partition: offset}}}} ({error})"
            ) from error
    return positions
