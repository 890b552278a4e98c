"""A teacher for the student of `made_training`: same words, other weights."""

from pathlib import Path

from airlab.stages.cache_teacher import CacheTeacher
from airlab.store.files import Files
from airlab.store.stage import Stage
from tests.unit.cli.model_folders import random_folder

TOP_K = 5


def teacher_folder(folder: Path) -> Path:
    """A model that says other things than the student."""
    return random_folder(folder, seed=1, context=128)


def taught(teacher: Path, data: Stage, top_k: int = TOP_K) -> CacheTeacher:
    """The stage."""
    return CacheTeacher(Files.of(teacher), data, top_k)
