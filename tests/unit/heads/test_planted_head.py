"""A model with one hand-built copying head: detection must rank it first, and say when there is none."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from airlab.errors import UserError
from airlab.heads.detect import score_probes
from airlab.heads.probes import Probe
from airlab.heads.ranking import rank_heads
from airlab.models.load import CausalLM, wrap
from airlab.schema.heads import Detection

TOKENS = 64
"""Vocabulary; the residual stream holds three one-hot copies: token, token before, prediction."""

PLANTED = (1, 2)
HEAD_SIZE = 256
SLOW = HEAD_SIZE // 4
"""Rotary pairs from here on turn so slowly that they match content wherever it stands."""


def planted_model(planted: bool = True) -> CausalLM:
    """Layer 0 head 1 writes the previous token; layer 1 head 2 finds where the current one was that.

    Key/value heads are shared by pairs of query heads, so a wrong head index anywhere shows.
    """
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=TOKENS, hidden_size=3 * TOKENS, intermediate_size=8, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=HEAD_SIZE, max_position_embeddings=256,
        rope_theta=1e10, attention_bias=True, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    token, before, output = (slice(i * TOKENS, (i + 1) * TOKENS) for i in range(3))
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.normal_(0, 1e-3)
        model.model.embed_tokens.weight.zero_()
        model.model.embed_tokens.weight[:, token] = torch.eye(TOKENS)
        model.lm_head.weight.zero_()
        model.lm_head.weight[:, output] = 5 * torch.eye(TOKENS)
        if planted:
            _plant_previous_token(model, token, before)
            _plant_copy(model, token, before, output)
    return wrap(model.requires_grad_(False), None, digest="planted")


def _rows(head: int) -> slice:
    return slice(head * HEAD_SIZE, (head + 1) * HEAD_SIZE)


def _plant_previous_token(model: LlamaForCausalLM, token: slice, before: slice) -> None:
    attention = model.model.layers[0].self_attn
    fast = torch.arange(8)
    turn = 1e10 ** (-2 * fast / HEAD_SIZE)
    # A constant key, and the same key turned back by one position as query: largest one step back.
    attention.k_proj.bias[fast] = 12.0
    query = attention.q_proj.bias[_rows(1)]
    query[fast], query[fast + HEAD_SIZE // 2] = 12 * torch.cos(turn), -12 * torch.sin(turn)
    attention.v_proj.weight[:TOKENS, token] = torch.eye(TOKENS)
    attention.o_proj.weight[before, _rows(1)][:, :TOKENS] = torch.eye(TOKENS)


def _plant_copy(model: LlamaForCausalLM, token: slice, before: slice, output: slice) -> None:
    attention = model.model.layers[1].self_attn
    content = torch.cat([torch.arange(SLOW, HEAD_SIZE // 2)])[:TOKENS]
    assert len(content) == TOKENS
    # Query head 2 uses key/value head 1.
    attention.q_proj.weight[PLANTED[1] * HEAD_SIZE + content, token] = 0.0
    attention.q_proj.weight[PLANTED[1] * HEAD_SIZE + content, :TOKENS] = 8 * torch.eye(TOKENS)
    attention.k_proj.weight[HEAD_SIZE + content, TOKENS : 2 * TOKENS] = 8 * torch.eye(TOKENS)
    attention.v_proj.weight[HEAD_SIZE : HEAD_SIZE + TOKENS, token] = torch.eye(TOKENS)
    attention.o_proj.weight[output, _rows(PLANTED[1])][:, :TOKENS] = torch.eye(TOKENS)


def probes(count: int = 12) -> list[Probe]:
    """Distinct tokens in random order; a slice of them is asked for by the token that stands before it."""
    made = []
    for number in range(count):
        draw = np.random.default_rng(number)
        context = draw.permutation(TOKENS)[:48]
        start = int(draw.integers(2, 40))
        needle = (start, start + 5)
        tokens = np.concatenate([context, [context[start - 1]], context[slice(*needle)]])
        made.append(Probe(tokens.astype(np.int64), (49, 54), needle))
    return made


@pytest.mark.parametrize("argmax_in", ["anywhere", "needle"])
@pytest.mark.parametrize("decoding", ["teacher_forced", "generated"])
def test_planted_head_is_ranked_first_with_full_recall(argmax_in, decoding):
    lm = planted_model()
    detection = Detection(argmax_in=argmax_in, decoding=decoding)
    results = list(score_probes(lm, probes(), detection, tokens_per_batch=128))
    ranking = rank_heads(results, lm.geometry, lm.digest)
    best, second = ranking.heads[:2]
    assert (best.layer, best.head) == PLANTED
    assert best.retrieval_score == pytest.approx(1.0)
    assert second.retrieval_score < 0.5
    assert ranking.answer_accuracy == pytest.approx(1.0)


def test_detection_does_not_depend_on_packing_or_order():
    lm = planted_model()
    alone = list(score_probes(lm, probes(), Detection(), tokens_per_batch=1))
    packed = list(score_probes(lm, probes()[::-1], Detection(), tokens_per_batch=10_000))[::-1]
    for a, b in zip(alone, packed, strict=True):
        np.testing.assert_array_equal(a.recall, b.recall)
        np.testing.assert_array_equal(a.chance, b.chance)


def test_a_model_without_copying_heads_is_refused():
    lm = planted_model(planted=False)
    results = list(score_probes(lm, probes(), Detection(), tokens_per_batch=128))
    with pytest.raises(UserError, match="no head of this model copies above chance"):
        rank_heads(results, lm.geometry, lm.digest)


def test_failed_retrievals_can_be_left_out_and_too_few_answers_are_refused():
    lm = planted_model()
    wrong = [Probe(p.tokens, p.answer, p.needle) for p in probes(4)]
    for p in wrong[2:]:
        p.tokens[49:] = 63 - p.tokens[49:]  # an answer that the model does not give
    results = list(score_probes(lm, wrong, Detection(), tokens_per_batch=128))
    assert [r.answered for r in results] == [True, True, False, False]
    kept = rank_heads(results, lm.geometry, lm.digest, failed_retrievals="skip")
    assert kept.probes == 2 and kept.heads[0].retrieval_score == pytest.approx(1.0)
    with pytest.raises(UserError, match="too few"):
        rank_heads(results[2:], lm.geometry, lm.digest, failed_retrievals="skip")
