"""A build of DeepSpeed's extension that was killed leaves a lock, and trainings waited for it for ever."""

from pathlib import Path

import pytest
from torch.utils.file_baton import FileBaton

from airlab.errors import UserError
from airlab.training.builds import refuse_abandoned_builds
from tests.faults.ledger import count


@pytest.mark.parametrize("build", ["deepspeed_shm_comm", "py311_cpu/deepspeed_shm_comm"])
def test_a_lock_that_no_process_holds_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: str
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    folder = tmp_path / build
    folder.mkdir(parents=True)
    refuse_abandoned_builds()
    baton = FileBaton(str(folder / "lock"))
    assert baton.try_acquire()
    refuse_abandoned_builds()  # this process builds: others wait for it, and not for ever
    baton.release()
    (folder / "lock").touch()
    with pytest.raises(UserError, match=f"{folder}/lock says .* delete that file, and run"):
        refuse_abandoned_builds()
    count("disk", "locks of builds that were killed", faults=1)
