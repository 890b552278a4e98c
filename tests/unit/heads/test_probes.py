"""Probes are what the paper says, and never longer than allowed."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from airlab.errors import UserError
from airlab.heads.probes import build_probes, usable_values
from airlab.schema.heads import Probes

WORDS = ["river", "stone", "music", "winter", "garden", "letter", "window", "silver", "bread", "north"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, with the spelling of spaces that byte-level BPE tokenizers use."""
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner)


def sentences(count: int = 60) -> list[str]:
    draw = np.random.default_rng(0)
    return [f"The {' '.join(draw.choice(WORDS, 3))} {i} is old." for i in range(count)]


SPEC = Probes(count=6, max_tokens=1500, max_value_tokens=60)


def test_probe_asks_for_a_value_of_its_own_object(tokenizer):
    for probe in build_probes(tokenizer, sentences(), SPEC, context=4096):
        text = tokenizer.decode(probe.tokens)
        answer = tokenizer.decode(probe.tokens[slice(*probe.answer)])
        assert answer in sentences()
        assert text.endswith(f"answer:\n{answer}")
        assert answer in tokenizer.decode(probe.tokens[slice(*probe.needle)])
        assert probe.needle[1] < probe.answer[0]
        asked = text.rsplit("key: ", 1)[1].split("\n")[0]
        assert len(asked) == 32 and asked.isalnum()
        assert f'"{asked}": "{answer}"' in text
        assert text.count("answer:\n") == SPEC.demonstrations + 1


def test_probes_fill_but_never_exceed_their_length(tokenizer):
    lengths = [len(p.tokens) for p in build_probes(tokenizer, sentences(), SPEC, context=4096)]
    assert max(lengths) <= SPEC.max_tokens
    assert min(lengths) > SPEC.max_tokens - 120, "one more pair would have fitted"


def test_demonstrations_show_other_keys_than_the_one_asked(tokenizer):
    for probe in build_probes(tokenizer, sentences(), SPEC, context=4096):
        keys = [part.split("\n")[0] for part in tokenizer.decode(probe.tokens).split("key: ")[1:]]
        assert len(set(keys)) == SPEC.demonstrations + 1


def test_needles_lie_anywhere_in_the_object(tokenizer):
    spec = SPEC.model_copy(update={"count": 40})
    depth = [p.needle[0] / len(p.tokens) for p in build_probes(tokenizer, sentences(), spec, context=4096)]
    assert min(depth) < 0.25 and max(depth) > 0.55


def test_a_probe_depends_on_seed_and_number_only(tokenizer):
    few = list(build_probes(tokenizer, sentences(), SPEC, context=4096))
    more = list(build_probes(tokenizer, sentences(), SPEC.model_copy(update={"count": 9}), context=4096))
    other = list(build_probes(tokenizer, sentences(), SPEC.model_copy(update={"seed": 1}), context=4096))
    assert all(np.array_equal(a.tokens, b.tokens) for a, b in zip(few, more, strict=False))
    assert not np.array_equal(few[0].tokens, other[0].tokens)


def test_too_short_a_context_or_too_little_text_is_refused(tokenizer):
    with pytest.raises(UserError, match="context of 1000 tokens"):
        next(build_probes(tokenizer, sentences(), SPEC, context=1000))
    with pytest.raises(UserError, match="different sentences"):
        next(build_probes(tokenizer, sentences(5), SPEC, context=4096))


def test_sentences_that_json_would_quote_are_no_values(tokenizer):
    assert usable_values(tokenizer, ['He said "no".', "A\\B is here.", "Plain it is."], 60) == [
        "Plain it is."
    ]
    assert usable_values(tokenizer, ["Plain it is."], 5) == []
