"""How far an unfinished artifact has come, in the units in which its stage goes on."""

from pathlib import Path

from airlab.stages.shard_notes import NOTES
from airlab.stages.shards import FOLDER, shards_kept
from airlab.store.inventory import Unfinished
from airlab.store.stage import Stage
from airlab.training.unfinished import read_reached


def how_far(part: Unfinished, stage: Stage | None) -> str:
    """What the next attempt does not do again: a checkpoint, shards, or else finished files.

    Args:
        stage: what is being made, where that is known.
    """
    if (reached := read_reached(part.folder)) is not None:
        budget = getattr(getattr(stage, "training", None), "budget_tokens", None)
        of = "" if budget is None else f" of {budget:,}"
        return f"checkpoint after {reached.n_updates:,} updates, {reached.n_tokens:,}{of} tokens"
    told = [
        _told(folder, count, part.folder) for folder, count in sorted(part.kept.items()) if folder != NOTES
    ]
    return ", ".join(told) or "nothing yet"


def _told(folder: str, count: int, part: Path) -> str:
    files = f"{count} file{'s' * (count > 1)}"
    if folder == FOLDER and (units := sum(shards_kept(part).values())):
        return f"{units:,} units in {files} of {folder}"
    return f"{files} in {folder}" if folder else files
