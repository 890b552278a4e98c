"""From what a configuration names to stages and files: the user's paths become content here."""

from pathlib import Path

from airlab.schema.corpus import Corpus, HubCorpus, PoolCorpus
from airlab.schema.models import LocalModel, ModelSource
from airlab.stages.build_pool import BuildPool
from airlab.stages.import_corpus import ImportCorpus
from airlab.stages.prepare_model import Model, PrepareModel
from airlab.store.files import Files
from airlab.store.stage import Stage


def corpus_stage(corpus: Corpus) -> Stage:
    """The stage that makes a corpus."""
    if isinstance(corpus, PoolCorpus):
        return BuildPool(corpus.pool)
    if isinstance(corpus, HubCorpus):
        return ImportCorpus.of_hub(corpus.hub, corpus.columns)
    return ImportCorpus.of_path(Path(corpus.path), corpus.columns)


def model_input(source: ModelSource) -> Model:
    """The stage that makes a model folder, or the user's own folder as it is."""
    if not isinstance(source, LocalModel):
        return PrepareModel(source)
    path = Path(source.path)
    files = Files.of(path)
    return files if path.is_dir() else PrepareModel(files)
