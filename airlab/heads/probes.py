"""Retrieval probes: find the value of a key in a long JSON object (AttentionInfluence, Appendix A).

A probe asks for one value of a JSON object of random keys and natural sentences, after three
worked demonstrations. Whoever answers it must copy the value from far back in the context.
"""

import json
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from airlab.errors import UserError
from airlab.randomness import generator
from airlab.schema.heads import Probes
from airlab.text.tokens import sequence_start

_KEY_LENGTH = 32
_ALPHABET = np.array(list(string.ascii_letters + string.digits))
_INSTRUCTION = (
    "Below is a JSON object. Every key has one value. "
    "Give back the value of the requested key, word for word, and nothing else.\n\n"
)


@dataclass(frozen=True)
class Probe:
    """One tokenized probe.

    Attributes:
        tokens: int64 [n], prompt and answer.
        answer: half-open range of the answer's tokens in `tokens`; it ends the probe.
        needle: half-open range of tokens that hold the same value inside the JSON object.
    """

    tokens: np.ndarray
    answer: tuple[int, int]
    needle: tuple[int, int]


def _random_key(draw: np.random.Generator) -> str:
    return "".join(draw.choice(_ALPHABET, _KEY_LENGTH))


def _encode(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    encoded = tokenizer(
        text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True, verbose=False
    )
    return encoded["input_ids"], encoded["offset_mapping"]


def _token_range(offsets: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """Tokens that overlap the characters [start, end)."""
    inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > start]
    return inside[0], inside[-1] + 1


def usable_values(tokenizer: Any, sentences: Sequence[str], max_tokens: int) -> list[str]:
    """Sentences that can stand as values: short enough, and unchanged by JSON quoting."""
    plain = [s for s in sentences if json.dumps(s, ensure_ascii=False) == f'"{s}"']
    if not plain:
        return []
    lengths = [len(ids) for ids in tokenizer(plain, add_special_tokens=False, verbose=False)["input_ids"]]
    return [s for s, n in zip(plain, lengths, strict=True) if n <= max_tokens]


def _render(pairs: Sequence[tuple[str, str]], shown: Sequence[int], asked: int) -> tuple[str, int, int, int]:
    """Prompt and answer as text, with character offsets of the needle and of the answer."""
    lines, needle, length = [], 0, len(_INSTRUCTION) + 2
    for i, (key, value) in enumerate(pairs):
        line = f'"{key}": "{value}"' + ("," if i + 1 < len(pairs) else "") + "\n"
        if i == asked:
            needle = length + len(key) + 5
        lines.append(line)
        length += len(line)
    # The answer starts a line, so that its first token is spelled as it is after a quotation mark.
    demonstrations = "".join(f"key: {pairs[i][0]}\nanswer:\n{pairs[i][1]}\n\n" for i in shown)
    prompt = (
        _INSTRUCTION
        + "{\n"
        + "".join(lines)
        + "}\n\n"
        + demonstrations
        + f"key: {pairs[asked][0]}\nanswer:\n"
    )
    return prompt + pairs[asked][1], needle, len(prompt), len(pairs[asked][1])


def build_probes(tokenizer: Any, sentences: Sequence[str], spec: Probes, context: int) -> Iterator[Probe]:
    """Build probes one by one; probe i depends on the seed and i alone.

    Args:
        tokenizer: the model's fast tokenizer.
        sentences: natural sentences, the values' source.
        spec: count, length and seed.
        context: the model's longest sequence.

    Yields:
        `spec.count` probes of at most `spec.max_tokens` tokens; the JSON object is as large as fits.

    Raises:
        UserError: the context is too short for the probes, or there are too few sentences.
    """
    if spec.max_tokens > context:
        raise UserError(
            f"probes of {spec.max_tokens} tokens do not fit the model's context of {context} tokens; "
            f"set probes.max_tokens={context} or less."
        )
    values = usable_values(tokenizer, sentences, spec.max_value_tokens)
    pair_tokens = 8 + len(_encode(tokenizer, _random_key(generator(spec.seed, "pair-length")))[0])
    most_pairs = spec.max_tokens // pair_tokens + spec.demonstrations + 1
    if len(values) < max(most_pairs, 2 * (spec.demonstrations + 1)):
        raise UserError(
            f"probes need {most_pairs} different sentences of at most {spec.max_value_tokens} tokens, and "
            f"the text has {len(values)}; give more prose or shorter probes (probes.max_tokens)."
        )
    bos = sequence_start(tokenizer)
    for number in range(spec.count):
        draw = generator(spec.seed, "probe", number)
        chosen = draw.choice(len(values), most_pairs, replace=False)
        pairs = [(_random_key(draw), values[i]) for i in chosen]
        position = draw.random()
        yield _fit(tokenizer, bos, pairs, position, draw, spec)


def _fit(
    tokenizer: Any,
    bos: list[int],
    pairs: list[tuple[str, str]],
    position: float,
    draw: np.random.Generator,
    spec: Probes,
) -> Probe:
    """The probe with as many of `pairs` as fit, its needle at the relative `position`."""
    order = draw.permutation(len(pairs))
    low, high, best = spec.demonstrations + 1, len(pairs), None
    while low <= high:
        size = (low + high) // 2
        # One of the first pairs is asked for and others demonstrated: they stay when the object shrinks.
        asked = min(int(position * size), size - 1)
        others = [int(i) for i in order if i < size and i != asked][: spec.demonstrations]
        text, needle, answer, length = _render(pairs[:size], others, asked)
        ids, offsets = _encode(tokenizer, text)
        if len(ids) + len(bos) <= spec.max_tokens:
            shift = len(bos)
            a, b = _token_range(offsets, answer, answer + length)
            c, d = _token_range(offsets, needle, needle + length)
            best = Probe(np.array(bos + ids, dtype=np.int64), (a + shift, b + shift), (c + shift, d + shift))
            low = size + 1
        else:
            high = size - 1
    if best is None:
        raise UserError(
            f"a probe of {spec.max_tokens} tokens is too short for {spec.demonstrations} demonstrations; "
            "raise probes.max_tokens."
        )
    return best
