"""A GGUF file made by somebody else: its numbers are held against its bytes before a library reads it."""

import struct
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest

from airlab.errors import UserError
from airlab.models.convert import convert_gguf
from airlab.models.gguf_file import check_gguf
from tests.faults.ledger import count

U32, TEXT, LIST = 4, 8, 9
Setting = tuple[bytes, int, bytes]
Tensor = tuple[bytes, Sequence[int], int, int]
"""Name, shape, kind, and where it begins."""


def text(value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if length is None else length) + value


def header(
    settings: Sequence[Setting] = (),
    tensors: Sequence[Tensor] = (),
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    n_tensors: int | None = None,
    n_settings: int | None = None,
    dimensions: int | None = None,
) -> bytes:
    made = magic + struct.pack("<I", version)
    made += struct.pack("<Q", len(tensors) if n_tensors is None else n_tensors)
    made += struct.pack("<Q", len(settings) if n_settings is None else n_settings)
    for name, kind, value in settings:
        made += text(name) + struct.pack("<I", kind) + value
    for name, shape, kind, place in tensors:
        made += text(name) + struct.pack("<I", len(shape) if dimensions is None else dimensions)
        made += b"".join(struct.pack("<Q", size) for size in shape) + struct.pack("<IQ", kind, place)
    return made + bytes(-len(made) % 32) + data


def u32(name: bytes, value: int) -> Setting:
    return name, U32, struct.pack("<I", value)


GOOD = [(b"a", (32,), 0, 0), (b"b", (32,), 0, 128)]

HOSTILE = {
    "nothing": b"",
    "another file": header(magic=b"PK\3\4"),
    "only a name": b"GGUF",
    "an unknown version": header(version=99),
    "2^63 tensors": header(n_tensors=2**63),
    "10^9 tensors": header(n_tensors=10**9),
    "2^64 settings": header(n_settings=2**64 - 1),
    "a text of 2^63 bytes": header([(b"k", TEXT, text(b"", 2**63))]),
    "a name of 2^62 bytes": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text(b"", 2**62) + bytes(99),
    "a name that is no text": header([u32(b"\xff\xfe", 1)]),
    "a list of 2^60 numbers": header([(b"k", LIST, struct.pack("<IQ", U32, 2**60))]),
    "a list of 2^60 texts": header([(b"k", LIST, struct.pack("<IQ", TEXT, 2**60))]),
    "lists inside of lists": header([(b"k", LIST, struct.pack("<IQ", LIST, 2) * 1000)]),
    "an unknown setting": header([(b"k", 77, b"")]),
    "10^9 layers": header([u32(b"llama.block_count", 10**9)], GOOD, bytes(256)),
    "no layers": header([u32(b"llama.block_count", 0)], GOOD, bytes(256)),
    "tensors no bytes apart": header([u32(b"general.alignment", 0)], GOOD, bytes(256)),
    "tensors over each other": header((), [GOOD[0], (b"b", (32,), 0, 64)], bytes(256)),
    "a tensor beyond the end": header((), [(b"a", (32,), 0, 2**40)], bytes(128)),
    "a tensor that is too long": header((), [(b"a", (2**40,), 0, 0)], bytes(128)),
    "a shape of 2^189": header((), [(b"a", (2**63, 2**63, 2**63), 0, 0)], bytes(128)),
    "2^31 dimensions": header((), GOOD[:1], bytes(128), dimensions=2**31),
    "no dimensions": header((), [(b"a", (), 0, 0)], bytes(128)),
    "an unknown kind of tensor": header((), [(b"a", (32,), 4242, 0)], bytes(128)),
    "half a block": header((), [(b"a", (33,), 2, 0)], bytes(128)),
    "cut short": header((), GOOD, bytes(255)),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_made_up_header_is_refused_before_it_is_believed(tmp_path: Path, case: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(HOSTILE[case])
    with pytest.raises(UserError, match=r"is not a (whole )?GGUF file"):
        convert_gguf(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    count("hostile", "GGUF headers that were made up: refused", inputs=1)


def test_what_the_library_writes_passes(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(2)
    writer.add_token_list(["a", "b"])
    writer.add_array("scores", [0.5, 1.5])
    writer.add_tensor("first", np.zeros((4, 32), np.float32))
    writer.add_tensor("second", np.zeros((4, 18), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    check_gguf(path)
    whole = path.read_bytes()
    for kept in range(0, len(whole) - 64, 41):  # padding at the end may be missing
        path.write_bytes(whole[:kept])
        with pytest.raises(UserError):
            check_gguf(path)
    count("hostile", "GGUF headers that were made up: refused", inputs=len(range(0, len(whole) - 64, 41)))


def test_a_true_header_with_nothing_that_is_a_model_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(header([(b"general.architecture", TEXT, text(b"evil"))], GOOD, bytes(256)))
    with pytest.raises(UserError, match="cannot be converted"):
        convert_gguf(path, tmp_path / "out")
    count("hostile", "GGUF headers that were made up: refused", inputs=1)
