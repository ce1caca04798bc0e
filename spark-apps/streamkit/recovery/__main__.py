"""`python -m streamkit.recovery`, and what a target submits in the place of an app's own main file."""

import sys

from streamkit.recovery.cli import main

if __name__ == "__main__":
    sys.exit(main())
