"""The plan's order is fixed, only what is needed runs, and damage is noticed before it spreads."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.store import durable
from airlab.store.fingerprint import dump_canonical, fingerprint, identity
from airlab.store.plan import Plan
from airlab.store.provenance import provenance
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store

RAN: list[str] = []


@dataclass(frozen=True)
class JoinWords(Stage):
    VERSION: ClassVar[int] = 1
    word: str
    parts: tuple["JoinWords", ...] = ()

    def slug(self) -> str:
        return f"Word {self.word}/é!"

    def run(self, work: Workdir, machine: Machine) -> None:
        RAN.append(self.word)
        text = self.word + "".join((work.input(part) / "text").read_text() for part in self.parts)
        with work.writing("text") as temporary:
            temporary.write_text(text)
        work.note(letters=len(text))


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


A = JoinWords("a")
B = JoinWords("b", (A,))
C = JoinWords("c", (A,))
D = JoinWords("d", (B, C))
LONE = JoinWords("lone")


def words(stages: tuple[Stage, ...]) -> list[str]:
    return [stage.word for stage in stages if isinstance(stage, JoinWords)]


def run(store: Store, *targets: Stage) -> list[str]:
    RAN.clear()
    Plan(store, targets).run(Machine())
    return list(RAN)


def test_the_order_is_inputs_first_each_once_and_always_the_same(store: Store) -> None:
    assert words(Plan(store, [D, LONE, B]).order) == ["a", "b", "c", "d", "lone"]
    same_again = JoinWords("d", (JoinWords("b", (JoinWords("a"),)), JoinWords("c", (JoinWords("a"),))))
    assert words(Plan(store, [same_again, D, LONE]).order) == ["a", "b", "c", "d", "lone"]
    assert words(Plan(store, [LONE, D]).order) == ["lone", "a", "b", "c", "d"]


def test_planning_a_deep_diamond_is_quick(store: Store) -> None:
    stage = A
    for level in range(60):  # 2**60 ways from the last to the first
        stage = JoinWords(str(level), (stage, stage))
    assert len(Plan(store, [stage]).order) == 61


def test_a_second_run_does_nothing(store: Store) -> None:
    assert run(store, D, LONE) == ["a", "b", "c", "d", "lone"]
    assert run(store, D, LONE) == []
    found = store.find(D)
    assert found is not None
    assert (found / "text").read_text() == "dbaca"


@pytest.mark.parametrize(
    ("deleted", "again"),
    [
        ([A], []),  # what was made from it says in its address what it was made from
        ([D], ["d"]),
        ([B], []),
        ([B, D], ["b", "d"]),
        ([A, B, D], ["a", "b", "d"]),
        ([A, D], ["d"]),
        ([A, B, C, D], ["a", "b", "c", "d"]),
        ([LONE], ["lone"]),
    ],
)
def test_deleting_artifacts_reruns_only_what_the_targets_need(
    store: Store, deleted: list[JoinWords], again: list[str]
) -> None:
    run(store, D, LONE)
    for stage in deleted:
        shutil.rmtree(store.folder(stage))
    rows = {(row.fingerprint, row.needed) for row in Plan(store, [D, LONE]).explain()}
    needed = {fingerprint(JoinWordsByWord[word])[:12] for word in again}
    assert {digits for digits, is_needed in rows if is_needed} == needed
    assert run(store, D, LONE) == again
    assert store.find(D) is not None


JoinWordsByWord = {stage.word: stage for stage in (A, B, C, D, LONE)}


def test_explain_tells_present_partial_and_missing(store: Store) -> None:
    run(store, A)
    store.part(B).mkdir(parents=True)
    rows = Plan(store, [D]).explain()
    assert [(row.stage, row.status, row.needed) for row in rows] == [
        ("join_words", "present", False),
        ("join_words", "partial", True),
        ("join_words", "missing", True),
        ("join_words", "missing", True),
    ]
    assert rows[0].fingerprint == fingerprint(A)[:12]


def test_a_line_per_stage_and_one_for_what_is_there(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    run(store, A)
    capsys.readouterr()
    run(store, B)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "1 of 2 stages need no work"
    assert lines[1].startswith("[1/1] join_words Word b/é! ")
    assert lines[1].endswith(" started")
    assert " done in " in lines[2]
    assert len(lines) == 3


def test_the_machine_moves_nothing(store: Store) -> None:
    Plan(store, [D]).run(Machine())
    RAN.clear()
    Plan(store, [D]).run(Machine(device="cuda", tokens_per_batch=1, processes=4))
    assert RAN == []


def test_wall_times_come_from_the_records(store: Store) -> None:
    run(store, D)
    wall_s = Plan(store, [D, LONE]).wall_s
    assert set(wall_s) == {fingerprint(stage) for stage in (A, B, C, D)}
    assert all(0 < seconds < 60 for seconds in wall_s.values())
    for stage in (A, B):  # B is an input of D; of A nobody knows without B and C
        shutil.rmtree(store.folder(stage))
    left = Plan(store, [D]).wall_s
    assert left == wall_s
    shutil.rmtree(store.folder(C))
    assert set(Plan(store, [D]).wall_s) == {fingerprint(stage) for stage in (B, C, D)}


def test_every_machine_that_made_something_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run(store, B)
    here = provenance()
    monkeypatch.setattr("airlab.store.record.provenance", lambda: {**here, "gpus": ["another GPU"]})
    run(store, D)
    made = {tuple(machine["gpus"]): machine["stages"] for machine in Plan(store, [D, LONE]).machines}
    assert made == {tuple(here["gpus"]): 2, ("another GPU",): 2}


def test_the_record_says_all_that_was_hashed(store: Store) -> None:
    run(store, D)
    record = store.verify(D)
    assert hashlib.sha256(dump_canonical(record.identity)).hexdigest() == record.fingerprint == fingerprint(D)
    assert record.identity == json.loads(dump_canonical(identity(D)))
    assert [item.fingerprint for item in record.inputs] == [fingerprint(B), fingerprint(C)]
    assert record.notes == {"letters": 5}
    assert list(record.manifest) == ["text"]
    assert record.manifest["text"].sha256 == hashlib.sha256(b"dbaca").hexdigest()


def test_the_folder_is_readable_and_a_reworded_slug_still_finds_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(store, A)
    assert store.folder(A).name == f"word-a-{fingerprint(A)[:12]}"
    monkeypatch.setattr(JoinWords, "slug", lambda self: "other")
    assert store.find(A) is not None
    assert run(store, A) == []


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def damage_record(folder: Path) -> None:
    edit(folder / "record.json", '"letters": 1', '"letters": 2')


def damage_fingerprint(folder: Path) -> None:
    edit(folder / "record.json", fingerprint(A), fingerprint(B))


def damage_identity(folder: Path) -> None:
    edit(folder / "record.json", '"word": "a"', '"word": "z"')


def cut_record(folder: Path) -> None:
    path = folder / "record.json"
    path.write_text(path.read_text()[:-20])


def remove_record(folder: Path) -> None:
    (folder / "record.json").unlink()


def remove_file(folder: Path) -> None:
    (folder / "text").unlink()


def lengthen_file(folder: Path) -> None:
    (folder / "text").write_text("longer")


@pytest.mark.parametrize(
    "damage",
    [
        damage_record,
        damage_fingerprint,
        damage_identity,
        cut_record,
        remove_record,
        remove_file,
        lengthen_file,
    ],
)
def test_damage_is_noticed_and_the_folder_to_delete_is_named(store: Store, damage: Any) -> None:
    run(store, A)
    folder = store.folder(A)
    damage(folder)
    for look in (store.find, store.record, store.verify):
        with pytest.raises(UserError, match="delete that folder and run again") as caught:
            look(A)
        assert str(folder) in str(caught.value)
    with pytest.raises(UserError, match="damaged"):
        run(store, B)
    assert RAN == []
    shutil.rmtree(folder)
    assert run(store, A) == ["a"]


def test_another_stages_record_is_not_taken_for_this_one(store: Store) -> None:
    run(store, A, LONE)
    shutil.copy(store.folder(LONE) / "record.json", store.folder(A) / "record.json")
    with pytest.raises(UserError, match="another stage"):
        store.find(A)


def change_same_size(folder: Path) -> None:
    (folder / "text").write_text("A")


def add_file(folder: Path) -> None:
    (folder / "extra").write_text("x")


@pytest.mark.parametrize("damage", [change_same_size, add_file])
def test_verify_reads_every_byte(store: Store, damage: Any) -> None:
    run(store, A)
    store.verify(A)
    damage(store.folder(A))
    assert store.record(A) is not None  # a look at sizes cannot see it
    for look in (store.find, store.open, store.verify):
        with pytest.raises(UserError, match="damaged"):
            look(A)
    with pytest.raises(UserError, match="damaged"):
        run(store, B)


def test_verifying_what_is_not_there_says_so(store: Store) -> None:
    with pytest.raises(UserError, match="no finished artifact"):
        store.verify(A)


@dataclass(frozen=True)
class BreakDown(Stage):
    VERSION: ClassVar[int] = 1
    how: str
    error: ClassVar[BaseException | None] = None

    def run(self, work: Workdir, machine: Machine) -> None:
        RAN.append("attempt")
        if not work.has("first"):
            with work.writing("first") as temporary:
                temporary.write_text("finished")
            RAN.append("first")
        if BreakDown.error is not None:
            raise BreakDown.error
        with work.writing("second") as temporary:
            temporary.write_text("finished")


@contextmanager
def breaking(error: BaseException) -> Iterator[None]:
    BreakDown.error = error
    try:
        yield
    finally:
        BreakDown.error = None


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), ValueError("odd"), UserError("your file is odd."), SystemExit(3)]
)
def test_a_stopped_stage_promotes_nothing_and_continues(
    store: Store, error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = BreakDown("x")
    with breaking(error), pytest.raises(type(error)) as caught:
        Plan(store, [stage]).run(Machine())
    assert store.find(stage) is None
    assert Plan(store, [stage]).explain()[0].status == "partial"
    named = str(caught.value) + str(getattr(error, "__notes__", "")) + capsys.readouterr().err
    assert "break_down" in named
    assert run(store, stage) == ["attempt"]
    assert sorted(store.verify(stage).manifest) == ["first", "second"]
    assert not store.part(stage).exists()


def test_a_full_disk_while_finishing_is_a_sentence_and_continues(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"join_words.*disk is full"):
        patch.setattr(durable, "sync", full)
        run(store, A)
    assert store.find(A) is None
    assert run(store, A) == ["a"]


def test_a_store_that_cannot_be_written_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    nowhere = [Path("/proc/store")] if Path("/proc").is_dir() else []  # where nobody makes folders
    for root in (tmp_path / "file", *nowhere):
        with pytest.raises(UserError, match="cannot write to"):
            run(Store(root), A)


@dataclass(frozen=True)
class NoteOddities(Stage):
    VERSION: ClassVar[int] = 1
    value: Any = (1e22, -0.0, 5e-324, 2**80, "é\u2028\x7f\U0001f600")

    def run(self, work: Workdir, machine: Machine) -> None:
        work.note(values=self.value, nothing={}, third=1 / 3)
        with work.writing("é x.txt") as temporary:
            temporary.write_bytes(b"")


def test_what_a_record_says_reads_back_bit_by_bit(store: Store) -> None:
    run(store, NoteOddities())
    record = store.verify(NoteOddities())
    assert dump_canonical(record.notes["values"]) == dump_canonical(NoteOddities().value)
    assert record.notes["third"] == 1 / 3
    assert list(record.manifest) == ["é x.txt"]


@dataclass(frozen=True)
class ReadStranger(Stage):
    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        work.input(A)


def test_only_fields_are_inputs(store: Store) -> None:
    run(store, A)
    with pytest.raises(ValueError, match="not a field of read_stranger"):
        Plan(store, [ReadStranger()]).run(Machine())


def test_an_input_that_goes_away_is_named(store: Store) -> None:
    with pytest.raises(UserError, match="join_words went away"):
        store.make(B, Machine())


@dataclass(frozen=True)
class LeaveLink(Stage):
    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        work.path("link").symlink_to(work.folder)


def test_an_artifact_holds_its_own_files(store: Store) -> None:
    with pytest.raises(RuntimeError, match="link"):
        Plan(store, [LeaveLink()]).run(Machine())
    assert store.find(LeaveLink()) is None


def test_one_process_at_a_time_claims_a_stage_and_waits_for_nobody(store: Store) -> None:
    other = Store(store.root)
    with store.claim(D) as mine:
        assert mine
        with other.claim(D) as second, other.claim(C) as else_one:
            assert (second, else_one) == (False, True)
        Plan(other, [D]).run(Machine())  # a claim keeps nobody from making it
    with other.claim(D) as mine:
        assert mine
