"""From what a configuration names to stages and files: the user's paths become content here."""

from pathlib import Path

from airlab.errors import UserError
from airlab.schema.corpus import Corpus, HubCorpus, PoolCorpus
from airlab.schema.mixture import MixtureSpec
from airlab.schema.models import LocalModel, ModelSource, TrainedModel
from airlab.schema.text import HubDataset
from airlab.schema.traces import GeneratedTraces, HubTraces, TraceSource
from airlab.stages.build_mixture import BuildMixture, TokenizeCorpus
from airlab.stages.build_pool import BuildPool
from airlab.stages.build_traces import BuildTraces
from airlab.stages.import_corpus import ImportCorpus
from airlab.stages.import_traces import ImportTraces
from airlab.stages.prepare_model import Model, PrepareModel
from airlab.stages.pretrain import Pretrain
from airlab.stages.tokenize_shards import BYTES_PER_SHARD, TokenizeShards
from airlab.stages.train_tokenizer import TrainTokenizer
from airlab.store.files import Files
from airlab.store.stage import Stage


def corpus_stage(corpus: Corpus) -> Stage:
    """The stage that makes a corpus."""
    if isinstance(corpus, PoolCorpus):
        return BuildPool(corpus.pool)
    if isinstance(corpus, HubCorpus):
        return ImportCorpus.of_hub(corpus.hub, corpus.columns)
    return ImportCorpus.of_path(Path(corpus.path), corpus.columns)


def tokenized_stage(source: Corpus, corpus: Stage, tokenizer: Stage) -> TokenizeCorpus | TokenizeShards:
    """The stage that makes a corpus tokens: of a hub's files as they lie there, of all others' documents."""
    if isinstance(source, HubCorpus):
        return TokenizeShards(source.hub, source.columns, tokenizer, BYTES_PER_SHARD)
    return TokenizeCorpus(corpus, tokenizer)


def documents_stage(tokenized: TokenizeCorpus | TokenizeShards) -> Stage:
    """The stage that makes the documents of a corpus that was made tokens."""
    if isinstance(tokenized, TokenizeCorpus):
        return tokenized.corpus
    assert isinstance(tokenized.source, HubDataset)
    return ImportCorpus.of_hub(tokenized.source, tokenized.columns)


def traces_stage(source: TraceSource) -> BuildTraces | ImportTraces:
    """The stage that makes a table of traces."""
    if isinstance(source, GeneratedTraces):
        return BuildTraces(source.problems)
    if isinstance(source, HubTraces):
        return ImportTraces.of_hub(source.hub, source.columns)
    return ImportTraces.of_path(Path(source.path), source.columns)


def model_input(source: ModelSource) -> Model:
    """The stage that makes a model folder, or the user's own folder as it is.

    Raises:
        UserError: a model is to be trained and no corpus is named.
    """
    if isinstance(source, TrainedModel):
        return _trained(source)
    if not isinstance(source, LocalModel):
        return PrepareModel(source)
    path = Path(source.path)
    files = Files.of(path)
    return files if path.is_dir() else PrepareModel(files)


def _trained(source: TrainedModel) -> Pretrain:
    """The recipe of an experiment's full-pool target, so that what is alike is trained once."""
    if source.corpus is None:
        raise UserError(
            "a model of kind trained needs a corpus to be pretrained on, and none is named; name the one "
            "that its heads were found with, +corpus@model.corpus=pool-laptop, say."
        )
    corpus, shape = corpus_stage(source.corpus), source.shape
    assert isinstance(shape.vocabulary, int)
    tokenizer = TrainTokenizer(corpus, shape.vocabulary)
    mixture = BuildMixture(
        tokenized_stage(source.corpus, corpus, tokenizer),
        None,
        MixtureSpec(),
        budget_tokens=source.training.budget_tokens,
        context=shape.context,
        seed=source.seed,
    )
    return Pretrain(mixture, tokenizer, shape, source.training, source.seed)
