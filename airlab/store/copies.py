"""A finished artifact at a second place: there as a whole and checked, or not at all."""

import shutil
from pathlib import Path

from airlab.errors import UserError
from airlab.store import durable
from airlab.store.record import Damaged, Record, check_contents, read_sound_record
from airlab.store.stage import RECORD
from airlab.store.touched import mark_copy


def copy_artifact(source: Path, final: Path, record: Record) -> None:
    """Copy an artifact to where nothing is yet; one process at a time may.

    Raises:
        UserError: it was changed meanwhile, or the disk does not take it.
    """
    with durable.written(final) as temporary:
        try:
            for name in (*record.manifest, RECORD):
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, temporary / name)
            check_contents(temporary, read_sound_record(temporary, record.fingerprint))
        except (Damaged, FileNotFoundError) as error:
            raise UserError(f"{source} was changed while it was copied; run again.") from error
        mark_copy(temporary, record)
