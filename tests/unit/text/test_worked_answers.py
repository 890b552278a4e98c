"""The verifier of final answers: numbers as numbers, and nothing else than the answer counts."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airlab.text.worked.answers import answer_in, is_right, number_in


@pytest.mark.parametrize(
    ("generated", "answer"),
    [
        ("Answer: 66", "66"),
        ("Answer: 66.0", "66"),
        ("Answer: 66", "66.0"),
        ("Answer: 66.", "66"),
        ("3+5=8\n8*2=16\nAnswer: 16", "16"),
        ("Answer: **66**", "66"),
        ("Answer: $66$", "66"),
        ("Answer: \\boxed{66}", "66"),
        ("Answer: \\(66\\)", "66"),
        ("The answer is 66.", "66"),
        ("the final answer is: 66", "66"),
        ("#### 66", "66"),
        ("ANSWER: +66", "66"),
        ("Answer: −3.5", "-3.5"),
        ("Answer: - 3.5", "-3.5"),
        ("Answer: x = -3.50", "-3.5"),
        ("Answer: 132/2", "66"),
        ("Answer: -1/4", "-0.25"),
        ("Answer: \\frac{1}{4}", "0.25"),
        ("Answer: \\dfrac{-1}{4}", "-0.25"),
        ("Answer: 0.3333", "1/3"),
        ("Answer: 1/3", "0.3333"),
        ("Answer: 11646", "11,646"),
        ("Answer: 1,234,567", "1234567"),
        ("Answer: 1e3", "1000"),
        ("Answer: 6.6e1", "66"),
        ("Answer: 2.5 \\times 10^{-3}", "0.0025"),
        ("Answer: 2.5 × 10^3", "2500"),
        ("Answer: .5", "0.5"),
        ("Answer: 46.0033 C", "46.0033"),
        ("Answer: 46.0033", "T_final = 46.0033 C"),
        ("Answer: T = 46.0033 C.", "T_final = 46.0033 C"),
        ("Answer: 104.0525 mg/L", "C_mix = 104.0525 mg/L"),
        ("Answer: 9.81 m/s^2", "9.81 m/s^2"),
        ("Answer: 128 cells", "128 CELLS"),
        ("Answer: 418.888", "418.89"),
        ("Answer: 5\n\nQuestion: Add: 3 + 4\nAnswer: 7", "5"),
        ("Answer: 4\nAnswer: 5", "5"),
        ("I get 4. The answer is not clear yet.\nAnswer: 5", "5"),
        ("so it must be\n16\n", "16"),
        ("Answer:\n66", "66"),
        ("answer: Yes.", "yes"),
    ],
)
def test_right_answers_in_other_spellings_count(generated: str, answer: str) -> None:
    assert is_right(generated, answer)


@pytest.mark.parametrize(
    ("generated", "answer"),
    [
        ("", "66"),
        ("Answer:", "66"),
        ("Answer: 67", "66"),
        ("Answer: 660", "66"),
        ("Answer: 6 6", "66"),
        ("Answer: 66.01", "66"),
        ("Answer: 66 or 67", "66"),
        ("Answer: 66 67 68", "66"),
        ("Answer: -66", "66"),
        ("Answer: 66", "-66"),
        ("The steps gave 66\nAnswer: 65", "66"),
        ("Answer: 65\n\nAnswer: 66", "66"),
        ("66\nNo, I am not sure.", "66"),
        ("Answer: 0.54", "0.5"),
        ("Answer: 0.3", "1/3"),
        ("Answer: 9.19", "9.1924"),
        ("Answer: 418.9", "418.8"),
        ("Answer: 0", "0.0001"),
        ("Answer: 66/0", "66"),
        ("Answer: 46.0033 F", "46.0033 C"),
        ("Answer: 46.0033 K", "T = 46.0033 C"),
        ("Answer: 3,4", "34"),
        ("Answer: 12,34", "1234"),
        ("Answer: x66", "66"),
        ("Answer: 66 = 67", "66"),
        ("Answer: 1e400", "66"),
        ("Answer: 1e999999999", "66"),
        ("Answer: " + "6" * 5000, "66"),
        ("Answer: nan", "66"),
        ("Answer: inf", "66"),
        ("Answer: sixty-six", "66"),
        ("Answer: no", "yes"),
        ("Answer: 50%", "0.5"),
        ("Answer: 2^3", "8"),
    ],
)
def test_wrong_answers_do_not(generated: str, answer: str) -> None:
    assert not is_right(generated, answer)


@given(st.integers(-(10**12), 10**12))
def test_a_whole_number_is_only_itself(number: int) -> None:
    for spelling in (f"{number}", f"{number}.0", f"x = {number}", f"{number:,}", f"{2 * number}/2"):
        assert is_right(f"Answer: {spelling}", str(number))
    assert not is_right(f"Answer: {number + 1}", str(number))
    assert not is_right(f"Answer: {number}.01", str(number))


@given(st.decimals(-(10**6), 10**6, places=4))
def test_a_decimal_is_right_to_its_last_digit(number: object) -> None:
    found = number_in(f"v = {number} m")
    assert found is not None and found.value == Fraction(str(number)) and found.unit == "m"
    assert is_right(f"Answer: {number}", str(number))


@given(st.text(max_size=200), st.sampled_from(["66", "-0.5", "x = 1/3 m", "yes"]))
def test_no_text_is_too_strange_to_be_judged(generated: str, answer: str) -> None:
    assert is_right(generated, answer) in (True, False)
    assert is_right(f"Answer: {generated}", answer) in (True, False)


def test_the_answer_is_the_line_behind_the_mark() -> None:
    assert answer_in("a\nb\nAnswer: x = 3 m\nbecause of 4") == "x = 3 m"
    assert answer_in("nothing said\n\n 12 ") == "12"
    assert answer_in(" \n") == ""
