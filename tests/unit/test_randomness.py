"""Every purpose has its own stream, the same on every machine and untouched by the others."""

from hypothesis import given, settings
from hypothesis import strategies as st

from airlab.randomness import derive_seed, generator

purposes = st.lists(st.text(st.characters(exclude_characters="\x1f"), max_size=4), max_size=3).map(tuple)


def test_seeds_are_the_same_everywhere_and_for_ever() -> None:
    assert derive_seed(0, "probes") == 8936781475767734915
    assert generator(0, "probes").integers(0, 1 << 30, 3).tolist() == [164687454, 67003032, 510693536]


def test_the_same_purpose_gives_the_same_draws() -> None:
    assert generator(1, "a", 2).random(5).tolist() == generator(1, "a", 2).random(5).tolist()


@given(st.integers(0, 9), purposes, st.integers(0, 9), purposes)
@settings(deadline=None)
def test_other_seeds_or_purposes_give_other_streams(
    seed: int, purpose: tuple[str, ...], other_seed: int, other_purpose: tuple[str, ...]
) -> None:
    same = (seed, purpose) == (other_seed, other_purpose)
    if not same and [str(seed), *purpose] != [str(other_seed), *other_purpose]:
        assert derive_seed(seed, *purpose) != derive_seed(other_seed, *other_purpose)


@given(st.integers(), purposes)
@settings(deadline=None)
def test_seeds_fit_a_signed_64_bit_integer(seed: int, purpose: tuple[str, ...]) -> None:
    assert 0 <= derive_seed(seed, *purpose) < 1 << 63


def test_halves_of_characters_are_words_too() -> None:
    assert derive_seed(0, "\ud800") != derive_seed(0, "\ud801")


def test_words_are_not_run_together() -> None:
    assert derive_seed(1, "ab", "c") != derive_seed(1, "a", "bc") != derive_seed(1, "abc")
    assert derive_seed(1, 2) != derive_seed(12)


def test_no_draw_depends_on_who_drew_before() -> None:
    alone = generator(3, "selection").random(4).tolist()
    generator(3, "mixture").random(100)
    assert generator(3, "selection").random(4).tolist() == alone
