"""Rankings order, refuse and round-trip; masks refuse what does not fit the model."""

import json

import numpy as np
import pytest
import torch

from airlab.errors import UserError
from airlab.heads.detect import ProbeResult
from airlab.heads.mask import HeadMask, read_mask
from airlab.heads.ranking import rank_heads, read_ranking, write_ranking
from airlab.models.geometry import Geometry

GEOMETRY = Geometry(layers=2, heads=4, kv_heads=2, context=64, vocabulary=10)


def results(means: list[list[float]], chance: tuple[float, float] = (0.001, 0.001)) -> list[ProbeResult]:
    base = np.array(means)
    return [ProbeResult(base + 0.01 * (-1) ** i, np.array(chance), 0.9) for i in range(6)]


def ranking(means: list[list[float]]):
    return rank_heads(results(means), GEOMETRY, "d")


DISTINCT = [[0.8, 0.1, 0.2, 0.3], [0.4, 0.9, 0.05, 0.6]]


def test_best_first_and_share_is_rounded_up():
    found = ranking(DISTINCT)
    assert [(h.layer, h.head) for h in found.heads[:3]] == [(1, 1), (0, 0), (1, 3)]
    assert len(found.top(0.05)) == 1
    assert len(found.top(0.25)) == 2
    assert len(found.top(0.26)) == 3
    assert len(found.top(1.0)) == 8


def test_stderr_is_that_of_the_mean_over_probes():
    head = ranking(DISTINCT).heads[0]
    values = [0.9 + 0.01 * (-1) ** i for i in range(6)]
    assert head.stderr == pytest.approx(np.std(values, ddof=1) / np.sqrt(6))
    assert head.first_half == pytest.approx(0.91) and head.second_half == pytest.approx(0.89)


def test_a_cut_inside_equal_scores_is_refused():
    with pytest.raises(UserError, match="equal retrieval scores"):
        ranking([[0.8, 0.5, 0.5, 0.3], [0.5, 0.1, 0.2, 0.4]]).top(0.25)


def test_scores_at_chance_are_refused():
    with pytest.raises(UserError, match="above chance"):
        ranking([[0.0] * 4] * 2)


def test_a_head_is_compared_with_the_chance_of_its_own_layer():
    """Under a sliding window a head sees fewer copies by chance."""
    low_layer_stands_out = [[0.3, 0.0, 0.0, 0.0], [0.4, 0.0, 0.0, 0.0]]
    found = rank_heads(results(low_layer_stands_out, (0.1, 0.5)), GEOMETRY, "d")
    assert found.chance == 0.5
    with pytest.raises(UserError, match="above chance"):
        rank_heads(results(low_layer_stands_out, (0.5, 0.5)), GEOMETRY, "d")


def test_ranking_survives_the_disk(tmp_path):
    write_ranking(tmp_path / "heads.json", ranking(DISTINCT))
    assert read_ranking(tmp_path / "heads.json") == ranking(DISTINCT)
    mask = read_mask(tmp_path / "heads.json", 0.25, "zero")
    assert mask == HeadMask(((0, 0), (1, 1)), "zero", "d")


def test_plain_list_of_pairs_is_taken_whole_and_sorted(tmp_path):
    (tmp_path / "heads.json").write_text("[[1, 3], [0, 2], [1, 3]]")
    assert read_mask(tmp_path / "heads.json", 0.05, "uniform") == HeadMask(((0, 2), (1, 3)))


@pytest.mark.parametrize(
    "text", ["[]", "{}", "[[1]]", "[[1, true]]", "[[0.5, 1]]", "nonsense", '{"format": 3}']
)
def test_other_files_are_refused_in_one_sentence(tmp_path, text):
    (tmp_path / "heads.json").write_text(text)
    with pytest.raises(UserError) as caught:
        read_mask(tmp_path / "heads.json", 0.05, "uniform")
    assert "\n" not in str(caught.value)


def test_heads_of_another_model_are_refused():
    with pytest.raises(UserError, match="another model"):
        HeadMask(((0, 0),), model_digest="a").check(GEOMETRY, "b")
    with pytest.raises(UserError, match="does not exist"):
        HeadMask(((0, 4),)).check(GEOMETRY, "b")
    with pytest.raises(UserError, match="does not exist"):
        HeadMask(((-1, 0),)).check(GEOMETRY, "b")


def test_reference_groups_heads_by_layer():
    reference = HeadMask(((0, 2), (1, 0), (1, 3))).reference(torch.device("cpu"))
    assert {k: v.tolist() for k, v in reference.heads.items()} == {0: [2], 1: [0, 3]}


def test_rankings_are_plain_json(tmp_path):
    write_ranking(tmp_path / "heads.json", ranking(DISTINCT))
    first = json.loads((tmp_path / "heads.json").read_text())["heads"][0]
    assert {"layer", "head", "retrieval_score", "stderr"} <= first.keys()


def test_an_exported_ranking_with_its_origin_is_read_as_well(tmp_path):
    path = tmp_path / "heads.json"
    write_ranking(path, ranking(DISTINCT))
    path.write_text(json.dumps({**json.loads(path.read_text()), "airlab_identity": "f" * 64}))
    assert read_ranking(path) == ranking(DISTINCT)
