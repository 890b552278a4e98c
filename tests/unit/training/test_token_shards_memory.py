"""Tokenizing takes the memory of its buffers, not of what it reads: measured in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.faults.ledger import FULL

ROOT = Path(__file__).parents[3]
ROWS = 800
"""Of 3 kB of text each: as much as is encoded at once."""
GROWTH = 20
AT_MOST_MIB = 40
"""The buffers take 25 when they are full; the text alone has 50, and its tokens take ten times that."""

MEASURED = """
import re, sys
from pathlib import Path
from tokenizers import Tokenizer, models, pre_tokenizers
from airlab.schema.text import Columns
from airlab.text.pinned_files import local_files, with_footers
from airlab.text.row_ranges import cut_into_ranges
from airlab.training import token_shards
from airlab.training.text_encoder import TextEncoder

folder, hoards = Path(sys.argv[1]), sys.argv[2] == "hoards"
if hoards:
    token_shards._TEXT_AT_ONCE = token_shards._DOCUMENTS_AT_ONCE = 1 << 40
words = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
columns = Columns(text="text", id="id")
where, listed = local_files(folder)
files, groups = zip(*with_footers(where, listed, columns), strict=True)
(part,) = cut_into_ranges(groups, 1 << 40)
source = token_shards.Source(where=where, files=files, ranges=(part,), columns=columns)
kinds = (*token_shards.KINDS, token_shards.IDS)
paths = {kind: folder / kind for kind in kinds}
facts = token_shards.write_shard(source, part, TextEncoder(words, 0, 1), folder / "tokens", paths)
whole = {kind: folder / f"{kind}.whole" for kind in token_shards.KINDS}
counts = token_shards.join_shards(source, [(part, facts, paths)], whole)
assert counts["tokenized"] == part.rows
print(re.findall(r"VmHWM:\\\\s+(\\\\d+) kB", Path("/proc/self/status").read_text())[0])
""".replace("\\\\", "\\")


def peak_mib(folder: Path, rows: int, how: str) -> float:
    """Of a process that tokenizes so many rows as one shard."""
    folder.mkdir()
    texts = [f"{number:06d} " + "some words of a long text " * 120 for number in range(rows)]
    table = pa.table({"id": [str(number) for number in range(rows)], "text": texts})
    pq.write_table(table, folder / "train.parquet", row_group_size=100, use_dictionary=False)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURED, str(folder), how]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
@pytest.mark.skipif(not FULL, reason="three processes read 75 MB; AIRLAB_FAULTS=full")
def test_memory_does_not_grow_with_the_rows_of_a_shard(tmp_path: Path) -> None:
    few = peak_mib(tmp_path / "few", ROWS, "as it is")
    many = peak_mib(tmp_path / "many", GROWTH * ROWS, "as it is")
    hoarding = peak_mib(tmp_path / "hoarding", GROWTH // 2 * ROWS, "hoards")
    assert many - few < AT_MOST_MIB < hoarding - few, (few, many, hoarding)
