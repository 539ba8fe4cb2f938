"""``python -m Agg2ExpLib.cli``, and what the Slicer panel runs by its path in a child process."""

import sys
from pathlib import Path

# When run by path, the library's parent folder is not on the path.
if __package__ in (None, ""):
    # This folder is, though, and the names in it must not hide other packages.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from Agg2ExpLib.cli import main

if __name__ == "__main__":
    sys.exit(main())
