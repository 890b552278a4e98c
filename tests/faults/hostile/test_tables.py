"""Parquet of somebody else whose footer says what cannot be: a sentence, and neither memory nor time."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airlab.errors import UserError
from airlab.schema.text import Columns
from airlab.text.quarantine import Quarantine
from airlab.text.readers import read_rows
from airlab.text.records import Lost, open_parquet
from tests.faults.ledger import count
from tests.unit.cli.conftest import Refused

TEXTS = pa.table({"id": ["a", "b"], "text": ["x y", "z"]})
SCORES = pa.table(
    {
        "id": ["a", "b"],
        "domain": ["x", "x"],
        "n_tokens": [5, 6],
        **{name: [1.0, 2.0] for name in ("loss_base", "loss_ref", "entropy", "attention_influence")},
    }
)


def variable(number: int) -> bytes:
    """As Thrift's compact protocol writes a number."""
    rest = bytearray()
    while number > 127:
        rest.append(number & 127 | 128)
        number >>= 7
    return bytes([*rest, number])


def whole(before: bytes, footer: bytes) -> bytes:
    return before + footer + struct.pack("<I", len(footer)) + b"PAR1"


def of_table(table: pa.Table) -> tuple[bytes, bytes]:
    """What comes before the footer, and the footer."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, store_schema=False, write_statistics=False)
    data = sink.getvalue().to_pybytes()
    footer = struct.unpack("<I", data[-8:-4])[0]
    return data[: -8 - footer], data[-8 - footer : -8]


def rows(number: int) -> Callable[[pa.Table], bytes]:
    """A file of two rows that says everywhere it has so many; signed numbers are written doubled."""

    def change(table: pa.Table) -> bytes:
        before, footer = of_table(table)
        assert footer.count(b"\x16\x04") >= 4
        return whole(before, footer.replace(b"\x16\x04", b"\x16" + variable(2 * number)))

    return change


def nested(levels: int) -> Callable[[pa.Table], bytes]:
    """No rows, and a column in a group in a group."""

    def change(_: pa.Table) -> bytes:
        group = b"\x35\x00\x18\x01a\x15\x02\x00"  # required, named a, with one child
        text = b"\x15\x0c\x25\x00\x18\x04text\x00"
        schema = b"\x19\xfc" + variable(levels + 1) + group * levels + text
        return whole(b"PAR1", b"\x15\x04" + schema + b"\x16\x00\x19\x0c\x00")

    return change


def length(said: int) -> Callable[[pa.Table], bytes]:
    return lambda table: b"".join(of_table(table)) + struct.pack("<I", said) + b"PAR1"


CHANGES: dict[str, Callable[[pa.Table], bytes]] = {
    "2^60 rows": rows(2**60),
    "2^31 rows": rows(2**31),
    "10^4 levels": nested(10**4),
    "10^6 levels": nested(10**6),
    "a footer of 4 GB": length(2**32 - 1),
    "a footer of nothing": length(0),
    "half a footer": length(50),
    "no footer": lambda table: of_table(table)[0],
    "no length": lambda table: whole(*of_table(table))[:-6],
    "a footer of zeros": lambda table: whole(of_table(table)[0], bytes(99)),
    "nothing": lambda _: b"",
    "marks alone": lambda _: b"PAR1PAR1",
}


@pytest.mark.parametrize("case", CHANGES)
def test_texts_of_an_absurd_table_are_refused(tmp_path: Path, case: str) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(CHANGES[case](TEXTS))
    with pytest.raises(UserError, match=r"is not a readable Parquet file \("):
        list(read_rows(path, "parquet", Columns()))
    with pytest.raises(UserError, match="is not a readable"), Quarantine(tmp_path / "q.parquet") as sieve:
        list(read_rows(path, "parquet", Columns(), sieve))  # and no 2^60 rows are told of
    count("hostile", "Parquet tables with absurd footers: refused", inputs=1)


@pytest.mark.parametrize("case", CHANGES)
def test_scores_of_an_absurd_table_are_refused(refused: Refused, case: str) -> None:
    Path("scores.parquet").write_bytes(CHANGES[case](SCORES))
    for selector in ("attention_influence", "rank_sum"):
        told = refused("select", "scores=scores.parquet", "output=out.parquet", f"selector={selector}")
        assert "scores.parquet is not a Parquet file; give a table made by `airlab score`" in told
    assert "is not a Parquet file" in refused("weigh", "scores=scores.parquet", "output=out.parquet")
    count("hostile", "Parquet tables with absurd footers: refused", inputs=1)


@pytest.mark.parametrize("selector", ["attention_influence", "random"])
def test_scores_that_end_before_the_footer_says_so_are_refused(refused: Refused, selector: str) -> None:
    """Parquet's reader gives the rows that there are and says nothing."""
    Path("scores.parquet").write_bytes(rows(3)(SCORES))
    told = refused("select", "scores=scores.parquet", "output=out.parquet", f"selector={selector}")
    assert "scores.parquet holds 2 of its 3 rows; give a table made by `airlab score`" in told
    count("hostile", "Parquet tables with absurd footers: refused", inputs=1)


def test_only_what_was_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(rows(2)(TEXTS))
    assert [row.text for row in read_rows(path, "parquet", Columns())] == ["x y", "z"]
    path.write_bytes(nested(2)(TEXTS))
    assert pq.read_schema(path).names == ["a"]


def test_a_table_of_one_row_over_and_over_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    number = 10**6
    texts = pa.DictionaryArray.from_arrays(np.zeros(number, dtype=np.int32), ["x"])
    pq.write_table(pa.table({"text": texts}), path, compression="zstd")
    with open_parquet(path) as (_, batches):
        assert sum(0 if isinstance(batch, Lost) else batch.num_rows for batch in batches(["text"])) == number
