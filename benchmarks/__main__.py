"""`python -m benchmarks`: measures, prints one table, writes benchmarks/RESULTS.md."""

import argparse
import signal
import sys
import time

from benchmarks import applications, bringup, compression, scaling, streams, table
from benchmarks.rig import rig
from embedded.errors import UserError
from embedded.java import find_java

STREAMS = ("throughput", "applications", "compression", "scaling", "latency", "idle")
SECTIONS = (*STREAMS, "airflow", "bringup")


def main() -> int:
    """Run the sections that the command line names; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="make bench BENCH_ARGUMENTS=...",
        description="Measure Millrace on this machine, best without other load.",
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections to measure (all)")
    parser.add_argument("--records", type=int, default=5_000_000, help="events of a topic to be read (5,000,000)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each figure (3)")
    parser.add_argument("--latency-seconds", type=float, default=60, help="seconds of each latency run (60)")
    parser.add_argument("--no-write", action="store_true", help="print the table, leave benchmarks/RESULTS.md alone")
    arguments = parser.parse_args()
    # SIGTERM unwinds like Ctrl-C, so that what was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:6.0f} s] {text}", flush=True)

    rows: list[table.Row] = []
    try:
        if set(STREAMS) & set(arguments.only):
            with rig() as running:
                if "throughput" in arguments.only:
                    rows += streams.throughput(running, arguments.records, arguments.runs, say)
                if "applications" in arguments.only:
                    rows += applications.applications(running, arguments.records, arguments.runs, say)
                if "compression" in arguments.only:
                    rows += compression.compression(running, arguments.records, arguments.runs, say)
                if "scaling" in arguments.only:
                    rows += scaling.scaling(running, arguments.records, arguments.runs, say)
                if "latency" in arguments.only:
                    rows += streams.latencies(running, arguments.latency_seconds, arguments.runs, say)
                if "idle" in arguments.only:
                    rows += streams.idle_cost(running, 20, arguments.runs, say)
        if "airflow" in arguments.only:
            rows += bringup.airflow_overhead(arguments.runs, say)
        if "bringup" in arguments.only:
            rows += bringup.bring_up(arguments.runs, say)
    except (RuntimeError, UserError, OSError) as error:
        print(f"make bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make bench: stopped; nothing was written", file=sys.stderr)
        return 130
    table.show(rows)
    if not arguments.no_write:
        table.write(rows, table.machine(f"Java {find_java().version}"))
        print(f"written: {table.RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
