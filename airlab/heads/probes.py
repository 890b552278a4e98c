"""Retrieval probes: find the value of a key in a long JSON object (AttentionInfluence, Appendix A).

A probe asks for one value of a JSON object of random keys and natural sentences, after three
worked demonstrations. Whoever answers it must copy the value from far back in the context.
"""

import json
import string
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
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
_TOGETHER = 64
"""Probes tokenized in one call, which spreads them over all cores."""


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


def _random_keys(draw: np.random.Generator, count: int) -> list[str]:
    letters = _ALPHABET[draw.integers(len(_ALPHABET), size=(count, _KEY_LENGTH))]
    return ["".join(key) for key in letters.tolist()]


def _encode(tokenizer: Any, texts: Sequence[str]) -> list[Any]:
    """Each text as a `tokenizers.Encoding`, which makes no Python lists before it is asked for them."""
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    return list(encoded.encodings)


def _token_range(offsets: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """Tokens that overlap the characters [start, end); tokens lie in the order of the text."""
    return bisect_right(offsets, start, key=itemgetter(1)), bisect_left(offsets, end, key=itemgetter(0))


def usable_values(tokenizer: Any, sentences: Sequence[str], max_tokens: int) -> list[tuple[str, int]]:
    """Sentences that can stand as values, each with its number of tokens.

    They are short enough, and unchanged by JSON quoting.
    """
    plain = [s for s in sentences if json.dumps(s, ensure_ascii=False) == f'"{s}"']
    if not plain:
        return []
    lengths = [len(ids) for ids in tokenizer(plain, add_special_tokens=False, verbose=False)["input_ids"]]
    return [(s, n) for s, n in zip(plain, lengths, strict=True) if n <= max_tokens]


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


def build_probes(
    tokenizer: Any,
    sentences: Sequence[str],
    spec: Probes,
    context: int,
    numbers: Iterable[int] | None = None,
) -> Iterator[Probe]:
    """Build probes; probe i depends on the seed and i alone.

    Args:
        tokenizer: the model's fast tokenizer.
        sentences: natural sentences, the values' source.
        spec: count, length and seed.
        context: the model's longest sequence.
        numbers: which of the `spec.count` probes to build; all of them if not given.

    Yields:
        Probes of at most `spec.max_tokens` tokens; the JSON object is as large as fits.

    Raises:
        UserError: the context is too short for the probes, or there are too few sentences.
    """
    if spec.max_tokens > context:
        raise UserError(
            f"probes of {spec.max_tokens} tokens do not fit the model's context of {context} tokens; "
            f"set probes.max_tokens={context} or less."
        )
    values = usable_values(tokenizer, sentences, spec.max_value_tokens)
    keys = _random_keys(generator(spec.seed, "pair-length"), _TOGETHER)
    pair_tokens = 8 + len(_encode(tokenizer, keys[:1])[0])
    most_pairs = spec.max_tokens // pair_tokens + spec.demonstrations + 1
    if len(values) < max(most_pairs, 2 * (spec.demonstrations + 1)):
        raise UserError(
            f"probes need {most_pairs} different sentences of at most {spec.max_value_tokens} tokens, and "
            f"the text has {len(values)}; give more prose or shorter probes (probes.max_tokens)."
        )
    empty, pair = _token_costs(tokenizer, keys, values, spec.demonstrations)
    bos = sequence_start(tokenizer)
    waiting = iter(range(spec.count) if numbers is None else numbers)
    while together := list(islice(waiting, _TOGETHER)):
        drafts = []
        for number in together:
            draw = generator(spec.seed, "probe", number)
            chosen = [values[i] for i in draw.choice(len(values), most_pairs, replace=False)]
            pairs = list(zip(_random_keys(draw, most_pairs), (v for v, _ in chosen), strict=True))
            guess = empty + np.cumsum([0.0] + [pair + n for _, n in chosen])
            drafts.append(
                _Draft(pairs, draw.random(), draw.permutation(most_pairs), spec.demonstrations, guess)
            )
        _fill(tokenizer, drafts, spec.max_tokens - len(bos))
        yield from (draft.probe(bos, spec) for draft in drafts)


def _token_costs(
    tokenizer: Any, keys: Sequence[str], values: Sequence[tuple[str, int]], demonstrations: int
) -> tuple[float, float]:
    """About how many tokens a probe has without its object, and each pair besides its value."""
    pairs = [(key, value) for key, (value, _) in zip(keys, values, strict=False)]
    lengths = np.array([n for _, n in values[: len(pairs)]])
    shown = range(1, demonstrations + 1)
    sizes = demonstrations + 1, len(pairs)
    few, many = (len(e) for e in _encode(tokenizer, [_render(pairs[:n], shown, 0)[0] for n in sizes]))
    pair = (many - few - lengths[sizes[0] :].sum()) / (sizes[1] - sizes[0])
    # The object's first pairs are also those that this sample asks for and shows.
    empty = few - sizes[0] * pair - 2 * lengths[: sizes[0]].sum() + sizes[0] * lengths.mean()
    return float(empty), float(pair)


class _Draft:
    """One probe while it is being found how many of its pairs fit.

    Between `fits` and `exceeds` pairs lies the answer. `guess` (float64 [pairs + 1]) says about how
    many tokens the probe has with each number of pairs: it makes the search short, and has no effect
    on what is found.
    """

    def __init__(
        self,
        pairs: list[tuple[str, str]],
        position: float,
        order: np.ndarray,
        demonstrations: int,
        guess: np.ndarray,
    ) -> None:
        self.pairs, self.position, self.order = pairs, position, order
        self.demonstrations, self.guess = demonstrations, guess
        self.fits, self.exceeds = demonstrations, len(pairs) + 1
        self.best: tuple[Any, int, int, int] | None = None

    def next_size(self, limit: int) -> int:
        """The untried number of pairs that most likely makes `limit` tokens."""
        likely = int(np.searchsorted(self.guess, limit, side="right")) - 1
        return min(max(likely, self.fits + 1), self.exceeds - 1)

    def render(self, size: int) -> tuple[str, int, int, int]:
        """See `_render`: the probe with its first `size` pairs, its needle at the relative `position`."""
        # One of the first pairs is asked for and others demonstrated: they stay when the object shrinks.
        asked = min(int(self.position * size), size - 1)
        others = [int(i) for i in self.order if i < size and i != asked][: self.demonstrations]
        return _render(self.pairs[:size], others, asked)

    def learn(self, size: int, encoding: Any, spans: tuple[int, int, int], limit: int) -> None:
        """Take in how long the probe with `size` pairs really is."""
        self.guess += len(encoding) - self.guess[size]
        if len(encoding) <= limit:
            self.fits, self.best = size, (encoding, *spans)
        else:
            self.exceeds = size

    def probe(self, bos: list[int], spec: Probes) -> Probe:
        """The finished probe.

        Raises:
            UserError: not even the demonstrations fit.
        """
        if self.best is None:
            raise UserError(
                f"a probe of {spec.max_tokens} tokens is too short for {spec.demonstrations} demonstrations; "
                "raise probes.max_tokens."
            )
        encoding, needle, answer, length = self.best
        offsets, shift = encoding.offsets, len(bos)
        a, b = _token_range(offsets, answer, answer + length)
        c, d = _token_range(offsets, needle, needle + length)
        tokens = np.array(bos + encoding.ids, dtype=np.int64)
        return Probe(tokens, (a + shift, b + shift), (c + shift, d + shift))


def _fill(tokenizer: Any, drafts: Sequence[_Draft], limit: int) -> None:
    """Find for each draft the number of pairs that fits `limit` tokens while one more does not.

    Both are tokenized, so this is exact, however far off the first guess was.
    """
    while unfinished := [d for d in drafts if d.exceeds - d.fits > 1]:
        sizes = [d.next_size(limit) for d in unfinished]
        rendered = [d.render(size) for d, size in zip(unfinished, sizes, strict=True)]
        encodings = _encode(tokenizer, [text for text, *_ in rendered])
        for draft, size, (_, *spans), encoding in zip(unfinished, sizes, rendered, encodings, strict=True):
            needle, answer, length = spans
            draft.learn(size, encoding, (needle, answer, length), limit)
