"""The command line: `python -m new_pipeline my_pipeline`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from new_pipeline.errors import PipelineError
from new_pipeline.layout import plan
from new_pipeline.writing import write

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Lay down a pipeline; 2 if that can't be done."""
    parser = argparse.ArgumentParser(
        prog="python -m new_pipeline",
        description="Lay down a pipeline of your own: DAG, Spark app, contract, topics, and tests that pass at once.",
    )
    parser.add_argument("name", help="such as my_pipeline: lower case letters, digits, underscores")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be written")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="FOLDER", help="the repository (default: this one)")
    given = parser.parse_args(arguments)
    try:
        layout = plan(given.name, given.root)
        if not given.dry_run:
            write(layout, given.root)
    except PipelineError as error:
        print(error, file=sys.stderr)
        return 2
    for verb, files in (("new", layout.new), ("changed", layout.changed)):
        for path in files:
            print(f"{verb:8}{path}")
    if given.dry_run:
        print("Nothing is written: that was a dry run.")
        return 0
    app = given.name.replace("_", "-")
    print(f"\nTry it:   python -m pytest tests/dags/test_{given.name}.py tests/unit/apps/test_{given.name}.py")
    print(f"Run it:   make up, then start the DAG {given.name} in Airflow's UI")
    print(f"Go on in: spark-apps/{app}/README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
