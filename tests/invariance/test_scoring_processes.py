"""`airlab score` in several processes of a host writes the bytes that one process writes."""

from pathlib import Path

import pytest
import torch

from tests.unit.cli.conftest import Airlab, airlab, documents, text, write_jsonl  # noqa: F401 (a fixture)
from tests.unit.cli.model_folders import random_folder


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    random_folder(folder / "model")
    (folder / "heads.json").write_text("[[1, 2], [2, 0]]")
    rows = documents(600)
    rows[300] |= {"text": "x"}
    write_jsonl(folder / "documents.jsonl", rows)
    traces = [{"prompt": text(n), "response": f"{text(n + 1)}\n\n{text(n + 2)}"} for n in range(300)]
    write_jsonl(folder / "traces.jsonl", traces)
    return folder


@pytest.mark.parametrize(
    ("settings", "read"),
    [
        (["unit=document", "input=documents.jsonl"], "600 documents in, 599 scored"),
        (["unit=step", "rendering.template=plain", "input=traces.jsonl"], "300 traces in, 300 scored"),
    ],
    ids=["documents", "steps"],
)
def test_two_processes_write_what_one_writes(
    airlab: Airlab,  # noqa: F811
    given: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: list[str],
    read: str,
) -> None:
    # As many threads as in this process: another number rounds otherwise.
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    work = Path.cwd()
    monkeypatch.chdir(given)
    model = ["model=local", "model.path=model", "heads=heads.json"]
    written = []
    for processes in (1, 2):
        monkeypatch.setenv("AIRLAB_STORE", str(work / f"store-{processes}"))
        output = work / f"{processes}.parquet"
        answer = airlab("score", *model, *settings, f"machine.processes={processes}", f"output={output}")
        assert answer.code == 0, answer.err
        assert read in answer.out
        written.append([path.read_bytes() for path in sorted(work.glob(f"{processes}.*"))])
    assert len(written[0]) >= 1 and written[0] == written[1]
    assert not [*work.rglob("*.part"), *work.rglob("notes")]
