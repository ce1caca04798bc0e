"""How far a query's checkpoint says it has come: the offsets of its newest batch that is finished."""

import json
from collections.abc import Mapping

from millrace import storage
from millrace.errors import TemporaryError


def committed_offsets(application: str, query: str, topic: str) -> dict[int, int]:
    """Return the next offset of each partition of `topic` after the newest finished batch; empty before the first.

    Raises TemporaryError if the storage can't be read or its files are not those of Spark.
    """
    place = ("checkpoints", application, query)
    try:
        commits = storage.path(*place, "commits")
        finished = [int(file.name) for file in commits.iterdir() if file.name.isdecimal()] if commits.exists() else []
        if not finished:
            return {}
        text = storage.path(*place, "offsets", str(max(finished))).read_text()
        offsets: dict[int, int] = {}
        # A version, the batch's metadata, then one line of JSON for each source.
        for line in text.splitlines()[2:]:
            for partition, offset in (json.loads(line) if line.startswith("{") else {}).get(topic, {}).items():
                offsets[int(partition)] = max(int(offset), offsets.get(int(partition), 0))
    except (OSError, ValueError, AttributeError) as error:
        raise TemporaryError(f"The checkpoint {storage.url(*place)} can't be read: {error}; look into it.") from error
    return offsets


def shortfall(application: str, query: str, topic: str, end_offsets: Mapping[int, int]) -> str:
    """Say how many records up to `end_offsets` the finished batches lack, or return an empty string."""
    offsets = committed_offsets(application, query, topic)
    behind = sum(max(0, end - offsets.get(partition, 0)) for partition, end in end_offsets.items())
    return f"{query} has {behind:,} of {sum(end_offsets.values()):,} records before it" if behind else ""
