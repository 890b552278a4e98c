"""Progress is silent when short, tells rate and time left when long, and never changes the items."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from airlab import progress as module
from airlab.progress import announce, duration, progress, track, waiting


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_all_items_come_out_in_order() -> None:
    assert list(track(range(5), label="x", unit="items")) == [0, 1, 2, 3, 4]
    assert list(track(iter("abc"), label="x", unit="items")) == ["a", "b", "c"]


def test_short_work_is_silent(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track(range(10), label="x", unit="items"):
        clock.now += 0.29
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_long_work_gives_a_line_about_every_15_seconds(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in track(range(40), label="scoring", unit="documents"):
        clock.now += 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "scoring: 15/40 documents (38%), 1/s, 25 s left",
        "scoring: 30/40 documents (75%), 1/s, 10 s left",
        "scoring: 40 documents in 40 s (1/s)",
    ]


def test_amounts_are_what_is_counted(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in track([100, 300, 600], label="scoring", unit="tokens", total=1000, amount=float):
        clock.now += 20
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "scoring: 100/1,000 tokens (10%), 5/s"
    assert lines[1] == "scoring: 400/1,000 tokens (40%), 15/s, 40 s left"
    assert lines[-1] == "scoring: 1,000 tokens in 1 min 00 s (17/s)"


def test_the_first_part_with_its_warm_up_does_not_lengthen_the_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("scoring", "documents", 1000) as advance:
        clock.now += 50  # kernels are compiled, caches filled
        advance(10)
        for _ in range(99):
            clock.now += 1
            advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "scoring: 10/1,000 documents (1%), 0.2/s", "nothing is known yet of the others"
    assert lines[1] == "scoring: 160/1,000 documents (16%), 10/s, 1 min 24 s left"
    assert lines[-1] == "scoring: 1,000 documents in 2 min 29 s (6.7/s)", "in the end all of it counts"


def test_without_a_total_there_is_a_rate_and_no_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in track(iter(range(20)), label="reading", unit="lines"):
        clock.now += 1
    assert capsys.readouterr().err.splitlines()[0] == "reading: 15 lines, 1/s"


def test_progress_counts_what_it_is_told_even_if_the_work_fails(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ZeroDivisionError), progress("copying", "bytes", 10) as advance:
        clock.now += 5
        advance(4)
        _ = 1 / 0
    assert capsys.readouterr().err == "copying: 4 bytes in 5.0 s (0.8/s)\n"


def test_what_an_earlier_run_did_is_no_speed_of_this_one(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("scoring", "documents", 1000, before=900) as advance:
        for _ in range(20):
            clock.now += 2
            advance(2)
    assert capsys.readouterr().err.splitlines() == [
        "scoring: 916/1,000 documents (92%), 1/s, 1 min 24 s left",
        "scoring: 932/1,000 documents (93%), 1/s, 1 min 08 s left",
        "scoring: 40 documents in 40 s (1/s)",
    ]


def test_leaving_a_loop_early_closes_the_meter(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    def first(items: Iterator[int]) -> int:
        for item in items:
            return item
        raise AssertionError

    assert first(track(iter(range(5)), label="x", unit="items")) == 0
    assert capsys.readouterr().err == ""


def test_on_a_terminal_bars_nest_and_clean_up(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    for _ in track(range(3), label="outer", unit="items"):
        for _ in track(range(3), label="inner", unit="items"):
            clock.now += 3
        announce("a line above the bars")
        assert module._bars is None or len(module._bars.tasks) == 1
    assert module._bars is None


def test_what_cannot_be_counted_says_that_it_goes_on(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = module._Clock("converting")
    for _ in range(40):
        clock.now += 1
        watched.tick()
    watched.close()
    assert capsys.readouterr().err.splitlines() == [
        "converting: 15 s so far",
        "converting: 30 s so far",
    ]


def test_on_a_terminal_it_leaves_nothing_behind(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    watched = module._Clock("converting [x]")
    for _ in range(5):
        clock.now += 1
        watched.tick()
    assert watched.shown is not None and "5.0 s so far" in str(watched.shown.status)
    watched.close()


def test_waiting_ends_with_the_work_even_if_it_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_TICK_S", 0.001)
    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError), waiting("converting"):
        own = set(threading.enumerate()) - before
        assert own
        _ = 1 / 0
    assert not any(thread.is_alive() for thread in own)  # others' may begin and end meanwhile
    assert capsys.readouterr().err == "", "short work is silent"


def test_a_bar_is_not_drawn_for_every_item(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    drawn, draw = [], module._Meter._draw
    monkeypatch.setattr(module._Meter, "_draw", lambda meter: (drawn.append(meter.done), draw(meter)))
    for _ in track(range(10_000), label="scoring", unit="documents"):
        clock.now += 0.001
    assert 60 <= len(drawn) <= 75 and drawn == sorted(drawn)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_it_needs_no_torch() -> None:
    code = "import sys, airlab.progress; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
