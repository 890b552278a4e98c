"""`benchmarks/` is no package of airlab's: it is run from its own folder, and imported here from there."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
