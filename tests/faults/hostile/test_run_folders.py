"""A training folder with somebody else's files in it: pickles are never opened, checkpoints are our own."""

import ast
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from airlab.errors import UserError
from airlab.training.checkpoint import RESUME, read_checkpoint
from tests.faults.hostile.planted import Evil
from tests.faults.ledger import count

ROOT = Path(__file__).parents[3]
TENSORS = {"weights/a": torch.zeros(1)}

BAD = {
    "nothing": lambda path: path.write_bytes(b""),
    "a pickle": lambda path: torch.save(Evil(path.with_name("mark")), path),
    "no facts": lambda path: save_file(TENSORS, path),
    "facts that are no JSON": lambda path: save_file(TENSORS, path, {"facts": "["}),
    "endless facts": lambda path: save_file(TENSORS, path, {"facts": "[" * 100_000}),
    "facts that are a list": lambda path: save_file(TENSORS, path, {"facts": "[1]"}),
    "an identity that is a number": lambda path: save_file(TENSORS, path, {"facts": '{"identity": 1}'}),
    "no moments": lambda path: save_file(
        TENSORS, path, {"facts": json.dumps({"identity": {"seed": 1}, "n_steps_done": 3})}
    ),
    "a weight without a group": lambda path: save_file(
        {"a": torch.zeros(1)}, path, {"facts": json.dumps({"identity": {"seed": 1}, "n_steps_done": 3})}
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_checkpoint_that_is_not_ours_is_refused(tmp_path: Path, case: str) -> None:
    BAD[case](tmp_path / RESUME)
    with pytest.raises(UserError, match="is damaged or none of ours"):
        read_checkpoint(tmp_path / RESUME, {"seed": 1})
    assert not (tmp_path / "mark").exists()
    count("hostile", "training checkpoints that were made up: refused", inputs=1)


FORBIDDEN = {"load_checkpoint", "load_state", "save_checkpoint", "save_state", "load_universal_checkpoint"}


def test_deepspeed_and_accelerate_never_read_or_write_their_own_pickled_checkpoints() -> None:
    calls = [
        (path.name, node.func.attr)
        for path in sorted((ROOT / "airlab").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    assert len(calls) > 1000
    assert [call for call in calls if call[1] in FORBIDDEN] == []
    count("hostile", "pickles in model and run folders: never opened", inputs=1)
