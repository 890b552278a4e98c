"""Maps show what detection measures, also where detection refuses."""

from pathlib import Path

import numpy as np
import pytest

from airlab.errors import UserError
from airlab.heads.detect import score_probes
from airlab.heads.maps import map_heads, read_map, write_map
from airlab.heads.ranking import rank_heads
from airlab.heads.results import ProbeResult, head_scores, read_results, write_results
from airlab.models.load import CausalLM
from airlab.schema.heads import Detection
from tests.unit.heads.test_planted_head import PLANTED, planted_model, probes


def measured(planted: bool) -> tuple[CausalLM, list[ProbeResult]]:
    lm = planted_model(planted)
    return lm, list(score_probes(lm, probes(), Detection(), tokens_per_batch=128))


def test_the_map_of_a_planted_model_shows_the_planted_head() -> None:
    lm, results = measured(planted=True)
    found = map_heads(results, lm.digest)
    assert found.best == PLANTED
    assert found.score[PLANTED[0]][PLANTED[1]] == pytest.approx(1.0)
    assert found.above_chance[PLANTED[0]][PLANTED[1]]
    assert found.heads_above_chance == int(np.sum(found.above_chance)) < 8
    assert found.answer_accuracy == pytest.approx(1.0)


def test_a_model_without_copying_heads_is_mapped_and_says_so() -> None:
    lm, results = measured(planted=False)
    with pytest.raises(UserError, match="no head of this model copies above chance"):
        rank_heads(results, lm.geometry, lm.digest)
    assert map_heads(results, "d").heads_above_chance == 0


def test_scores_and_errors_are_the_rankings() -> None:
    lm, results = measured(planted=True)
    ranking = rank_heads(results, lm.geometry, lm.digest)
    found = map_heads(results, lm.digest)
    assert len(ranking.heads) == 8
    for head in ranking.heads:
        assert found.score[head.layer][head.head] == head.retrieval_score
        assert found.stderr[head.layer][head.head] == head.stderr
    assert max(found.chance) == ranking.chance
    assert (found.probes, found.answer_accuracy) == (ranking.probes, ranking.answer_accuracy)


def test_a_map_and_results_read_back_as_they_were_written(tmp_path: Path) -> None:
    _, results = measured(planted=True)
    found = map_heads(results, "d")
    write_map(tmp_path / "map.json", found)
    assert read_map(tmp_path / "map.json") == found
    for part, name in ((results[:7], "a.npz"), (results[7:], "b.npz")):
        write_results(tmp_path / name, part, [3] * len(part))
    again, tokens = read_results([tmp_path / "a.npz", tmp_path / "b.npz"])
    assert tokens == 3 * len(results)
    assert map_heads(again, "d") == found


def test_too_few_answered_probes_are_refused_where_only_those_count() -> None:
    results = [ProbeResult(np.zeros((1, 2)), np.zeros(1), accuracy) for accuracy in (0.9, 0.4, 0.1)]
    assert map_heads(results, "d").probes == 3
    with pytest.raises(UserError, match="answers 1 of 3 probes"):
        map_heads(results, "d", failed_retrievals="skip")


def made(shift: float, draw: np.random.Generator) -> list[ProbeResult]:
    """24 probes of 2 x 4 heads at a chance of 0.1, one of them above it."""
    recall = 0.1 + draw.normal(0, 0.2, (24, 2, 4))
    recall[:, 1, 2] += shift
    return [ProbeResult(r, np.full(2, 0.1), 0.5) for r in recall]


def test_a_head_at_the_detectable_score_is_found_four_times_out_of_five() -> None:
    draw = np.random.default_rng(0)
    known_error = 0.2 / np.sqrt(24)
    scores = head_scores(made(0.0, draw))
    at = scores.detectable(0.8)
    assert at is not None
    # With the true error instead of the largest of eight estimated ones.
    shift = (at - 0.1) * known_error / scores.stderr.max()
    found = np.mean([head_scores(made(shift, draw)).above_chance[1, 2] for _ in range(1500)])
    assert found == pytest.approx(0.8, abs=0.06)


def test_heads_at_chance_raise_no_more_alarms_than_allowed() -> None:
    draw = np.random.default_rng(1)
    alarms = np.mean([head_scores(made(0.0, draw)).above_chance.any() for _ in range(3000)])
    assert 0 < alarms < 0.02


def test_without_any_spread_what_could_be_found_is_unknown() -> None:
    results = [ProbeResult(np.zeros((2, 2)), np.full(2, 0.1), 0.0)] * 5
    assert map_heads(results, "d").detectable is None
