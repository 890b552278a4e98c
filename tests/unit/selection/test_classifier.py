"""Classifiers come in as safely as language models, and score texts one by one or together alike."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertTokenizerFast

from airlab.errors import UserError
from airlab.scoring.classifier import classifier_scores, load_classifier

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "river", "stone", "music", "winter", "garden", "letter"]


def small_classifier(
    folder: Path, labels: int = 1, model_class: type = BertForSequenceClassification
) -> Path:
    """A random BERT of two layers that reads 16 tokens."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=16, num_labels=labels, initializer_range=0.5,
    )  # fmt: skip
    model_class(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=16).save_pretrained(folder)
    return folder


def some_texts(count: int = 20) -> list[str]:
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(WORDS[4:], draw.integers(1, 12))) for _ in range(count)]


def test_the_one_output_is_the_score(tmp_path: Path) -> None:
    loaded = load_classifier(small_classifier(tmp_path), output=None, max_tokens=16)
    texts = some_texts()
    scores = classifier_scores(loaded, texts, tokens_per_batch=64)
    assert scores.dtype == np.float64 and len(set(scores.round(6))) > 10
    for text, score in zip(texts, scores, strict=True):
        alone = loaded.model(**loaded.tokenizer(text, return_tensors="pt")).logits.item()
        assert score == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("tokens_per_batch", [1, 40, 10_000])
def test_batches_do_not_matter(tmp_path: Path, tokens_per_batch: int) -> None:
    loaded = load_classifier(small_classifier(tmp_path), output=None, max_tokens=16)
    done: list[float] = []
    scores = classifier_scores(loaded, some_texts(), tokens_per_batch, done.append)
    np.testing.assert_allclose(scores, classifier_scores(loaded, some_texts(), 64), atol=1e-5)
    assert sum(done) == 20


def test_one_of_several_outputs_is_a_log_probability(tmp_path: Path) -> None:
    small_classifier(tmp_path, labels=3)
    scores = [
        classifier_scores(load_classifier(tmp_path, output=i, max_tokens=16), some_texts(), 64)
        for i in range(3)
    ]
    np.testing.assert_allclose(np.exp(scores).sum(axis=0), 1)
    with pytest.raises(UserError, match="3 outputs; say which"):
        load_classifier(tmp_path, output=None, max_tokens=16)
    with pytest.raises(UserError, match="outputs 0 to 2 and output=3"):
        load_classifier(tmp_path, output=3, max_tokens=16)


def test_long_texts_are_read_from_their_beginning(tmp_path: Path) -> None:
    loaded = load_classifier(small_classifier(tmp_path), output=None, max_tokens=8)
    long, cut = (
        "river stone music winter garden letter letter stone",
        "river stone music winter garden letter",
    )
    one, other = classifier_scores(loaded, [long, cut], 64)
    assert one == pytest.approx(other, abs=1e-5)
    with pytest.raises(UserError, match="max_tokens=17 exceeds"):
        load_classifier(tmp_path, output=None, max_tokens=17)


def test_what_is_not_safe_or_no_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trained classifier: its files lack"):
        load_classifier(
            small_classifier(tmp_path / "lm", model_class=BertForMaskedLM), output=None, max_tokens=16
        )
    remote = small_classifier(tmp_path / "remote")
    settings = json.loads((remote / "config.json").read_text())
    (remote / "config.json").write_text(json.dumps({**settings, "auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(UserError, match="code of its own"):
        load_classifier(remote, output=None, max_tokens=16)
    pickled = small_classifier(tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickle formats"):
        load_classifier(pickled, output=None, max_tokens=16)
    broken = small_classifier(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_classifier(broken, output=None, max_tokens=16)
