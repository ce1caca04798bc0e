"""Checkpoints that real, short queries leave: of a stateful one by Spark, of Kafka's sources written as Spark does."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

_STATE = "spark.sql.streaming.stateStore"
ROCKSDB = {
    f"{_STATE}.providerClass": "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
    ),
    "spark.sql.shuffle.partitions": "2",
}
CHANGELOG = f"{_STATE}.rocksdb.changelogCheckpointing.enabled"


class Counting:
    """A query that counts words: each file of its input folder is a batch."""

    def __init__(self, spark: SparkSession, folder: Path, *, changelog: bool = True) -> None:
        self.spark = spark
        self.input = folder / "input"
        self.input.mkdir(parents=True)
        self.checkpoint = folder / "app/words"
        self.changelog = changelog
        self.results: dict[str, int] = {}
        self.batches: list[int] = []

    def add(self, *files: Sequence[str]) -> None:
        """Put files of words, oldest first, into the input."""
        there = len(list(self.input.iterdir()))
        for number, words in enumerate(files, there):
            path = self.input / f"{number:03}.json"
            path.write_text("".join(json.dumps({"word": word}) + "\n" for word in words))
            os.utime(path, (1_000_000_000 + number, 1_000_000_000 + number))

    def run(self) -> None:
        """Run until all of the input is read."""
        conf = {**ROCKSDB, CHANGELOG: str(self.changelog).lower()}
        before = {name: self.spark.conf.get(name, None) for name in conf}
        for name, value in conf.items():
            self.spark.conf.set(name, value)
        try:
            words = self.spark.readStream.schema("word string").option("maxFilesPerTrigger", 1).json(str(self.input))
            writer = words.groupBy("word").count().writeStream.outputMode("update").foreachBatch(self._take)
            writer = writer.option("checkpointLocation", f"file://{self.checkpoint}").trigger(availableNow=True)
            writer.start().awaitTermination(120)
        finally:
            for name, old in before.items():
                if old is None:
                    self.spark.conf.unset(name)
                else:
                    self.spark.conf.set(name, old)

    def _take(self, rows: DataFrame, batch: int) -> None:
        self.batches.append(batch)
        self.results.update({row["word"]: row["count"] for row in rows.collect()})


def kafka_checkpoint(
    path: Path, ends: Sequence[dict[str, dict[str, int]]], sources: int = 1, commits: int = -1
) -> Path:
    """A stateless query's checkpoint on Kafka: each batch ends where `ends` says, in every source alike."""
    for folder in ("offsets", "commits", "sources/0"):
        (path / folder).mkdir(parents=True)
    (path / "metadata").write_text('{"id":"11111111-1111-1111-1111-111111111111"}')
    (path / "sources/0/0").write_text(
        "\0v1\n" + json.dumps({topic: dict.fromkeys(p, 0) for topic, p in ends[0].items()})
    )
    for batch, end in enumerate(ends):
        about = {"batchWatermarkMs": 0, "batchTimestampMs": 1_700_000_000_000 + batch * 1000, "conf": {}}
        lines = ["v1", json.dumps(about), *[json.dumps(end)] * sources]
        (path / f"offsets/{batch}").write_text("\n".join(lines))
        if commits < 0 or batch < commits:
            (path / f"commits/{batch}").write_text('v1\n{"nextBatchWatermarkMs":0}')
    return path


def fingerprint(folder: Path) -> dict[str, str]:
    """What every file of a folder holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
