"""Every arm trains on the same number of tokens, and arms differ in nothing but what they repeat."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airlab.errors import UserError
from airlab.schema.mixture import MixtureSpec
from airlab.selection.mixture import (
    INDEX,
    INDEX_SCHEMA,
    TOKENIZED,
    TOKENS,
    Mixture,
    TokenizedCorpus,
    pass_order,
    selected_documents,
    write_mixture,
)

SEPARATOR = 0
UPSAMPLE, SUBSET = MixtureSpec(kind="upsample"), MixtureSpec(kind="subset_only")


def a_corpus(folder: Path, lengths: list[int], row_order: list[int] | None = None) -> TokenizedCorpus:
    """Document `d` is `lengths[d]` times the token `d + 1`; its row in the file may be any."""
    folder.mkdir(exist_ok=True)
    order = row_order if row_order is not None else list(range(len(lengths)))
    offsets = np.cumsum([0] + [lengths[d] for d in order])[:-1]
    np.concatenate([np.full(lengths[d], d + 1, dtype="<u2") for d in order]).tofile(folder / TOKENS)
    columns = [
        [f"doc-{d:03d}" for d in order],
        ["even" if d % 2 == 0 else "odd" for d in order],
        offsets,
        [lengths[d] for d in order],
    ]
    pq.write_table(pa.table([pa.array(c) for c in columns], schema=INDEX_SCHEMA), folder / INDEX)
    (folder / TOKENIZED).write_text(json.dumps({"separator": SEPARATOR, "dtype": "<u2"}))
    return TokenizedCorpus.open(folder)


def stream(
    folder: Path, corpus: TokenizedCorpus, selection, spec, budget=200, context=8, seed=3
) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    chosen = None if selection is None else pa.array(selection, pa.string())
    write_mixture(corpus, chosen, spec, budget, context, seed, folder)
    return np.array(Mixture.open(folder).tokens())


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    budget=st.integers(8, 400),
    data=st.data(),
)
def test_every_arm_has_the_same_number_of_tokens(tmp_path_factory, lengths, budget, data) -> None:
    root = tmp_path_factory.mktemp("arms")
    corpus = a_corpus(root / "corpus", lengths)
    chosen = data.draw(st.sets(st.sampled_from(corpus.unit_ids.to_pylist()), min_size=1))
    expected = budget // 8 * 8
    arms = [(None, UPSAMPLE), (sorted(chosen), UPSAMPLE), (sorted(chosen), SUBSET)]
    for number, (selection, spec) in enumerate(arms):
        tokens = stream(root / str(number), corpus, selection, spec, budget)
        assert len(tokens) == expected
        facts = json.loads((root / str(number) / "mixture.json").read_text())
        assert sum(facts["tokens_per_domain"].values()) == facts["n_tokens"] == expected


def test_one_pass_holds_every_document_once_and_the_selected_once_more(tmp_path: Path) -> None:
    corpus = a_corpus(tmp_path / "corpus", [3, 5, 2, 9])
    selected = selected_documents(corpus, pa.array(["doc-001", "doc-003"]))
    for number in range(3):
        assert Counter(pass_order(corpus, selected, UPSAMPLE, 0, number).tolist()) == {0: 1, 1: 2, 2: 1, 3: 2}
        assert Counter(pass_order(corpus, selected, SUBSET, 0, number).tolist()) == {1: 1, 3: 1}
        assert Counter(pass_order(corpus, None, UPSAMPLE, 0, number).tolist()) == {0: 1, 1: 1, 2: 1, 3: 1}


def test_selecting_everything_is_two_copies_of_everything(tmp_path: Path) -> None:
    corpus = a_corpus(tmp_path / "corpus", [3, 5, 2, 9, 4])
    everything = selected_documents(corpus, corpus.unit_ids)
    assert set(Counter(pass_order(corpus, everything, UPSAMPLE, 0, 0).tolist()).values()) == {2}


def test_arms_order_what_they_share_alike(tmp_path: Path) -> None:
    corpus = a_corpus(tmp_path / "corpus", [1] * 40)
    baseline = pass_order(corpus, None, UPSAMPLE, 7, 0).tolist()
    chosen = selected_documents(corpus, corpus.unit_ids[:8])
    arm = pass_order(corpus, chosen, UPSAMPLE, 7, 0).tolist()
    unselected = [document for document in baseline if document >= 8]
    assert [document for document in arm if document >= 8] == unselected
    assert unselected != sorted(unselected)


def test_passes_and_seeds_shuffle_afresh(tmp_path: Path) -> None:
    corpus = a_corpus(tmp_path / "corpus", [1] * 40)
    orders = [
        pass_order(corpus, None, UPSAMPLE, seed, number).tolist() for seed in (0, 1) for number in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 4


def test_stream_is_documents_opened_by_the_separator(tmp_path: Path) -> None:
    lengths = [3, 5, 2, 9]
    corpus = a_corpus(tmp_path / "corpus", lengths)
    tokens = stream(tmp_path / "mixture", corpus, ["doc-002"], UPSAMPLE)
    starts = Mixture.open(tmp_path / "mixture").starts()
    assert starts[0] == 0 and np.array_equal(starts, np.flatnonzero(tokens == SEPARATOR))
    pieces = np.split(tokens, starts[1:])
    for piece in pieces[:-1]:
        document = int(piece[1]) - 1
        assert piece.tolist() == [SEPARATOR] + [document + 1] * lengths[document]
    order = [int(piece[1]) - 1 for piece in pieces[:5]]
    assert (
        order
        == pass_order(corpus, selected_documents(corpus, pa.array(["doc-002"])), UPSAMPLE, 3, 0).tolist()
    )


def test_mixture_does_not_depend_on_the_row_order(tmp_path: Path) -> None:
    lengths = [3, 5, 2, 9, 1, 6]
    streams = [
        stream(tmp_path / f"m{n}", a_corpus(tmp_path / f"c{n}", lengths, order), chosen, UPSAMPLE)
        for n, (order, chosen) in enumerate(
            [([0, 1, 2, 3, 4, 5], ["doc-001", "doc-004"]), ([4, 2, 5, 0, 3, 1], ["doc-004", "doc-001"])]
        )
    ]
    assert np.array_equal(streams[0], streams[1])


def test_record_says_how_often_each_part_was_seen(tmp_path: Path) -> None:
    corpus = a_corpus(tmp_path / "corpus", [3, 3, 7, 7])  # with separators: 4 + 4 + 8 + 8 = 24 a pass
    stream(tmp_path / "mixture", corpus, ["doc-002"], UPSAMPLE, budget=64)  # 32 a pass: two whole passes
    facts = json.loads((tmp_path / "mixture" / "mixture.json").read_text())
    assert (facts["passes_selected"], facts["passes_unselected"]) == (4.0, 2.0)
    assert facts["tokens_per_domain"] == {"even": 8 + 32, "odd": 8 + 16}
    assert facts["passes_begun"] == 2 and facts["documents"] == 10


def test_documents_without_tokens_are_counted_and_left_out(tmp_path: Path) -> None:
    corpus = a_corpus(tmp_path / "corpus", [3, 0, 2])
    assert corpus.unit_ids.to_pylist() == ["doc-000", "doc-002"] and corpus.n_empty == 1


@pytest.mark.parametrize(
    ("selection", "budget", "words"),
    [([], 64, "selection is empty"), (["nowhere"], 64, "corpus lacks"), (None, 7, "fills no sequence")],
)
def test_what_cannot_be_mixed_is_refused(tmp_path: Path, selection, budget: int, words: str) -> None:
    corpus = a_corpus(tmp_path / "corpus", [3, 5])
    with pytest.raises(UserError, match=words):
        stream(tmp_path / "mixture", corpus, selection, UPSAMPLE, budget)
