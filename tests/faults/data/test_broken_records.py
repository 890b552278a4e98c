"""Broken records are quarantined one by one, and in = kept + skipped + quarantined for any bytes at all."""

import gzip
import json
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from random import Random

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airlab.errors import UserError
from tests.faults.data.importing import Outcome, documents_of, traces_of
from tests.faults.ledger import FULL, count

Import = Callable[[Path, Path], Outcome]

IMPORTS: dict[str, Import] = {"documents": documents_of, "traces": traces_of}

PACK: dict[str, Callable[[bytes], bytes]] = {
    "jsonl": bytes,
    "jsonl.gz": lambda content: gzip.compress(content, 1),
    "jsonl.zst": zstandard.compress,
}

FIRST = b'{"id": "first", "text": "a b", "prompt": "p", "response": "r s", "order": 1, "solution": "s"}\n'
CHAT = b'{"id": "first", "text": "a", "messages": [{"role": "user"}, {"from": "gpt", "value": "a"}]}\n'


def wide(examples: int) -> settings:
    """As many inputs as this form tries."""
    return settings(
        max_examples=examples * (30 if FULL else 1),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


class Tried:
    """Counts inputs, and what became of them, over all examples of a test."""

    def __init__(self) -> None:
        self.inputs = self.refused = 0

    def outcome(self, read: Import, path: Path, scratch: Path) -> Outcome | None:
        """What became of the records, or None for a refusal: one sentence."""
        self.inputs += 1
        try:
            return read(path, scratch)
        except UserError as error:
            assert str(error) and "\n" not in str(error)
            self.refused += 1
            return None


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Iterator[Tried]:
    found = Tried()
    yield found
    what = request.function.__name__.removeprefix("test_").replace("_", " ")
    count("data", what, inputs=found.inputs)


def lines_in(content: bytes) -> int:
    """Lines that hold anything: each is a record, sound or broken."""
    return sum(1 for line in content.split(b"\n") if line.strip())


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(1 << 64, 1 << 80)
    | st.floats()
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
TURN = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("role", "content", "from", "value", "tool_calls", "thinking"), ANY_JSON)
) | st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "gpt"]), "content": ANY_JSON})
RECORD = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("id", "text", "domain", "prompt", "response"), ANY_JSON),
        **dict.fromkeys(("order", "solution", "system"), ANY_JSON),
        "messages": ANY_JSON | st.lists(TURN, max_size=3),
    },
)
SPELLED = [
    b"",
    b"  \t",
    b"\xef\xbb\xbf",
    b"\xef\xbb\xbf" + FIRST.strip(),
    FIRST.strip() + b"\r",
    FIRST.strip()[:-9],
    b'{"id": "nul", "text": "a\\u0000b", "prompt": "\\u0000", "response": "\\u0000c"}',
    b'{"id": "raw nul", "text": "a\x00b"}',
    b'{"id": "half", "text": "\\ud800", "prompt": "p", "response": "\\udfff"}',
    b'{"id": "\\ud800", "text": "a b", "prompt": "p", "response": "r"}',
    b'{"id": "deep", "text": "a", "prompt": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'{"id": ' + b"9" * 5000 + b', "text": "a b"}',
    b'{"id": 1e999, "text": NaN, "prompt": Infinity, "response": -Infinity}',
    b'{"id": "order", "prompt": "p", "response": "r", "order": 99999999999999999999}',
    b'{"id": "said", "prompt": "p", "response": "r", "solution": "\\udc00"}',
    b'{"id": "nested", "prompt": "p", "response": "r", "solution": [NaN, {"a": "\\udc00"}]}',
    '{"id": "rtl", "text": "\u202eمرحبا e\u0301\u0301", "prompt": "ش", "response": "\u200f"}'.encode(),
    b'{"id": "turns", "messages": [{"role": "assistant", "content": ["\\ud800"]}, 3]}',
    b'{"id": "text", "messages": "[{\\"role\\": \\"gpt\\", \\"content\\": \\"\\\\ud800\\"}]"}',
]
LINE = st.one_of(
    st.binary(max_size=40),
    RECORD.map(lambda r: json.dumps(r).encode()),
    RECORD.map(lambda r: json.dumps(r, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    ANY_JSON.map(lambda v: json.dumps(v).encode()),
    st.sampled_from(SPELLED),
)


@pytest.mark.parametrize("what", IMPORTS)
@wide(40)
@given(content=st.binary(max_size=400))
def test_arbitrary_bytes_as_a_file(
    what: str, tried: Tried, tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = _scratch(tmp_path_factory)
    (folder / "d.jsonl").write_bytes(content)
    outcome = tried.outcome(IMPORTS[what], folder / "d.jsonl", folder)
    if outcome is not None:
        outcome.check(lines_in(content))


@pytest.mark.parametrize("what", IMPORTS)
@wide(40)
@given(
    first=st.sampled_from([FIRST, CHAT]),
    lines=st.lists(LINE, max_size=8),
    kind=st.sampled_from(sorted(PACK)),
)
def test_broken_lines_among_sound_ones(
    what: str,
    tried: Tried,
    tmp_path_factory: pytest.TempPathFactory,
    first: bytes,
    lines: list[bytes],
    kind: str,
) -> None:
    folder = _scratch(tmp_path_factory)
    content = first + b"\n".join(lines)
    path = folder / f"d.{kind}"
    path.write_bytes(PACK[kind](content))
    outcome = tried.outcome(IMPORTS[what], path, folder)
    path.unlink()
    assert outcome is not None, "one sound record is enough"
    _check_lines(outcome, content)


@pytest.mark.parametrize("what", IMPORTS)
def test_bytes_changed_lost_and_repeated_in_a_sound_file(what: str, tried: Tried, tmp_path: Path) -> None:
    random = Random(9)
    sound = [FIRST, CHAT] + [line + b"\n" for line in SPELLED]
    for _ in range(8_000 if FULL else 100):
        content = bytearray(b"".join(random.choices(sound, k=random.randint(1, 6))))
        for _ in range(random.randint(0, 4)):
            at = random.randrange(len(content) + 1)
            some = random.randrange(12)
            content[at : at + some] = random.choice(
                [b"", random.randbytes(some), content[at : at + some] * 2]
            )
        content[:0] = random.choice(sound[:2])
        (tmp_path / "d.jsonl").write_bytes(content)
        outcome = tried.outcome(IMPORTS[what], tmp_path / "d.jsonl", tmp_path)
        assert outcome is not None, "one sound record is enough"
        _check_lines(outcome, bytes(content))


def _check_lines(outcome: Outcome, content: bytes) -> None:
    outcome.check(lines_in(content))
    assert outcome.kept[0].unit_id == "first"
    starts = list(accumulate((len(line) + 1 for line in content.split(b"\n")), initial=0))
    for row in outcome.quarantined:
        assert row["offset"] == starts[row["row"] - 1], "the byte where the line begins"
    ids = [row.unit_id for row in outcome.kept] + [row["unit_id"] for row in outcome.skipped]
    assert len(ids) == len(set(ids))


@wide(30)
@given(lines=st.lists(LINE, max_size=6), cut=st.integers(0, 6))
def test_files_of_a_folder_count_as_one_input(
    tried: Tried, tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], cut: int
) -> None:
    folder = _scratch(tmp_path_factory)
    given_folder = folder / "given"
    given_folder.mkdir(exist_ok=True)
    for name, some in (("a.jsonl", lines[:cut]), ("b.jsonl", lines[cut:])):
        (given_folder / name).write_bytes(FIRST + b"\n".join(some))
    outcome = tried.outcome(documents_of, given_folder, folder)
    assert outcome is not None
    outcome.check(lines_in(b"\n".join(lines)) + 2)
    repeated = [row for row in outcome.quarantined if row["unit_id"] == "first" and row["file"] == "b.jsonl"]
    assert repeated[0]["reason"] == "a repeated id" and repeated[0]["row"] == 1


def _scratch(factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples: making one takes longer than reading what lies in it."""
    folder = factory.getbasetemp() / "broken-records"
    folder.mkdir(exist_ok=True)
    return folder
