"""Settings that would run code, or read files or the environment: refused before anything is composed."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.faults.ledger import count
from tests.unit.cli.conftest import Airlab, Refused

SECRET = "s3cr3t-of-the-environment"

HOSTILE = {
    "the environment": ("selector.kind=${oc.env:SECRET}", "read from the environment"),
    "the environment or a default": ("scope=${oc.env:SECRET,domain}", "read from the environment"),
    "the environment in a list": ("seed=[${oc.env:SECRET}]", "read from the environment"),
    "the environment in the environment": ("seed=${oc.decode:${oc.env:SECRET}}", "read from the environment"),
    "the environment after two backslashes": ("scope=\\\\${oc.env:SECRET}", "read from the environment"),
    "the clock": ("scope=${now:%Y}", "read from the environment"),
    "Hydra's own state": ("scope=${hydra:runtime.cwd}", "read from the environment"),
    "a callback": ("+hydra.callbacks.x._target_=os.system", "a setting of Hydra"),
    "a callback all at once": (
        "++hydra.callbacks.x={_target_:os.system,command:touch mark}",
        "a setting of Hydra",
    ),
    "a group as a callback": ("+selector@hydra.callbacks.x=length", "a setting of Hydra"),
    "a launcher": ("hydra/launcher=basic", "a setting of Hydra"),
    "a launcher that is code": ("hydra.launcher._target_=os.system", "a setting of Hydra"),
    "a folder of configurations": ("hydra.searchpath=[file://evil]", "a setting of Hydra"),
    "variables to set": ("+hydra.job.env_set.PATH=evil", "a setting of Hydra"),
    "a folder to make": ("hydra.run.dir=elsewhere", "a setting of Hydra"),
    "code for a selector": ("+selector._target_=os.system", "names code to run"),
    "code in a value": ("selector={_target_:os.system,kind:length}", "names code to run"),
    "a file by its path": ("selector=../../../../../../../../../../etc/passwd", "there is no selector"),
    "a file by its whole path": ("selector=/etc/passwd", "there is no selector"),
    "a file of another group": ("selector=../machine/cpu", "there is no selector"),
}


@pytest.fixture
def scores(airlab: Airlab, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECRET", SECRET)
    numbers = {name: [1.0, 2.0] for name in ("loss_base", "loss_ref", "entropy", "attention_influence")}
    table = pa.table({"id": ["a", "b"], "domain": ["x", "x"], "n_tokens": [5, 6], **numbers})
    pq.write_table(table, "scores.parquet")
    return Path("scores.parquet")


@pytest.mark.parametrize("case", HOSTILE)
def test_a_setting_reads_and_runs_nothing(refused: Refused, scores: Path, case: str) -> None:
    setting, told = HOSTILE[case]
    sentence = refused("select", f"scores={scores}", "output=out.parquet", setting)
    assert told in sentence and SECRET not in sentence
    count("hostile", "settings that run code or read files and the environment: refused", inputs=1)


def test_a_configuration_with_a_tag_is_not_read_from_anywhere(refused: Refused, scores: Path) -> None:
    evil = Path("evil", "selector")
    evil.mkdir(parents=True)
    mark = Path("mark").absolute()
    (evil / "bad.yaml").write_text(f'kind: !!python/object/apply:os.system ["touch {mark}"]\n')
    up = "../" * 12
    for setting in (
        f"selector={evil.absolute()}/bad",
        f"selector={up}{evil.absolute()}/bad",
        f"+selector@selector={up}{evil.absolute()}/bad",
        f"hydra.searchpath=[{evil.parent.absolute()}]",
    ):
        refused("select", f"scores={scores}", "output=out.parquet", setting)
        count("hostile", "settings that run code or read files and the environment: refused", inputs=1)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["../../x", "os", "air/../../x", "/etc/passwd", "air.main", ""])
def test_an_experiment_is_one_of_ours(refused: Refused, name: str) -> None:
    assert "there is no experiment" in refused("plan", "scale=smoke", f"++experiment.name='{name}'")
    count("hostile", "settings that run code or read files and the environment: refused", inputs=1)


@pytest.mark.parametrize(
    "name", ["${oc.env:SECRET}.parquet", "$(touch mark).parquet", "a;touch mark;.parquet"]
)
def test_a_path_is_what_is_written(airlab: Airlab, scores: Path, name: str) -> None:
    answer = airlab("select", f"scores={scores}", f"output={name}")
    assert answer.code == 0 and Path(name).is_file() and not Path("mark").exists()
    assert sorted(path.name for path in Path().iterdir()) == sorted([name, "scores.parquet"])
    count("hostile", "names of files that look like commands: taken as they are", inputs=1)
