"""``python -m k8s.install``."""

import sys

from k8s.install.cli import main

if __name__ == "__main__":
    sys.exit(main())
