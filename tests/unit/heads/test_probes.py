"""Probes are what the paper says, and never longer than allowed."""

import hashlib

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from airlab.errors import UserError
from airlab.heads import probes
from airlab.heads.probes import Probe, build_probes, usable_values
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


def same(a: Probe, b: Probe) -> bool:
    return np.array_equal(a.tokens, b.tokens) and (a.answer, a.needle) == (b.answer, b.needle)


def test_any_probe_can_be_built_alone(tokenizer):
    whole = list(build_probes(tokenizer, sentences(), SPEC, context=4096))
    some = list(build_probes(tokenizer, sentences(), SPEC, 4096, numbers=[4, 1]))
    assert same(some[0], whole[4]) and same(some[1], whole[1]) and len(some) == 2


@pytest.mark.parametrize("costs", [(0.0, 0.0), (0.0, 5000.0), (9000.0, 1.0), (-9000.0, 30.0)])
def test_a_bad_first_guess_of_the_size_changes_nothing(tokenizer, costs, monkeypatch):
    good = list(build_probes(tokenizer, sentences(), SPEC, context=4096))
    monkeypatch.setattr(probes, "_token_costs", lambda *_: costs)
    bad = list(build_probes(tokenizer, sentences(), SPEC, context=4096))
    assert all(map(same, good, bad))


def test_the_object_has_as_many_pairs_as_fit(tokenizer):
    """Against trying every size, from the largest down."""
    longer = SPEC.model_copy(update={"max_tokens": 1700})
    for spec in (SPEC, longer):
        found = list(build_probes(tokenizer, sentences(), spec, context=4096))
        pairs = [tokenizer.decode(p.tokens).split("}")[0].count('": "') for p in found]
        drafts: list[probes._Draft] = []

        def keep(tokenizer, made, limit, drafts=drafts):
            drafts += made

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(probes, "_fill", keep)
            with pytest.raises(UserError, match="too short for 3 demonstrations"):
                list(build_probes(tokenizer, sentences(), spec, context=4096))
        for draft, size in zip(drafts, pairs, strict=True):
            fitting = [
                n
                for n in range(spec.demonstrations + 1, len(draft.pairs) + 1)
                if len(tokenizer(draft.render(n)[0])["input_ids"]) <= spec.max_tokens
            ]
            assert size == max(fitting)


@pytest.mark.parametrize(("spare", "size"), [(0, 6), (-1, 5)])
def test_a_probe_may_have_exactly_the_allowed_length(tokenizer, spare, size):
    pairs = list(zip("abcdefghij", sentences(10), strict=True))
    draft = probes._Draft(pairs, 0.5, np.arange(10), 1, np.zeros(11))
    limit = len(tokenizer(draft.render(6)[0])["input_ids"]) + spare
    probes._fill(tokenizer, [draft], limit)
    assert draft.fits == size


def test_published_rankings_rest_on_exactly_these_probes(tokenizer):
    """Changing a single token of any probe means that published rankings cannot be reproduced."""
    digest = hashlib.sha256()
    for probe in build_probes(tokenizer, sentences(), SPEC, context=4096):
        digest.update(probe.tokens.astype("<i8").tobytes() + repr((probe.answer, probe.needle)).encode())
    assert digest.hexdigest() == "0210e0392c8f0f582d7ba9c2196d130deecc54becfa5f5cf4daa557bce13c4da"


def test_a_range_of_characters_takes_every_token_that_overlaps_it():
    # The second character is spelled by two tokens.
    offsets = [(0, 1), (1, 2), (1, 2), (2, 4), (5, 6)]
    assert probes._token_range(offsets, 1, 2) == (1, 3)
    assert probes._token_range(offsets, 0, 3) == (0, 4)
    assert probes._token_range(offsets, 3, 6) == (3, 5)


def test_too_short_a_context_or_too_little_text_is_refused(tokenizer):
    with pytest.raises(UserError, match="context of 1000 tokens"):
        next(build_probes(tokenizer, sentences(), SPEC, context=1000))
    with pytest.raises(UserError, match="different sentences"):
        next(build_probes(tokenizer, sentences(5), SPEC, context=4096))


def test_sentences_that_json_would_quote_are_no_values(tokenizer):
    sentences = ['He said "no".', "A\\B is here.", "Plain it is."]
    assert usable_values(tokenizer, sentences, 60) == [("Plain it is.", 12)]
    assert usable_values(tokenizer, ["Plain it is."], 5) == []
