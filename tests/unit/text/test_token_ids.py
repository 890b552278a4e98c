"""Documents get the ids that the tokenizer's own call gives them, whatever they spell."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from airlab.text.tokens import encode_documents, sequence_start

SPECIAL = ("<s>", "</s>", "<|im_start|>")
KINDS = ("bytes", "bytes with start", "words", "words with start and end")


def byte_level() -> Tokenizer:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(["the river and the stone, the <s> start and the end </s> of it"] * 3, trainer)
    return inner


def word_level() -> Tokenizer:
    """Lower case, spaces made visible, and every piece but a few unknown."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, "<unk>", "the", "river", "<", "s", ">", "|"])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+|\W"), "isolated")
    return inner


def make(kind: str) -> PreTrainedTokenizerFast:
    inner = byte_level() if kind.startswith("bytes") else word_level()
    if "with" in kind:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>" if "end" in kind else "<s> $A", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", additional_special_tokens=["<|im_start|>"]
    )


TOKENIZERS = {kind: make(kind) for kind in KINDS}

pieces = st.one_of(
    st.sampled_from([*SPECIAL, "the ", "river", "<", "|>", " ", "\n", "", "\0", "<S>", "ﬁ", "文書"]),
    st.text(max_size=8),
)
documents = st.lists(st.lists(pieces, max_size=12).map("".join), max_size=6)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(texts=documents)
@example(texts=[])
@example(texts=["", "<s>", "the <|im_start|></s> river", "a" * 5000])
def test_the_ids_are_those_of_the_tokenizers_own_call(kind: str, texts: list[str]) -> None:
    tokenizer = TOKENIZERS[kind]
    expected = [
        tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] for text in texts
    ]
    start = [0] if "start" in kind else []
    found = encode_documents(tokenizer, texts)
    assert [ids.tolist() for ids in found] == [start + ids for ids in expected]
    assert all(ids.dtype == np.int32 for ids in found)


def test_a_special_token_in_a_text_is_not_one() -> None:
    (ids,) = encode_documents(TOKENIZERS["bytes with start"], ["</s>"])
    assert len(ids) > 2 and 1 not in ids


def test_settings_left_by_an_earlier_call_change_nothing() -> None:
    tokenizer = make("bytes with start")
    tokenizer.pad_token = "</s>"
    texts = ["the river and the stone", "</s>"]
    before = [ids.tolist() for ids in encode_documents(tokenizer, texts)]
    tokenizer.backend_tokenizer.enable_truncation(2)
    tokenizer.backend_tokenizer.enable_padding(length=40)
    tokenizer.backend_tokenizer.encode_special_tokens = False
    assert [ids.tolist() for ids in encode_documents(tokenizer, texts)] == before
    tokenizer(texts, padding=True, truncation=True, max_length=3)
    assert [ids.tolist() for ids in encode_documents(tokenizer, texts)] == before
    assert sequence_start(tokenizer) == [0]
    assert tokenizer("</s>")["input_ids"] == [0, 1], "its own calls still know special tokens"


def test_half_a_character_is_refused_as_by_the_tokenizer() -> None:
    tokenizer, texts = TOKENIZERS["bytes"], ["fine", "half \ud800"]
    with pytest.raises((TypeError, UnicodeError)) as theirs:
        tokenizer(texts, add_special_tokens=False)
    with pytest.raises(theirs.type):
        encode_documents(tokenizer, texts)
