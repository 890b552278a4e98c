"""Real inputs: a model folder, its heads and a table of documents, from wherever they are to be had."""

import functools
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from airlab.models.load import load_tokenizer
from airlab.randomness import generator
from airlab.text.documents import Document, write_documents
from airlab.text.tokens import encode_documents
from scorebench.options import Options
from scorebench.subjects import Subject

_WORDS = ["the", "of", "to", "in", "is", "and", "that", "it", "was", "for", "on", "are", "with", "as", "at"]


@functools.cache
def prepare(options: Options) -> tuple[Path, Path, Path]:
    """(model folder, heads file, documents.parquet): as given, made up for a rehearsal, or from the store.

    Without `--model`, `--heads` and `--documents` the store makes them: the model, the heads and the
    pool of `airlab run scale=smoke`, downloaded and computed at first use.
    """
    if options.rehearsal:
        return _made_up(options)
    if options.model and options.heads and options.documents:
        return options.model, options.heads, options.documents
    if options.model or options.heads or options.documents:
        raise SystemExit("--model, --heads and --documents belong together: give all three, or none.")
    return _from_store()


def _from_store() -> tuple[Path, Path, Path]:
    from hydra import compose, initialize_config_dir

    from airlab.cli.experiment import open_experiment
    from airlab.cli.main import configs_folder
    from airlab.cli.outputs import open_store
    from airlab.store.plan import Plan

    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        module, config, command = open_experiment(compose("run", ["scale=smoke"]))
    losses, store = module.losses_stage(config), open_store()
    Plan(store, [losses.heads]).run(command.machine)
    return (
        store.folder(losses.model),
        store.folder(losses.heads) / "heads.json",
        store.folder(losses.corpus) / "documents.parquet",
    )


def _made_up(options: Options) -> tuple[Path, Path, Path]:
    """A tiny model with a tokenizer of single bytes, two masked heads, and sentences of common words."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = options.scratch / "model"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    Subject.random("tiny").ordinary("cpu", torch.float32, "sdpa").save_pretrained(folder)
    heads = options.scratch / "heads.json"
    heads.write_text(json.dumps([[2, 0], [3, 1]]))
    draw = generator(0, "benchmark rehearsal")

    def text() -> str:
        sentences = (draw.choice(_WORDS, draw.integers(5, 12)) for _ in range(draw.integers(2, 6)))
        return " ".join(" ".join(words).capitalize() + "." for words in sentences)

    documents = options.scratch / "documents.parquet"
    write_documents(documents, (Document(f"made-up/{i}", "made-up", text()) for i in range(600)))
    return folder, heads, documents


def subject(options: Options, name: str) -> Subject:
    """The real model."""
    model, heads, _ = prepare(options)
    return Subject.real(model, heads, "tiny" if options.rehearsal else name)


def tokenized(options: Options, count: int) -> tuple[list[np.ndarray], list[str]]:
    """(token ids, domains) of `count` documents spread evenly over the table; long ones are cut."""
    model, _, path = prepare(options)
    table = pq.read_table(path, columns=["domain", "text"])
    rows = np.unique(np.linspace(0, table.num_rows - 1, min(count, table.num_rows)).astype(int))
    chosen = table.take(rows)
    encoded = encode_documents(load_tokenizer(model), chosen["text"].to_pylist())
    ids = [i[: options.longest_document] for i in encoded]
    kept = [k for k, i in enumerate(ids) if len(i) > 1]
    domains = chosen["domain"].to_pylist()
    return [ids[k] for k in kept], [domains[k] for k in kept]
