"""The model of a scoring pass and the heads that its reference model has masked, loaded and checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airlab.errors import UserError
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring
from airlab.stages.prepare_model import Model, model_folder
from airlab.store.files import Files
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store

if TYPE_CHECKING:
    from airlab.heads.mask import HeadMask
    from airlab.models.load import CausalLM


def load_masked(
    work: Workdir, machine: Machine, model: Model, heads: Stage | Files, masking: Masking, scoring: Scoring
) -> "tuple[CausalLM, HeadMask]":
    """The base model, and what makes the reference model of it.

    Raises:
        UserError: a model that cannot be loaded or is not computed exactly, heads that are not its own, or
            a window longer than its context.
    """
    from airlab.heads.mask import read_mask
    from airlab.models.device import DTYPES, use_device
    from airlab.models.exactness import check_exactness
    from airlab.models.load import load_causal_lm

    mask = read_mask(heads_file(work, heads), masking.share_of_heads, masking.mode)
    lm = load_causal_lm(
        model_folder(work, model), device=use_device(machine), dtype=DTYPES[scoring.precision]
    )
    mask.check(lm.geometry, lm.digest)
    if scoring.window_tokens > lm.geometry.context:
        raise UserError(
            f"scoring.window_tokens={scoring.window_tokens} exceeds the model's context of "
            f"{lm.geometry.context} tokens; set it to that or less."
        )
    check_exactness(lm, longest=scoring.window_tokens)
    return lm, mask


def heads_file(work: Workdir, heads: Stage | Files) -> Path:
    """Where the heads are listed: the user's own file, or a stage's."""
    return heads.path if isinstance(heads, Files) else work.input(heads) / "heads.json"


def masked_heads(stages: Mapping[str, Stage], store: Store) -> dict[str, Mapping[str, Any]]:
    """Which heads each finished stage masked, as (layer, head) pairs counted from 0, out of its record."""
    told: dict[str, Mapping[str, Any]] = {}
    for name, stage in stages.items():
        record = store.record(stage)
        if record is not None:
            told[name] = {"masked_heads": record.notes["masked_heads"]}
    return told
