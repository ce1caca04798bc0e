"""From started queries to exit status: runs until told to stop, stops without leaving a batch half done."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.streaming import DataStreamWriter, StreamingQuery

from streamkit import http_endpoint
from streamkit.checkpoint import HadoopFiles, inspect, unfinished_rewinds
from streamkit.contracts import Contract, ContractError, load_contract
from streamkit.errors import first_line, java_line
from streamkit.kafka import KafkaError
from streamkit.logs import LOGGER, set_up_logs
from streamkit.partitions import PartitionWatch
from streamkit.session import create_session
from streamkit.settings import AppSettings, SettingsError, parse_arguments
from streamkit.settings_loader import duration_ms
from streamkit.telemetry import Telemetry

BuildQueries = Callable[[SparkSession, AppSettings, Contract], Sequence[DataStreamWriter]]

POLL_SECONDS = 0.5
TERMINATION_SECONDS = 25
"""How long SIGTERM waits for a graceful stop: below Kubernetes' 30 s grace period."""


def main(build: BuildQueries) -> None:
    """Run an app: read settings from the command line, start the queries that `build` returns, run until stopped.

    Ends the process: 0 after a graceful stop, 1 if a query failed, 2 for bad settings; one log line says why.
    """
    set_up_logs()
    try:
        settings = parse_arguments()
        set_up_logs(app=settings.application, topic=settings.source.topic)
        contract = load_contract(settings.source.contract)
        telemetry = Telemetry(settings.application)
        server = http_endpoint.serve(telemetry, *http_endpoint.address())
    except (SettingsError, ContractError) as error:
        LOGGER.error(str(error))
        sys.exit(2)
    LOGGER.info("serving metrics", extra={"fields": {"port": server.server_port}})
    spark = create_session(settings)
    spark.streams.addListener(telemetry)
    stop = StopRequest(spark, settings)
    watch = PartitionWatch(spark, settings)
    try:
        status = run(spark, settings, build(spark, settings, contract), stop, watch)
    except SettingsError as error:
        LOGGER.error(str(error))
        status = 2
    except KafkaError as error:
        LOGGER.error(str(error))
        status = 1
    except (PySparkException, Py4JError) as error:  # also of what `build` asks the checkpoint
        LOGGER.error("cannot go on: %s", first_line(error))
        status = 1
    watch.close()
    stop.end()
    server.shutdown()
    spark.stop()
    sys.exit(status)


class StopRequest:
    """Whether somebody asked for a graceful stop: by the stop file, SIGTERM or SIGINT."""

    def __init__(self, spark: SparkSession, settings: AppSettings) -> None:
        self._files = HadoopFiles(spark)
        self._file = settings.stop_file
        self._asked = threading.Event()
        self._done = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._asked.set())
        self._hook_into_jvm(spark)

    def _hook_into_jvm(self, spark: SparkSession) -> None:
        """Stop gracefully when the JVM is told to end: it gets the signal, as the process that started this one."""
        request = self

        class Hook:
            def run(self) -> None:
                request._asked.set()
                request._done.wait(TERMINATION_SECONDS)

            class Java:
                implements = ("java.lang.Runnable",)

        from pyspark.java_gateway import ensure_callback_server_started  # noqa: PLC0415

        jvm: Any = spark.sparkContext._jvm
        ensure_callback_server_started(spark.sparkContext._gateway)
        # Above Spark's own hook, which would end the context first.
        priority = 1000
        manager = jvm.org.apache.hadoop.util.ShutdownHookManager.get()
        # A Thread round the proxy, because the manager asks its hooks for hashCode and equals, which the proxy has not.
        hook = jvm.java.lang.Thread(Hook())
        self._remove_hook = lambda: manager.removeShutdownHook(hook)
        manager.addShutdownHook(hook, priority, TERMINATION_SECONDS + 2, jvm.java.util.concurrent.TimeUnit.SECONDS)

    def end(self) -> None:
        """Let the process end: nobody waits for a graceful stop any longer."""
        self._done.set()
        with suppress(Py4JError):  # the JVM is ending already, and the hook is running
            self._remove_hook()

    def __call__(self) -> bool:
        """Return whether to stop."""
        return self._asked.is_set() or self._files.exists(self._file)


def trigger_options(settings: AppSettings) -> dict[str, str]:
    """Return the arguments of `DataStreamWriter.trigger`."""
    kind = "realTime" if settings.mode == "real-time" else "processingTime"
    return {kind: settings.trigger}


def run(
    spark: SparkSession,
    settings: AppSettings,
    writers: Sequence[DataStreamWriter],
    stop: Callable[[], bool],
    outdated: Callable[[], str] = str,
) -> int:
    """Start the queries and follow them until `stop()` says so or one fails. Returns the exit status.

    If `outdated()` gives a reason why another driver has to take over, the queries are stopped gracefully, and the
    status is 1, so that one is started.

    Raises:
        PySparkException, Py4JError: a query can't be started, or the storage can't be read.
    """
    queries: dict[str, tuple[DataStreamWriter, StreamingQuery]] = {}
    if half_done := unfinished_rewinds(HadoopFiles(spark).list(f"{settings.checkpoint_base}/{settings.application}")):
        LOGGER.error("cannot go on: a rewind of %s did not finish: ask for it again first", ", ".join(half_done))
        return 1
    for writer in writers:
        query = writer.trigger(**trigger_options(settings)).start()
        queries[query.name] = (writer, query)
    while not stop():
        for _, query in queries.values():
            if not query.isActive:
                return _failed(query)
        if reason := outdated():
            LOGGER.error(reason)
            _stop_gracefully(spark, settings, queries)
            return 1
        time.sleep(POLL_SECONDS)
    return _stop_gracefully(spark, settings, queries)


def _failed(query: StreamingQuery) -> int:
    # The Java exception itself, as PySpark's holds the text only, with the whole plan in it.
    error: Any = query._jsq.exception()
    why = java_line(error.get()) if error.isDefined() else "it ended without being asked to"
    LOGGER.error("query %s failed: %s", query.name, why, extra={"fields": {"query": query.name}})
    return 1


def between_batches(query: StreamingQuery) -> bool:
    """Return whether a query that is stopped now leaves no batch half done.

    Under load the next trigger begins as the last one ends, so the moment to catch is when it asks the sources what is
    new: only after that is a batch planned.
    """
    status = query.status
    return not status["isTriggerActive"] or status["message"].startswith("Getting offsets from")


def _stop_gracefully(
    spark: SparkSession, settings: AppSettings, queries: dict[str, tuple[DataStreamWriter, StreamingQuery]]
) -> int:
    """Stop every query between two batches; finish a batch that began all the same."""
    patience = duration_ms(settings.stop_timeout) / 1000
    deadline = time.monotonic() + patience
    LOGGER.info("stopping")
    for _, query in queries.values():
        while query.isActive and not between_batches(query) and time.monotonic() < deadline:
            time.sleep(0.002)
        query.stop()
    files = HadoopFiles(spark)
    status = 0
    for name, (writer, query) in queries.items():
        if query.exception():
            status = _failed(query)
            continue
        if not inspect(settings.checkpoint(name), files.list).clean:
            LOGGER.info("finishing the interrupted batch", extra={"fields": {"query": name}})
            last = writer.trigger(once=True).start()
            if not last.awaitTermination(max(1, round(patience))):
                last.stop()
        state = inspect(settings.checkpoint(name), files.list)
        fields = {"query": name, "planned": state.planned, "finished": state.finished, "clean": state.clean}
        LOGGER.log(20 if state.clean else 40, "stopped", extra={"fields": fields})
        status = status or (0 if state.clean else 1)
    return status
