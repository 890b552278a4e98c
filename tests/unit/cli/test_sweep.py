"""`airlab run -m`: jobs cannot reach each other, and their table holds this sweep and nothing else."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli.answer import Failed
from airlab.cli.experiment import open_experiment
from airlab.cli.jobs import Job, refuse_failures, run_jobs
from airlab.cli.main import configs_folder
from airlab.evaluation.records import Record, write_records
from airlab.randomness import generator
from airlab.reporting.lock import read_lock
from airlab.reporting.tables import judge
from airlab.stages.build_pool import BuildPool
from airlab.stages.evaluate import Evaluate
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.store import Store
from tests.unit.cli.conftest import Airlab

ROOT = Path(__file__).parents[3]
NAME = "attention_influence/sweep"
SWEEP = ["-m", "experiment=sweep", "scale=smoke", "folder=swept"]
PLACE = Path(NAME) / "smoke"

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")

Opened = tuple[Any, Any]


def finish(store: Store, *overrides: str) -> Opened:
    """Put made-up results of all of a configuration's cells into the store."""

    def evaluate(self: Evaluate, work: Any, machine: Any) -> None:
        with work.writing("records.parquet") as path:
            write_records(path, made_up(self), {})

    module, bound, command = opened(*overrides)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluate, "run", evaluate)
        for stage in module.targets(bound).values():
            store.make(stage, command.machine)
    return module, bound


def opened(*overrides: str) -> Any:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        return open_experiment(compose("run", [f"experiment={NAME}", "scale=smoke", *overrides]))


def made_up(stage: Evaluate) -> list[Record]:
    """Twelve items a task, with values that hang on the artifact's address alone."""
    random = generator(0, fingerprint(stage))
    return [
        Record(task.name, "1", f"item-{item}", None, stage.seed, metric, float(random.normal()), metric in UP)
        for task in stage.tasks.spec.planned()  # type: ignore[union-attr]
        for metric in task.metrics
        for item in range(12)
    ]


UP = ("acc", "acc_norm", "margin")


def children(pid: int | str = "self") -> set[int]:
    """Processes that a process started and that run."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found |= {int(child) for child in task.read_text().split()}
    return found


def jobs_of(pid: int | str = "self") -> set[int]:
    found = set()
    for child in children(pid):
        with contextlib.suppress(OSError):
            if b"airlab.cli.job" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.add(child)
    return found


def wait_until(what: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not asked for its exit code does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()


def said(log: Path, words: str) -> Callable[[], bool]:
    return lambda: log.is_file() and words in log.read_text()


class Place:
    """A folder with a store of its own, in which `airlab` runs as users run it."""

    def __init__(self, folder: Path, configs: Path | None = None) -> None:
        self.folder, self.configs = folder, configs
        self.store = Store(folder / "store")

    def airlab(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        code = "from pathlib import Path\nfrom airlab.cli import main as cli\n"
        if self.configs is not None:
            code += f"cli.configs_folder = lambda: Path({str(self.configs)!r})\n"
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "AIRLAB_STORE": str(self.store.root),
            "AIRLAB_CACHE": str(self.folder / "cache"),
        }
        return subprocess.run(
            [sys.executable, "-c", code + "cli.main()", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def rows(self) -> list[dict[str, str]]:
        with (self.folder / "swept" / "sweep.csv").open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, "subprocess.CompletedProcess[str]"]:
    """Job 0 is complete, job 1 is killed while it waits, job 2 finds something damaged when it starts."""
    place = Place(tmp_path_factory.mktemp("broken"))
    finish(place.store, "seeds=[0]")
    module, bound, _ = opened("seeds=[1]")
    order = Plan(place.store, list(module.targets(bound).values())).order
    pool = next(stage for stage in order if isinstance(stage, BuildPool))
    module, bound, _ = opened("seeds=[2]")
    damaged = next(iter(module.targets(bound).values())).checkpoint
    place.store.folder(damaged).mkdir(parents=True)
    lease = place.store.root / pool.name / f".lease-{fingerprint(pool)}"
    lease.parent.mkdir(parents=True)

    def kill() -> None:
        wait_until(said(place.folder / "swept/1/log.txt", "waiting for it to finish"))
        (job,) = (job for child in children() for job in jobs_of(child))
        os.kill(job, signal.SIGKILL)

    with filelock.FileLock(lease, thread_local=False), meanwhile(kill):
        results = "results=out/seed-${seeds[0]}"
        return place, place.airlab("run", *SWEEP, "seeds=[0],[1],[2]", "partial=true", results)


def test_a_job_that_is_killed_or_fails_takes_no_other_down(broken: Any) -> None:
    place, done = broken
    assert done.returncode == 1
    assert (place.folder / "out/seed-0" / PLACE / "table.md").is_file(), "results go where they are asked for"
    assert [path.name for path in (place.folder / "out").iterdir()] == ["seed-0"]
    *_, killed, mistake, last = done.stderr.splitlines()
    assert "job 1 (seeds=[1]) was killed by SIGKILL" in killed and "swept/1/log.txt" in killed
    assert "waiting for it to finish" in killed, "the last line of its log"
    assert "job 2 (seeds=[2]) ended with exit code 2: airlab run: " in mistake and "delete" in mistake
    assert last.startswith("airlab run: 2 of 3 jobs failed")
    assert "Traceback" not in done.stderr


def test_what_a_failed_job_lacks_is_marked_where_a_partial_table_was_asked_for(broken: Any) -> None:
    place, _ = broken
    assert [(row["job"], row["arm"], row["outcome"]) for row in place.rows()] == [
        ("0", "full_pool", "unknown against"),
        ("0", "attention_influence", "unknown against"),
        *((job, arm, "missing") for job in "12" for arm in ("full_pool", "attention_influence")),
    ]
    assert "Partial: job 1, job 2 not finished" in (place.folder / "swept/sweep.md").read_text()


def test_holes_are_refused_by_the_names_of_their_jobs(broken: Any) -> None:
    place, run = broken
    assert "not complete" not in run.stderr, "a partial table was asked for"
    before = sorted(place.folder.iterdir())
    done = place.airlab("table", *SWEEP, "seeds=[0],[1],[2]", "folder=other")
    assert done.returncode == 2 and done.stdout == ""
    assert "no result of job 1 (seeds=[1]), job 2 (seeds=[2]); run" in done.stderr
    assert sorted(place.folder.iterdir()) == before, "nothing is left behind"


SHARES = "selecting.share=0.1,0.5"
SEEDS = "seeds=[0,1,2]"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, list[Opened]]:
    """Two jobs over what a sweep of three left; a configuration file is edited while the first runs."""
    folder = tmp_path_factory.mktemp("swept")
    place = Place(folder, shutil.copytree(configs_folder(), folder / "configs"))
    both = [finish(place.store, SEEDS, f"selecting.share={share}") for share in (0.1, 0.5)]
    for name in ("2/log.txt", f"2/{PLACE}/table.csv", f"2/{PLACE}/lock.json", "1/sweep.csv", "sweep.csv"):
        stale = folder / "swept" / name
        stale.parent.mkdir(parents=True, exist_ok=True)
        stale.write_text("stale")
    edited = folder / "configs" / "target" / "llama-1m.yaml"

    def edit() -> None:
        wait_until((folder / "swept/0/log.txt").is_file)
        edited.write_text(edited.read_text().replace("hidden_size: 128", "hidden_size: 64"))

    with meanwhile(edit):
        done = place.airlab("run", *SWEEP, SEEDS, SHARES)
    assert done.returncode == 0, done.stderr
    assert "hidden_size: 64" in edited.read_text()
    place.configs = None
    return place, both


def test_a_file_edited_while_jobs_run_changes_none_of_them(swept: tuple[Place, list[Opened]]) -> None:
    place, both = swept
    for number, (module, bound) in enumerate(both):
        locked = read_lock(place.folder / "swept" / str(number) / PLACE).cells
        assert locked == {name: fingerprint(stage) for name, stage in module.targets(bound).items()}


def test_what_an_earlier_larger_sweep_left_changes_nothing(swept: tuple[Place, list[Opened]]) -> None:
    place, _ = swept
    assert {row["job"] for row in place.rows()} == {"0", "1"}
    assert (place.folder / "swept/2/log.txt").read_text() == "stale", "an earlier job's files are not ours"
    assert "stale" not in (place.folder / "swept/sweep.md").read_text()


def test_jobs_give_what_a_single_run_gives(swept: tuple[Place, list[Opened]]) -> None:
    place, _ = swept
    done = place.airlab(
        "run", "experiment=sweep", "scale=smoke", SEEDS, "selecting.share=0.5", "results=alone"
    )
    assert done.returncode == 0, done.stderr
    for name in ("table.md", "table.csv", "estimates.json"):
        ours = place.folder / "swept/1" / PLACE / name
        assert ours.read_bytes() == (place.folder / "alone" / PLACE / name).read_bytes()
    verdicts = json.loads((place.folder / "alone" / PLACE / "estimates.json").read_text())["verdicts"]
    told = {row["arm"]: float(row["value"]) for row in place.rows() if row["job"] == "1"}
    assert told == {arm: verdict["composite"]["value"] for arm, verdict in verdicts.items()}


def test_p_values_are_corrected_over_all_jobs(swept: tuple[Place, list[Opened]]) -> None:
    place, both = swept
    tables = [module.find(bound, place.store).table for module, bound in both]
    together = judge(
        {f"{n}/{arm}": found for n, table in enumerate(tables) for arm, found in table.comparisons.items()}
    )
    assert len(together) == 4 == len(place.rows())
    for row in place.rows():
        verdict = together[f"{row['job']}/{row['arm']}"]
        assert verdict is not None and verdict.detectable is not None
        assert (float(row["p_holm"]), float(row["detectable"])) == (verdict.p_holm, verdict.detectable)
        assert verdict.detectable > tables[int(row["job"])].verdicts[row["arm"]].detectable


def test_the_table_can_be_made_again_without_any_job(swept: tuple[Place, list[Opened]]) -> None:
    place, _ = swept
    done = place.airlab("table", *SWEEP, SEEDS, SHARES, "folder=again")
    assert done.returncode == 0, done.stderr
    for name in ("sweep.md", "sweep.csv"):
        made, again = (place.folder / which / name for which in ("swept", "again"))
        assert again.read_bytes() == made.read_bytes()
    assert sorted(p.name for p in (place.folder / "again").iterdir()) == [
        "multirun.yaml",
        "sweep.csv",
        "sweep.md",
    ]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["selecting.share=0.5,7"],
            "job 1 (experiment=attention_influence/sweep scale=smoke folder=swept sel",
        ),
        (["+selecting.shar=1,2"], "there is no setting selecting.shar"),
        (["corpus=pool,local"], "job 1 (experiment=attention_influence/sweep"),
        (["seeds=[0],[1]", "results=one"], "job 0 and job 1 would write the same table"),
    ],
)
def test_a_mistake_in_any_job_is_refused_before_one_runs(
    airlab: Airlab, overrides: list[str], told: str
) -> None:
    answer = airlab("run", *SWEEP, *overrides)
    assert answer.code == 2
    assert told in answer.sentence
    assert list(Path().iterdir()) == []


def test_a_sweep_over_its_own_folder_is_refused(airlab: Airlab) -> None:
    answer = airlab("run", *SWEEP[:-1], "folder=one,other")
    assert answer.code == 2 and "share one folder" in answer.sentence
    assert list(Path().rglob("log.txt")) == []


def test_a_sweep_of_plans_runs_nothing(airlab: Airlab, tmp_path: Path) -> None:
    answer = airlab("plan", *SWEEP, SHARES)
    assert answer.code == 0, answer.err
    assert answer.out.count("stages, ") == 2 and "job 1 (selecting.share=0.5)" in answer.out
    assert not (tmp_path / "store").exists() and list(Path().iterdir()) == []


def test_other_commands_sweep_in_processes_of_their_own_too(airlab: Airlab) -> None:
    answer = airlab("select", "-m", "scores=none.parquet", "share=0.1,0.2", "output=best-${share}.parquet")
    assert answer.code == 2
    *_, first, second, last = answer.err.splitlines()
    for number, told in enumerate((first, second)):
        assert f"job {number} (share=0.{number + 1}) ended with exit code 2: airlab select: " in told
        assert "scores=none.parquet does not exist" in told
    assert last.startswith("airlab select: 2 of 2 jobs failed")


def job(call: str, *arguments: object) -> Job:
    return Job(call, "", "run", call, arguments, Path("jobs", call.partition(":")[2]))


def test_a_job_is_a_process_with_its_own_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    printing = job("builtins:print", "to the log")
    failures = run_jobs([printing, job("os:_exit", 3), job("os:abort"), job("json:loads", "{"), printing])
    assert [(failure.job.name, failure.code) for failure in failures] == [
        ("os:_exit", 3),
        ("os:abort", -signal.SIGABRT),
        ("json:loads", 1),
    ]
    assert printing.log.read_text() == "to the log\n", "once: a second run begins its log anew"
    assert "to the log" not in "".join(capsys.readouterr())
    assert failures[0].sentence.endswith("exit code 3: it said nothing (log: jobs/_exit/log.txt)")
    assert "killed by SIGABRT" in failures[1].sentence
    assert "JSONDecodeError: Expecting" in failures[2].sentence
    assert "Traceback" in failures[2].job.log.read_text()
    with pytest.raises(Failed, match="3 of 5 jobs failed") as raised:
        refuse_failures(failures, 5)
    assert raised.value.code == 1
    refuse_failures((), 5)


@pytest.fixture
def sleeping(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A process that runs a job which does not end, and the job."""
    code = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from airlab.cli.answer import answer\n"
        "from airlab.cli.jobs import Job, run_jobs\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "first = Job('first', '', 'run', 'time:sleep', (600,), Path('jobs/sleep'))\n"
        "second = Job('second', '', 'run', 'builtins:print', (), Path('jobs/print'))\n"
        "sys.exit(answer('run', lambda: run_jobs([first, second])))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as parent:
        wait_until(lambda: jobs_of(parent.pid))
        (child,) = jobs_of(parent.pid)
        yield parent, child
        parent.kill()


def test_a_job_ends_with_a_parent_that_is_killed(sleeping: tuple["subprocess.Popen[str]", int]) -> None:
    parent, child = sleeping
    assert alive(child)
    os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: not alive(child), seconds=15)


def test_ctrl_c_stops_the_job_and_starts_no_other(
    sleeping: tuple["subprocess.Popen[str]", int], tmp_path: Path
) -> None:
    parent, child = sleeping
    time.sleep(0.5)  # the job reads its request
    os.kill(parent.pid, signal.SIGINT)
    _, err = parent.communicate(timeout=20)
    assert parent.returncode == 130
    assert err.splitlines()[-1] == "airlab run: stopped; the same command continues where it was."
    assert "Traceback" not in err
    assert not alive(child) and not (tmp_path / "jobs" / "print").exists()
