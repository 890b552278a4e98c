"""Ten thousand stages in one plan, half of them there: listed at once, not after an hour."""

import subprocess
import sys
from pathlib import Path

from tests.faults.ledger import FULL, count

STAGES = 10_000 if FULL else 2_000
HANGS_S = 300
"""What ends a plan that is quadratic; one that is not takes seconds."""

CODE = """
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from airlab.store.plan import Plan
from airlab.store.stage import Stage
from airlab.store.store import Store

@dataclass(frozen=True)
class Number(Stage):
    VERSION: ClassVar[int] = 1
    n: int
    before: Stage | None = None

n = int(sys.argv[2])
wide = [Number(k) for k in range(n // 2)]
deep = None
for k in range(n // 2):
    deep = Number(k, deep) if k else Number(n)
store = Store(Path(sys.argv[1]))
for stage in wide[: n // 4]:
    store.part(stage).mkdir(parents=True)
rows = Plan(store, [*wide, deep]).explain()
print(len(rows), sum(row.status == "partial" for row in rows))
"""


def test_a_plan_of_many_stages_wide_and_deep(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CODE, str(tmp_path), str(STAGES)]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=HANGS_S)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [str(STAGES), str(STAGES // 4)]
    count("load", f"{STAGES:,} stages in one plan, wide and in a chain", inputs=STAGES)
