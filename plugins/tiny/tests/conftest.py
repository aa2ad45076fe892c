"""The corpus generator lies beside the package, not in it: put it where the tests find it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
