"""Surface statistics mean what they say."""

import numpy as np
import pytest

from airlab.text.statistics import measure_text, words_of


def test_words_are_lower_case_words_and_runs_of_punctuation() -> None:
    assert words_of("The cat's 2 mats, fürs Haus... x_1") == [
        "the", "cat", "'", "s", "2", "mats", ",", "fürs", "haus", "...", "x_1",
    ]  # fmt: skip


def test_repetition_is_the_share_of_ngrams_seen_before() -> None:
    assert measure_text("a b c d e f g h").repetition == 0
    assert measure_text("a b c d").repetition == 0  # too short to repeat a 5-gram
    assert measure_text("a b c d e a b c d e").repetition == pytest.approx(1 / 6)
    assert measure_text("x " * 105).repetition == pytest.approx(100 / 101)


def test_compression_follows_redundancy() -> None:
    draw = np.random.default_rng(0)
    noise = "".join(draw.choice(list("abcdefghijklmnopqrstuvwxyz "), 4000))
    assert measure_text("river " * 500).compression_ratio > 50
    assert 1 < measure_text(noise).compression_ratio < 2.5


def test_an_empty_document_has_statistics() -> None:
    empty = measure_text("")
    assert (empty.n_bytes, empty.n_words, empty.compression_ratio, empty.repetition) == (0, 0, 0, 0)
    assert measure_text("é").n_bytes == 2
