"""Where an interrupted training run goes on: safetensors files and an index that is replaced last, no pickle.

    resume/index.json                       after how many updates, of which run, and in which files
    resume/000000005-00000.safetensors …    generators, weights and moments, some weights a file

A checkpoint is what the index says. It is replaced in one step, when all files it names are on the disk; the
files of the checkpoint before are deleted after that. Tensors are whole whatever trains them, and are written
and read one after another, so that no process holds more than one file of them beyond its own share.
"""

import itertools
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from airlab.errors import UserError, first_line
from airlab.training.unfinished import INDEX

WEIGHT = "weight"
MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's."""

FILE_BYTES = 1 << 30
"""A file is closed as soon as it has so many; the largest weight may make it longer."""

_GENERATOR = "generator"
_PARTIAL = INDEX + ".partial"


@dataclass(frozen=True)
class Checkpoint:
    """Everything a training run needs to go on as if it had never stopped; tensors are read when asked for.

    The learning rate and the loader's position both follow from `n_steps_done`.
    """

    folder: Path
    n_steps_done: int
    holders: Mapping[str, Path]
    """Which file holds a tensor, by `key`."""

    def tensor(self, kind: str, name: str) -> torch.Tensor:
        """A weight, whole, or one of its moments; raises UserError when it is not there."""
        try:
            with safe_open(self.holders[key(kind, name)], framework="pt") as file:
                tensor: torch.Tensor = file.get_tensor(key(kind, name))
                return tensor
        except (SafetensorError, OSError, KeyError) as error:
            raise _damaged(self.folder, error) from error

    @property
    def generators(self) -> dict[str, torch.Tensor]:
        """States of torch's generators by device; training draws from none today, and this keeps it exact
        should a layer ever do so."""
        kinds = (name.split("/", 1) for name in self.holders)
        return {name: self.tensor(kind, name) for kind, name in kinds if kind == _GENERATOR}


def key(kind: str, name: str) -> str:
    """What a checkpoint calls a tensor."""
    return f"{kind}/{name}"


def write_checkpoint(
    folder: Path,
    n_steps_done: int,
    tensors: Iterable[tuple[str, torch.Tensor]],
    generators: Mapping[str, torch.Tensor],
    identity: dict[str, object],
) -> None:
    """Write a checkpoint; the one before stays until this one is whole.

    Args:
        tensors: of everything that is trained, by `key`; taken one after another.
        identity: what is trained on what: mixture, model, training, seed.
    """
    folder.mkdir(exist_ok=True)
    _tidy(folder)  # what an attempt left that was killed, or for which the disk was too small
    mark = uuid.uuid4().hex
    files: list[str] = []
    states = ((key(_GENERATOR, name), state) for name, state in generators.items())
    for content in _filled(itertools.chain(states, tensors)):
        name = f"{n_steps_done:09d}-{len(files):05d}.safetensors"
        save_file(content, folder / name, metadata={"checkpoint": mark})
        _flush(folder / name)
        files.append(name)
    index = {"n_steps_done": n_steps_done, "identity": identity, "checkpoint": mark, "files": files}
    (folder / _PARTIAL).write_text(json.dumps(index, sort_keys=True))
    _flush(folder / _PARTIAL)
    (folder / _PARTIAL).replace(folder / INDEX)
    _flush(folder)
    _tidy(folder)


def read_checkpoint(folder: Path, identity: dict[str, object]) -> Checkpoint | None:
    """The checkpoint in `folder`, None when there is none.

    Raises:
        UserError: it is damaged, has lost a file, is mixed with another, or belongs to another mixture,
            model, training or seed.
    """
    if (earlier := folder.with_suffix(".safetensors")).exists():
        raise UserError(
            f"{earlier} is a checkpoint of an earlier airlab, which this one cannot continue; delete the "
            "folder it lies in to start again."
        )
    if not (folder / INDEX).exists():
        return None
    try:
        index = json.loads((folder / INDEX).read_text())
        found, n_steps_done, mark = dict(index["identity"]), int(index["n_steps_done"]), index["checkpoint"]
        files = [folder / Path(name).name for name in index["files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(folder, error) from error
    # JSON on both sides: tuples and lists are the same thing here.
    expected = json.loads(json.dumps(identity, sort_keys=True))
    differing = sorted(key for key in expected | found if expected.get(key) != found.get(key))
    if differing:
        raise UserError(
            f"The training run in {folder.parent} was started with another {' and '.join(differing)}; "
            "delete that folder to start again."
        )
    holders: dict[str, Path] = {}
    for path in files:
        if not path.exists():
            raise UserError(
                f"The checkpoint {folder} has lost {path.name}, which its index names; put that file back, "
                "or delete that folder to start again."
            )
        try:
            with safe_open(path, framework="pt") as file:
                of = (file.metadata() or {}).get("checkpoint")
                holders |= dict.fromkeys(file.keys(), path)
        except (SafetensorError, OSError) as error:
            raise _damaged(folder, error) from error
        if of != mark:
            raise UserError(
                f"The checkpoint {folder} is mixed with another one, of which it has {path.name}; put its "
                "own file back, or delete that folder to start again."
            )
    return Checkpoint(folder, n_steps_done, holders)


def delete_checkpoint(folder: Path) -> None:
    """The index first: what is left by a kill in the middle is no checkpoint."""
    if folder.exists():
        (folder / INDEX).unlink(missing_ok=True)
        _flush(folder)
        shutil.rmtree(folder)


def generator_states(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of torch's own generators on the CPU and on `device`."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Undo `generator_states`."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def restore_weights(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy the trained weights in, before any engine wraps the module."""
    with torch.no_grad():
        for name, weight in trained_weights(module):
            weight.copy_(checkpoint.tensor(WEIGHT, name))


def trained_weights(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Names and weights of what is trained; frozen ones are never saved."""
    return [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]


def _filled(tensors: Iterable[tuple[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
    """What goes into one file after another."""
    content: dict[str, torch.Tensor] = {}
    for name, tensor in tensors:
        content[name] = tensor.detach().cpu().contiguous()
        if sum(held.nbytes for held in content.values()) >= FILE_BYTES:
            yield content
            content = {}
    if content:
        yield content


def _tidy(folder: Path) -> None:
    """Delete what is not of the checkpoint that the index names."""
    index = folder / INDEX
    named = {INDEX, *json.loads(index.read_text())["files"]} if index.exists() else {INDEX}
    for path in folder.iterdir():
        if path.name not in named:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"The checkpoint {folder} is damaged or none of ours ({first_line(error)}); delete that folder to "
        "start again."
    )
