"""Steps partition the response, whatever it holds, and no rule cuts inside code, formulas or characters."""

import itertools
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from airlab.errors import UserError
from airlab.schema.traces import Segmentation
from airlab.text.steps import cut, protected_spans

TEXT_RULES = ("whole", "blank_line", "newline", "sentence", "cue")

pieces = st.one_of(
    st.sampled_from(
        [
            "\n", "\n\n", "\r\n", "\r\n\r\n", "\r", " ", "\u2028", "\u2029", "\x85", "\u00a0",
            "\u200d", "\u0301", "e\u0301", "👩\u200d🔬", "👍🏽", "🏽",
            "```", "\n```\n", "\n~~~~\n", "$", "$$",
            "`", "$x$", "\t",
            "$$\n\ny\n\n$$", "\\[", "\\]", "\\(", "\\)", "\\\\[2pt]", "\\$", "\\begin{align}", "\\end{align}",
            "\\begin{cases}", "\\end{cases}", "So ", "Wait, ", "Step 3: ", "1. ", "2) ", "First", "Therefore",
            ". ", "! ", "? ", "… ", "。", "e.g. ", "Dr. ", "3.14", "a b c", "Ω", "\x00",
        ]
    ),
    st.text(max_size=6),
)  # fmt: skip
texts = st.lists(pieces, max_size=14).map("".join)


def parts(text: str, rule: str, **settings_: object) -> list[str]:
    return [text[a:b] for a, b in cut(text, Segmentation(rule=rule, **settings_))]  # type: ignore[arg-type]


def check(text: str, spans: tuple[tuple[int, int], ...]) -> None:
    assert "".join(text[a:b] for a, b in spans) == text
    assert all(a < b for a, b in spans)
    assert all(left[1] == right[0] for left, right in itertools.pairwise(spans))
    if text.strip():
        assert all(text[a:b].strip() for a, b in spans), "a blank step"
    else:
        assert len(spans) == bool(text)


@settings(max_examples=80, deadline=None)
@given(text=texts)
@example(text="")
@example(text=" \n\n ")
@example(text="\n\n\u0301a\n\n\u0301b")
@example(text="a\r\n\r\nb\r\rc")
@pytest.mark.parametrize("rule", TEXT_RULES)
def test_steps_partition_any_text(rule: str, text: str) -> None:
    check(text, cut(text, Segmentation(rule=rule)))  # type: ignore[arg-type]


@settings(max_examples=80, deadline=None)
@given(text=texts)
@example(text="👩\u200d🔬 a\n\n👍🏽")
@pytest.mark.parametrize("rule", ["newline", "cue", "fixed_tokens"])
def test_nothing_that_belongs_together_is_cut(rule: str, text: str) -> None:
    """With every character a token of its own, fixed tokens would cut anywhere."""
    spans = cut(
        text,
        Segmentation(rule=rule, tokens_per_step=1),  # type: ignore[arg-type]
        token_starts=range(len(text)) if rule == "fixed_tokens" else (),
    )
    check(text, spans)
    protected = protected_spans(text)
    assert all(a < b for a, b in protected)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(protected))
    for place, _ in spans[1:]:
        assert not any(a < place < b for a, b in protected)
        assert text[place] not in "\u0301\u200d🏽" and text[place - 1] != "\u200d"
        assert text[place - 1 : place + 1] != "\r\n"


@settings(max_examples=60, deadline=None)
@given(text=texts)
@pytest.mark.parametrize("rule", ["blank_line", "newline"])
def test_a_step_is_one_step(rule: str, text: str) -> None:
    """Rules that cut at line ends find nothing more in what they have cut."""
    for step in parts(text, rule):
        assert parts(step, rule) == [step]


complete = st.lists(
    st.sampled_from(
        [
            "a b",
            "So x.",
            "Wait! No",
            "$x$",
            "\\[\ny\n\n\\]",
            "```\nc\n\nd\n```",
            "Step 1: e",
            "\n",
            "\n\n",
            "é 文",
        ]
    ),
    min_size=1,
    max_size=8,
).map(lambda some: "\n".join(["x", *some]))


@settings(max_examples=40, deadline=None)
@given(first=complete, second=complete)
@pytest.mark.parametrize("rule", ["blank_line", "newline", "sentence"])
def test_paragraphs_in_which_everything_is_closed_are_cut_alone_as_together(
    rule: str, first: str, second: str
) -> None:
    assert parts(first + "\n\n", rule) + parts(second, rule) == parts(first + "\n\n" + second, rule)


def test_what_is_not_closed_reaches_over_the_border() -> None:
    """Why the property above asks for closed texts."""
    assert parts("a\n\n```\nb", "blank_line") + parts("c\n\nd", "blank_line") == [
        "a\n\n",
        "```\nb",
        "c\n\n",
        "d",
    ]
    assert parts("a\n\n```\nb\n\nc\n\nd", "blank_line") == ["a\n\n", "```\nb\n\nc\n\nd"]


RULES_ON = """Let me see.  First we add, e.g. 3.14 and 2. Dr. Gauss agrees!

Step 1: compute
Wait, why? So be it.
1. one
2. two so on
**Therefore** done。完了。"""


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("whole", [RULES_ON]),
        ("blank_line", [RULES_ON[:63], RULES_ON[63:]]),
        (
            "newline",
            [
                RULES_ON[:63], "Step 1: compute\n", "Wait, why? So be it.\n", "1. one\n", "2. two so on\n",
                "**Therefore** done。完了。",
            ],
        ),
        (
            "sentence",
            [
                "Let me see.  ", "First we add, e.g. 3.14 and 2. Dr. Gauss agrees!\n\n",
                "Step 1: compute\nWait, why? ", "So be it.\n",
                "1. one\n2. two so on\n**Therefore** done。", "完了。",
            ],
        ),
        (
            "cue",
            [
                "Let me see.  ", RULES_ON[13:63], "Step 1: compute\n", "Wait, why? ", "So be it.\n",
                "1. one\n", "2. two so on\n", "**Therefore** done。完了。",
            ],
        ),
    ],
)  # fmt: skip
def test_each_rule_by_example(rule: str, expected: list[str]) -> None:
    assert parts(RULES_ON, rule) == expected


def test_cues_are_the_users_own_and_numbers_always_count() -> None:
    text = "Also a.\nSo b. Aber c\nAbers d\n2) e\n[3] f\n1.5 g\nStep two"
    assert parts(text, "cue", cues=("Aber",)) == [
        "Also a.\nSo b. ",
        "Aber c\nAbers d\n",
        "2) e\n",
        "[3] f\n1.5 g\nStep two",
    ]
    assert parts(text, "cue", cues=()) == [
        "Also a.\nSo b. Aber c\nAbers d\n",
        "2) e\n",
        "[3] f\n1.5 g\nStep two",
    ]
    assert parts("a.\nb.c d", "cue", cues=("b.c", "b")) == ["a.\n", "b.c d"], "a cue is text, not a pattern"
    with pytest.raises(ValidationError):
        Segmentation(rule="cue", cues=("",))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\n\n```py\nx\n\ny\n```\n\nb", "```py\nx\n\ny\n```"),
        ("a\n\n   ~~~~\nx\n\n~~~\n\n~~~~\n\nb", "~~~~\nx\n\n~~~\n\n~~~~"),
        ("a\n\n```\nx\n\ny", "```\nx\n\ny"),
        ("a\n\n$$\nx\n\ny$$\n\nb", "$$\nx\n\ny$$"),
        ("a\n\n\\[x\n\n\\\\[2pt]\n\ny\\]\n\nb", "\\[x\n\n\\\\[2pt]\n\ny\\]"),
        (
            "a\n\n\\begin{a}\n\n\\begin{a}\\end{a}\n\n\\end{a}\n\nb",
            "\\begin{a}\n\n\\begin{a}\\end{a}\n\n\\end{a}",
        ),
        ("a\n\n\\begin{a}$$\n\n\\end{a}\n\nb$$", "\\begin{a}$$\n\n\\end{a}"),
        ("a\n\n\\(\n\n\\)\n\nb", "\\(\n\n\\)"),
    ],
)
def test_a_block_is_one_step_of_its_own_paragraphs(text: str, kept: str) -> None:
    steps = parts(text, "blank_line")
    assert [step.strip() for step in steps] == ["a", kept, *filter(None, [text.rpartition(kept)[2].strip()])]


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5. So I pay US$10. Then $3 are left. ",  # prices
        "$ x. So y$. Then z. ",  # space behind the opening sign
        "$x. So y $. Then z. ",
        "\\$x. So y\\$. Then z. ",
        "$x. So y\n\nz$. Then z. ",  # over the end of a paragraph
        "\\[ x. So y. Then z. ",  # never closed
        "\\begin{a} x. So \\end{b} y. Then z. ",
        "a ``` x. So y ```. Then z. ",  # not at the start of a line
        "```x``` is code. So y. Then z. ",  # nor what ends on its line
        "$$ x. So y. Then z.\n```\n$$\n```",  # not across a code block
    ],
)
def test_what_is_no_formula_protects_nothing(text: str) -> None:
    assert any(step.startswith("So ") for step in parts(text, "sentence"))
    assert any(step.startswith("Then ") for step in parts(text, "sentence"))


def test_a_formula_within_a_sentence_keeps_it_together() -> None:
    assert parts("Let $a = 3. So b$ hold. Then c. ", "sentence") == ["Let $a = 3. So b$ hold. ", "Then c. "]


def test_fixed_tokens_count_and_wait_for_the_end_of_what_is_protected() -> None:
    text = "ab cd $x y z$ ef gh ij"
    starts = [0, 3, 6, 7, 9, 11, 12, 14, 17, 20]
    rule = Segmentation(rule="fixed_tokens", tokens_per_step=3)
    assert [text[a:b] for a, b in cut(text, rule, token_starts=starts)] == ["ab cd $x y z$ ", "ef gh ij"]
    two = Segmentation(rule="fixed_tokens", tokens_per_step=2)
    assert [text[a:b] for a, b in cut(text, two, token_starts=starts)] == [
        "ab cd ",
        "$x y z$ ",
        "ef gh ",
        "ij",
    ]
    assert cut(
        "🤔🤔", Segmentation(rule="fixed_tokens", tokens_per_step=2), token_starts=[0, 0, 0, 1, 1]
    ) == (
        (0, 1),
        (1, 2),
    ), "tokens that share a character stay together"


def test_given_steps_are_taken_as_they_are_or_refused() -> None:
    given_ = Segmentation(rule="given")
    assert cut("abc", given_, step_ends=(1, 3)) == ((0, 1), (1, 3))
    with pytest.raises(UserError, match=r"name no steps of their own: choose another segmentation.rule"):
        cut("abc", given_)
    for wrong in [(1, 2), (1, 1, 3), (2, 1, 3), (0, 3), (4,), ()]:
        with pytest.raises(UserError, match="do not partition"):
            cut("abc", given_, step_ends=wrong)


@pytest.mark.parametrize(
    "unit",
    ["$1 ", "$a ", "\\begin{a} ", "\\[ ", "```\n", "1. ", ".) ", ".", "\n", " \n", "\n#",
     "***\n", "a\u0301. ", "`", "~~~a\n"],
)  # fmt: skip
def test_time_grows_with_the_length(unit: str) -> None:
    began = time.perf_counter()
    for rule in TEXT_RULES:
        cut(unit * 10_000, Segmentation(rule=rule))  # type: ignore[arg-type]
    assert time.perf_counter() - began < 3
