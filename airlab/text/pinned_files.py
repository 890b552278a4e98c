"""The Parquet files of one split of a data set, on a hub at a pinned commit or in a local folder.

A file of a hub is read where it lies, in ranges of bytes that hold the row groups and columns asked for, and
is never copied as a whole. Every file is pinned when it is first listed, by its size, the hub's own digest
and its footer, and held to that whenever it is opened again.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.errors import UserError, first_line
from airlab.schema.base import Frozen
from airlab.schema.text import Columns, HubDataset
from airlab.text.quarantine import Place
from airlab.text.readers import text_columns
from airlab.text.records import contradicts_itself, refuse_left_out
from airlab.text.row_ranges import Group

_HUB = "hf://"
_RANGE_BYTES = 8 << 20
"""Read from a hub at once, and kept for what is asked for next: hubs count requests."""
_BUFFER_BYTES = 1 << 20
"""Of a column in memory at once, however large the row groups are."""
_OPENED_AT_ONCE = 8
_TIMEOUT_S = 100.0

_HTTP = ("httpx", "httpx2", "httpcore", "httpcore2")
"""The libraries whose errors huggingface_hub hands on as they are."""


class PinnedFile(Frozen):
    """One file as it was when it was first listed."""

    name: str
    """Within the data set's repository or folder."""
    size: int
    digest: str
    """SHA-256 of its content or its git blob, as the hub lists it; nothing for a local file."""
    footer: str = ""
    """SHA-256 of the Parquet footer; nothing before the file was opened for the first time."""


class Location(Frozen):
    """Where files lie; where that is may change from one attempt to the next."""

    base: str
    """`hf://datasets/NAME@COMMIT`, or a local folder."""
    words: str
    """The same for people."""

    def of(self, file: PinnedFile) -> str:
        """The whole address of a file."""
        return f"{self.base}/{file.name}"


def hub_files(hub: HubDataset) -> tuple[Location, list[PinnedFile]]:
    """The files of the split, in the order in which `datasets` reads them.

    Raises:
        UserError: the hub cannot be reached, or has no such data set, commit, configuration or split; access
            is refused; the files are not Parquet.
    """
    import datasets
    from huggingface_hub import HfApi, HfFileSystem

    words = f"{hub.name}{f' ({hub.config})' if hub.config else ''} at {hub.revision}"
    where = Location(base=f"hf://datasets/{hub.name}@{hub.revision}", words=words)
    with _told(where):
        # First, and by themselves: where the hub says no, `datasets` looks into its cache and forgets why.
        HfApi().dataset_info(hub.name, revision=hub.revision, timeout=_TIMEOUT_S)
        HfApi().file_exists(hub.name, "README.md", repo_type="dataset", revision=hub.revision)
        builder = datasets.load_dataset_builder(hub.name, hub.config, revision=hub.revision)
        splits = {str(split): list(urls) for split, urls in (builder.config.data_files or {}).items()}
    if hub.split not in splits:
        raise UserError(f"{words} has no split '{hub.split}': its splits are {', '.join(sorted(splits))}.")
    files = []
    system = HfFileSystem()
    for url in splits[hub.split]:
        if not (url.startswith(f"{where.base}/") and url.endswith(".parquet")):
            raise UserError(
                f"{words} has a file that is no Parquet file of this commit ({url.rpartition('/')[2]}), and "
                "only those are read in ranges: download it and give it as corpus=local."
            )
        with _told(where):
            files.append(_listed(system, where, url.removeprefix(f"{where.base}/")))
    return where, files


def local_files(path: Path) -> tuple[Location, list[PinnedFile]]:
    """One Parquet file, or those of a folder, sorted.

    Raises:
        UserError: there is none, or documents lie beside them that would be left out.
    """
    members = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not members or members[0].suffix != ".parquet":
        raise UserError(f"{path} holds no Parquet files, and only those are cut into parts: convert them.")
    if path.is_dir():  # only Parquet files of the folder itself are cut into parts
        refuse_left_out(path, members)
    folder = members[0].parent
    files = [PinnedFile(name=m.name, size=m.stat().st_size, digest="") for m in members]
    return Location(base=str(folder), words=str(path)), files


def check_same(where: Location, now: Sequence[PinnedFile], pinned: Sequence[PinnedFile]) -> None:
    """Hold a listing to an earlier one.

    Raises:
        UserError: a file came, went or changed.
    """
    before = {file.name: (file.size, file.digest) for file in pinned}
    after = {file.name: (file.size, file.digest) for file in now}
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            raise _changed(where, name)


@contextmanager
def opened(where: Location, file: PinnedFile) -> Iterator[pq.ParquetFile]:
    """A file's row groups.

    Raises:
        UserError: it cannot be read, is no Parquet file, or is not what was pinned.
    """
    address = where.of(file)
    if address.startswith(_HUB):
        from huggingface_hub import HfFileSystem

        system = HfFileSystem()
        with _told(where):
            now = _listed(system, where, file.name)
            handle: Any = system.open(address, "rb", block_size=_RANGE_BYTES, cache_type="readahead")
        if (now.size, now.digest) != (file.size, file.digest):
            raise _changed(where, file.name)
        handle = _Ranges(handle, where)
    else:
        handle = nullcontext(address)
    with handle as readable:
        try:
            found = pq.ParquetFile(readable, buffer_size=_BUFFER_BYTES, page_checksum_verification=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise UserError(
                f"{file.name} of {where.words} is not a readable Parquet file ({first_line(error)}): take "
                "another revision, or write it again."
            ) from error
        with found:
            if contradicts_itself(found.metadata, file.size):
                raise UserError(
                    f"{file.name} of {where.words} is not a readable Parquet file (its footer contradicts "
                    "itself): take another revision, or write it again."
                )
            if file.footer and file.footer != footer_digest(found):
                raise _changed(where, file.name)
            yield found


def footer_digest(file: pq.ParquetFile) -> str:
    """Of all that the footer says: columns, and of every row group where it lies and how large it is."""
    told = pa.BufferOutputStream()
    file.metadata.write_metadata_file(told)
    return hashlib.sha256(told.getvalue()).hexdigest()


def with_footers(
    where: Location, files: Sequence[PinnedFile], columns: Columns
) -> Iterator[tuple[PinnedFile, list[Group]]]:
    """Every file with its footer pinned, and what its row groups hold; several are opened at once.

    Raises:
        UserError: as `opened` does, or for a file without the columns.
    """

    def look(file: PinnedFile) -> tuple[PinnedFile, list[Group]]:
        with opened(where, file) as found:
            chosen = text_columns(found.schema_arrow, columns, Place(f"{file.name} of {where.words}"))
            footer = found.metadata
            paths = [footer.schema.column(number).path for number in range(footer.num_columns)]
            text = paths.index(chosen.text)
            groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
            sizes = [Group(group.num_rows, group.column(text).total_uncompressed_size) for group in groups]
            return file.model_copy(update={"footer": footer_digest(found)}), sizes

    with ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:
        yield from pool.map(look, files)


class _Ranges(io.RawIOBase):
    """A file of a hub, whose failures are the network's: never to be taken for damage of the file."""

    def __init__(self, file: Any, where: Location) -> None:
        self._file, self._where = file, where

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        with _told(self._where):
            found = self._file.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def close(self) -> None:
        self._file.close()
        super().close()


def _listed(system: Any, where: Location, name: str) -> PinnedFile:
    """A file as the hub lists it."""
    facts = system.info(f"{where.base}/{name}")
    large = facts.get("lfs")
    return PinnedFile(name=name, size=facts["size"], digest=large.sha256 if large else facts["blob_id"])


def _changed(where: Location, name: str) -> UserError:
    return UserError(
        f"{name} of {where.words} is not what it was when it was first listed, and a commit never changes: "
        "ask whoever runs that hub, then delete what was begun and run again."
    )


@contextmanager
def _told(where: Location) -> Iterator[None]:
    """What goes wrong between us and a hub, as a sentence; what is no such thing is passed on."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        told = _sentence(error, where)
        if told is None:
            raise
        raise UserError(told) from error


def _sentence(error: BaseException, where: Location) -> str | None:
    from huggingface_hub import constants, errors

    links = _links(error)

    def any_of(kind: Any) -> bool:
        return any(isinstance(link, kind) for link in links)

    if any_of(errors.GatedRepoError):
        return (
            f"{where.words} is gated: ask for access on its page, log in with `hf auth login`, and run the "
            "same command again."
        )
    if any_of(errors.RevisionNotFoundError):
        return f"there is no such commit: {where.words}; correct the revision."
    if any_of(errors.RepositoryNotFoundError):
        return (
            f"there is no such data set, or none that you may see: {where.words}; correct its name, or log "
            "in with `hf auth login`."
        )
    if any_of(errors.OfflineModeIsEnabled):
        return f"{where.words} cannot be read while the hub is switched off: unset HF_HUB_OFFLINE."
    if any(type(link).__module__.partition(".")[0] in _HTTP for link in links) or any_of(OSError):
        return (
            f"{where.words} cannot be read from {constants.ENDPOINT} ({first_line(links[-1])}): check the "
            "network and HF_ENDPOINT, and run the same command again; it continues from what is finished."
        )
    if any_of(ValueError):  # what `datasets` says of a configuration that is not there
        return f"{where.words} cannot be read ({first_line(error)}): check its name, configuration and split."
    return None


def _links(error: BaseException) -> list[BaseException]:
    """An error with all that it came of: libraries wrap the hub's errors, and try other things before."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is not None and link not in found:
            found.append(link)
            waiting += [link.__context__, link.__cause__]
    return found
