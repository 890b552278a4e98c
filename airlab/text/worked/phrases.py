"""The words that are put into solutions: padding, lead-ins, repetitions and corrections.

Every set is large and mixes short with long, with numbers and without, so that no single word and no length
gives a kind away. Lead-ins stand before clean and wrong steps as well, and share their openings with padding,
half of which looks like calculation.
"""

import random
import re
from collections.abc import Sequence

from airlab.text.worked.equations import equations, holds, last_result, mentions

LEAD_INS: tuple[str, ...] = (
    "First,", "Next,", "Then,", "Now,", "So,", "Okay,", "Right,", "From this,", "With that,", "Here,",
    "Thus,", "Therefore,", "Hence,", "That gives:", "We get:", "This means:", "It follows:", "Work it out:",
    "Let me write:", "Going on:", "Step by step:", "We have:", "Write it down:", "Let us see:", "Continue:",
    "Good,", "In numbers:", "Put together:", "By hand:", "I get:",
)  # fmt: skip
"""What may precede a solution's own step. Each ends where a clause ends, so that equations stay readable."""

_WORDS: tuple[str, ...] = (
    "Okay.", "Let me see.", "Hmm.", "Right, go on.", "Let me think.", "So far so good.", "Now then.",
    "Good, next.", "Let us look at the {n}.", "We are given {n}.", "The question says {n}.", "Note the {n}.",
    "Keep {n} in mind.", "Remember: {n} is given.", "Here, {n} matters.", "So we have {n} here.",
    "Start from {n} as given.", "The numbers are {n} and {m}.", "Given are {n} and {m}.",
    "{n} and {m} come from the question.", "Look again: {n}, then {m}.", "So, {n} and {m}, as stated.",
    "We know {n} already.", "There is {n} in it, that is given.", "The task: {goal}.",
    "We want to {goal}.", "So the aim is to {goal}.", "Again, the goal: {goal}.", "We must {goal}, recall.",
    "To {goal}, go step by step.", "This is about how to {goal}.", "First, see what is asked: {goal}.",
    "Let me make sure I read {n} correctly.", "I should be careful with the {n} here.",
    "This looks fine to me so far.", "I think this is the right way.", "That should be correct, I believe.",
    "It may help to write things down neatly.", "There might be a quicker way, but this one works.",
    "I am fairly sure about this, though let me stay careful.", "Nothing surprising here, so let us go on.",
    "Let me take a moment and read the question again.", "We could also guess, but let us compute.",
    "Not sure yet, but {n} seems to be what matters.", "Perhaps {n} is the number to look at.",
    "It seems that {n} will be needed, or maybe {m}.", "Before going on, read once more: {n}, {m}.",
    "The next thing to do should be easy enough.", "All right, {n} it is.", "Fine: {n}.", "So: {n}.",
    "Here: {n}, {m}.", "Also {n}.", "With {n}, as it says.", "From the question: {n}, {m}.",
    "Let me call to mind what is known: {n} and {m}.", "Okay, so the known numbers are {n} and {m}, good.",
    "Then on to the next line.", "One step at a time.", "This is the right track.", "A few lines more.",
    "Now what about {n}? It stays as it is.", "Thus {n} is what we are told.", "Hence {n}, as we were told.",
    "That gives us something to go on, I would say.", "We get closer to it, slowly but surely.",
    "Let me write: {n} (given).", "In numbers: {n}, {m} (as stated).", "Now: {n}.", "Okay: {n}, {m}.",
    "By hand, then.", "I get the idea.", "Put simply: {goal}.", "To be clear: {goal}.",
)  # fmt: skip
"""Restating, hedging and talk. ``{n}`` and ``{m}`` are numbers of the question, ``{goal}`` what it asks."""

_SIGNS: tuple[str, ...] = (
    "{given}", "{given}", "{given}, {other}", "{given}, {other}", "given: {given}", "{given} (given)",
    "known: {given}", "we know {given}", "{given}, as stated", "from the question: {given}", "so {given}",
    "keep {given}", "again {given}, {other}", "{n} = {n}", "{n}={n}", "{n} + 0 = {n}", "{n}+0={n}",
    "{n} * 1 = {n}", "1*{n}={n}", "{n} - 0 = {n}", "{n}/1={n}", "{n} / 1 = {n}", "0 + {n} = {n}",
    "{n} = {n}, {m} = {m}", "first number = {n}", "second number = {m}", "a = {n}, b = {m}", "a={n}",
    "start = {n}", "given = {n}", "value = {n}", "known value = {n}", "one number = {n}, another = {m}",
    "given: {n} + 0 = {n}", "{n} * 1 = {n}, {m} * 1 = {m}", "{n}+0={n}, {m}+0={m}", "({n}) = {n}",
    "({n}) * 1 = {n}", "1 * {n} = {n} (no change)", "{n} - 0 = {n}, still {n}", "({n} + 0) * 1 = {n}",
    "first, {n} = {n}", "still: {n} * 1 = {n}", "as given: a = {n}", "let x = {n}", "a = {n}, b = {m} here",
)  # fmt: skip
"""Restating in the manner of a calculation. ``{given}`` and ``{other}`` are such as ``v=4.65``."""

_REPEATS: tuple[str, ...] = (
    "Again, {step}", "As before, {step}", "To repeat, {step}", "Once more, {step}", "As found above, {step}",
    "As we saw, {step}", "So again, {step}", "Checking: {step}", "Double-checking, {step}", "Indeed, {step}",
    "In other words, {step}", "That is to say, {step}", "Looking back, {step}", "We had: {step}",
    "Recall: {step}", "Still, {step}", "Just to be sure, {step}", "Going over it again, {step}",
    "I said: {step}", "Yes, {step}",
)  # fmt: skip

_CORRECTIONS: tuple[str, ...] = (
    "Wait, {step}", "No, that is wrong: {step}", "Let me correct that: {step}", "Hmm, I slipped: {step}",
    "Going back, {step}", "On second thought, {step}", "Correction: {step}", "Not so, {step}",
    "I made an error there: rather, {step}", "That was off, it is: {step}", "Actually, {step}",
    "Sorry, {step}", "Let me redo this: {step}", "Looking again, {step}", "A mistake: in truth, {step}",
    "Rather, {step}",
    "Checking above, it should say: {step}", "Hold on, {step}", "Oops, {step}", "I have to fix that: {step}",
)  # fmt: skip

_LIKE_CALCULATION = 0.5
"""Share of padding that is made of signs rather than words."""
_GIVEN = re.compile(r"(?<![\w\\}])[A-Za-z]\w*\s?=\s?-?\d+(?:\.\d+)?(?![\w.]*[\w(^])")
_ROOM = 10
"""Characters short of the wanted length from which a second saying is put behind the first."""
_TRIED = 24
"""Fillings of which the one nearest to the wanted length is taken."""
_SIMPLE = re.compile(
    r"(?P<a>\d+(?:\.\d+)?)(?P<x>\s*(?P<sign>[+*])\s*)(?P<b>\d+(?:\.\d+)?)(?P<y>\s*=\s*)(?P<c>\d+(?:\.\d+)?)"
)


def padding(prompt: str, length: int, used: Sequence[str], rng: random.Random) -> str:
    """A step that says nothing new, of about the wanted number of characters and none of those `used`.

    Filled with numbers of the question and what it asks for, never with results. Two sayings make a long one.
    """
    templates = _SIGNS if rng.random() < _LIKE_CALCULATION else _WORDS
    first = _nearest(_filled(prompt, templates, rng), length, used)
    if length - len(first) < _ROOM:
        return first
    second = _nearest(_filled(prompt, templates, rng), length - len(first) - 2, (*used, first))
    return f"{first.rstrip('.')}; {second}"


def _filled(prompt: str, templates: Sequence[str], rng: random.Random) -> list[str]:
    """Some of the templates that the question has enough for, filled; of the words where no other fits."""
    goal, _, said = prompt.partition(": ")
    said = said or prompt
    numbers, givens = list(dict.fromkeys(mentions(said))), list(dict.fromkeys(_GIVEN.findall(said)))
    goal = f"{goal[:1].lower()}{goal[1:]}"
    fitting = [
        text
        for text in (templates if numbers else _WORDS)
        if _slots(text, "{n}", "{m}") <= len(numbers) and _slots(text, "{given}", "{other}") <= len(givens)
    ]
    filled = []
    for template in rng.sample(fitting, min(_TRIED, len(fitting))):
        n, m, *_ = [*rng.sample(numbers, min(2, len(numbers))), "", ""]
        given, other, *_ = [*rng.sample(givens, min(2, len(givens))), "", ""]
        filled.append(template.format(n=n, m=m, goal=goal, given=given, other=other))
    return filled


def _nearest(texts: Sequence[str], length: int, used: Sequence[str]) -> str:
    fresh = [text for text in texts if text not in used] or texts
    return min(fresh, key=lambda text: abs(len(text) - length))


def repetition(step: str, rng: random.Random) -> str:
    """A step again: word for word, with a lead-in, with its terms swapped, or solved for another term."""
    form = rng.randrange(4)
    if form == 0:
        return step
    if form == 1 or (derived := _derived(step, inverse=form == 2)) is None:
        return rng.choice(_REPEATS).format(step=step)
    return rng.choice((derived, derived, rng.choice(_REPEATS).format(step=derived)))


def correction(step: str, rng: random.Random) -> str:
    """Takes the last error back and says the right step."""
    return rng.choice(_CORRECTIONS).format(step=step)


def led_in(step: str, share: float, rng: random.Random) -> str:
    """The step, or, with the given probability, the step behind some words."""
    words = rng.choice(LEAD_INS)
    return f"{words} {step}" if rng.random() < share else step


def _derived(step: str, *, inverse: bool) -> str | None:
    """``b + a = c`` from ``a + b = c``, or ``c - b = a``; None where the step is not so simple."""
    found = equations(step)
    if len(found) != 1 or last_result(step) != found[0].right:
        return None
    begin, end = found[0].left[0], found[0].right[1]
    simple = _SIMPLE.fullmatch(step[begin:end].strip())
    if simple is None:
        return None
    a, b, c, equals = simple["a"], simple["b"], simple["c"], simple["y"]
    if inverse:
        back = "-" if simple["sign"] == "+" else "/"
        text = f"{c}{simple['x'].replace(simple['sign'], back)}{b}{equals}{a}"
    else:
        space = " " if step[begin : begin + 1] == " " else ""
        text = f"{step[:begin]}{space}{b}{simple['x']}{a}{equals}{c}{step[end:]}"
    return text if equations(text) and holds(text) and text != step else None


def _slots(template: str, first: str, second: str) -> int:
    """How many different things a template asks for."""
    return 2 if second in template else int(first in template)
