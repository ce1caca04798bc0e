"""`python -m benchmarks`: measures, prints one table, writes benchmarks/RESULTS.md."""

import argparse
import signal
import sys
import time
from collections.abc import Callable

from benchmarks import applications, bringup, compression, scaling, streams, table
from benchmarks.rig import Rig, rig
from embedded.errors import UserError
from embedded.java import find_java

# In the order in which they are measured; each is given a rig, the command line's arguments and `say`.
ON_A_RIG: dict[str, Callable[[Rig, argparse.Namespace, streams.Say], list[table.Row]]] = {
    "throughput": lambda rig, given, say: streams.throughput(rig, given.records, given.runs, say),
    "applications": lambda rig, given, say: applications.applications(rig, given.records, given.runs, say),
    "compression": lambda rig, given, say: compression.compression(rig, given.records, given.runs, say),
    "scaling": lambda rig, given, say: scaling.scaling(rig, given.records, given.runs, say),
    "latency": lambda rig, given, say: streams.latencies(rig, given.latency_seconds, given.runs, say),
    "idle": lambda rig, given, say: streams.idle_cost(rig, 20, given.runs, say),
}
SECTIONS = (*ON_A_RIG, "airflow", "bringup")


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
        wanted = [measure for section, measure in ON_A_RIG.items() if section in arguments.only]
        if wanted:
            with rig() as running:
                for measure in wanted:
                    rows += measure(running, arguments, say)
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
