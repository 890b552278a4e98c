"""Where an interrupted training run goes on: one safetensors file, replaced atomically, no pickle."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from airlab.errors import UserError, first_line
from airlab.training.unfinished import RESUME as RESUME

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Checkpoint:
    """Everything a training run needs to go on as if it had never stopped.

    The learning rate and the loader's position both follow from `n_steps_done`.
    """

    n_steps_done: int
    weights: dict[str, torch.Tensor]
    """Of everything that is trained."""
    moments: dict[str, dict[str, torch.Tensor]]
    """AdamW's two moments, by moment and weight."""
    generators: dict[str, torch.Tensor]
    """States of torch's generators by device; training draws from none today, and this keeps it exact
    should a layer ever do so."""
    identity: dict[str, object]
    """What is trained on what: mixture, model, training, seed."""


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write and rename, so that `path` is always a whole checkpoint."""
    tensors: dict[str, torch.Tensor] = {}
    for group, content in _groups(checkpoint):
        tensors |= {f"{group}/{name}": tensor.detach().cpu().contiguous() for name, tensor in content.items()}
    facts = {"n_steps_done": checkpoint.n_steps_done, "identity": checkpoint.identity}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"facts": json.dumps(facts, sort_keys=True)})
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.replace(path)


def read_checkpoint(path: Path, identity: dict[str, object]) -> Checkpoint | None:
    """The checkpoint at `path`, None when there is none.

    Raises UserError when it is damaged, or belongs to another mixture, model, training or seed.
    """
    if not path.exists():
        return None
    contents: dict[str, dict[str, torch.Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            for key in file.keys():  # noqa: SIM118 (not a mapping)
                group, name = key.split("/", 1)
                contents.setdefault(group, {})[name] = file.get_tensor(key)
        found, n_steps_done = dict(facts["identity"]), int(facts["n_steps_done"])
        groups = {group: contents[group] for group in ("weights", *MOMENTS, "generators")}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"The checkpoint {path} is damaged or none of ours ({first_line(error)}); delete that file to "
            "start again."
        ) from error
    # JSON on both sides: tuples and lists are the same thing here.
    expected = json.loads(json.dumps(identity, sort_keys=True))
    differing = sorted(key for key in expected | found if expected.get(key) != found.get(key))
    if differing:
        raise UserError(
            f"The training run in {path.parent} was started with another {' and '.join(differing)}; "
            "delete that folder to start again."
        )
    return Checkpoint(
        n_steps_done=n_steps_done,
        weights=groups["weights"],
        moments={moment: groups[moment] for moment in MOMENTS},
        generators=groups["generators"],
        identity=found,
    )


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
            weight.copy_(checkpoint.weights[name])


def trained_weights(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Names and weights of what is trained; frozen ones are never saved."""
    return [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]


def _groups(checkpoint: Checkpoint) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    yield "weights", checkpoint.weights
    yield from checkpoint.moments.items()
    yield "generators", checkpoint.generators
