"""Whether the header of a GGUF file can be true, before a library believes it.

A header of a few bytes can promise 2^63 tensors or texts. Here every number is held against the bytes that
are there: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from math import prod
from pathlib import Path
from typing import BinaryIO

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from airlab.errors import UserError

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
"""Kinds of value with a fixed width, as `struct` writes them."""
_TEXT, _LIST = 8, 9
_VERSIONS = (2, 3)
_ALIGNMENT = 32
"""Of the tensors, where the file says nothing else."""
_MOST_DIMENSIONS = 4
_LEAST_KEY_BYTES = 8 + 4 + 1
_LEAST_TENSOR_BYTES = 8 + 4 + 4 + 8


class _Broken(Exception):
    """What cannot be true."""


def check_gguf(path: Path) -> None:
    """Refuse a GGUF file whose header does not fit the file.

    Raises:
        UserError: it is no GGUF file, or one that is damaged or made up.
    """
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise UserError(
                f"{path} is not a GGUF file; give a GGUF file or a folder in the Hugging Face format."
            )
        try:
            _check(_Header(stream, path.stat().st_size))
        except _Broken as error:
            raise UserError(f"{path} is not a whole GGUF file ({error}); download it again.") from None


class _Header:
    """Reads forwards, and never more than there is."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream, self.size = stream, size

    @property
    def left(self) -> int:
        return self.size - self.stream.tell()

    def bytes(self, count: int) -> bytes:
        if count > self.left:
            raise _Broken(f"it ends where {count} more bytes should be")
        return self.stream.read(count)

    def number(self, kind: str) -> int:
        found: int = struct.unpack("<" + kind, self.bytes(struct.calcsize(kind)))[0]
        return found

    def text(self) -> str:
        try:
            return self.bytes(self.number("Q")).decode()
        except UnicodeDecodeError:
            raise _Broken("a name is no text") from None

    def skip(self, count: int) -> None:
        if count > self.left:
            raise _Broken(f"it ends where {count} more bytes should be")
        self.stream.seek(count, 1)


def _check(header: _Header) -> None:
    if (version := header.number("I")) not in _VERSIONS:
        raise _Broken(f"its version is {version}")
    tensors, keys = header.number("Q"), header.number("Q")
    if tensors * _LEAST_TENSOR_BYTES + keys * _LEAST_KEY_BYTES > header.left:
        raise _Broken(f"it cannot hold {tensors} tensors and {keys} settings")
    settings = {header.text(): _value(header) for _ in range(keys)}
    for name, layers in settings.items():
        if name.endswith(".block_count") and not 0 < (layers or 0) <= tensors:
            raise _Broken(f"it says that it has {layers} layers, and holds {tensors} tensors")
    alignment = settings.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or alignment < 1:
        raise _Broken(f"its tensors lie {alignment} bytes apart")
    places = [_tensor(header, alignment) for _ in range(tensors)]
    begin = -(-header.stream.tell() // alignment) * alignment
    end = 0
    for place, size, name in sorted(places):
        if place < end:
            raise _Broken(f"the tensor {name!r:.80} lies over another one")
        end = place + size
        if begin + end > header.size:
            raise _Broken(f"the tensor {name!r:.80} lies beyond its end")


def _value(header: _Header) -> int | None:
    """A setting's value if it is a number; all others are only passed over."""
    kind = header.number("I")
    if kind in _NUMBERS:
        return header.number(_NUMBERS[kind])
    if kind == _TEXT:
        header.skip(header.number("Q"))
    elif kind == _LIST:
        inner, count = header.number("I"), header.number("Q")
        if inner in _NUMBERS:
            header.skip(count * struct.calcsize(_NUMBERS[inner]))
        elif inner == _TEXT:
            for _ in range(count):  # each takes eight bytes at least, so a made-up count ends with the file
                header.skip(header.number("Q"))
        else:
            raise _Broken(f"a list holds values of kind {inner}")
    else:
        raise _Broken(f"a setting is of kind {kind}")
    return None


def _tensor(header: _Header, alignment: int) -> tuple[int, int, str]:
    """Where it begins in the data, its bytes, and its name."""
    name = header.text()
    if not 0 < (dimensions := header.number("I")) <= _MOST_DIMENSIONS:
        raise _Broken(f"the tensor {name!r:.80} has {dimensions} dimensions")
    shape = [header.number("Q") for _ in range(dimensions)]
    kind, place = header.number("I"), header.number("Q")
    if kind not in GGMLQuantizationType.__members__.values():
        raise _Broken(f"the tensor {name!r:.80} is of kind {kind}")
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    if shape[0] % block or place % alignment:
        raise _Broken(f"the tensor {name!r:.80} does not lie on whole blocks")
    return place, prod(shape) // block * size, name
