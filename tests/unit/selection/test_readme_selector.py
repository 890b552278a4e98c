"""The selector that the README shows is added by one file, and keeps the contract."""

import re
from pathlib import Path

import numpy as np
import pytest

import airlab.selection.selectors as package
from airlab.selection.selectors import known_selectors, make_selector
from tests.unit.selection.test_selectors import permuted, units

README = Path(__file__).parents[3] / "README.md"


@pytest.fixture
def surprise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    (tmp_path / "surprise.py").write_text(code)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert "surprise" in known_selectors()
    return make_selector({"kind": "surprise"})


def test_the_readmes_selector_works_as_shown(surprise: object) -> None:
    u = units()
    scores = surprise.score(u, 0)  # type: ignore[attr-defined]
    np.testing.assert_allclose(scores, (u.loss_sum_base - u.entropy_sum_base) / u.n_tokens)
    order = np.random.default_rng(0).permutation(len(u))
    np.testing.assert_array_equal(surprise.score(permuted(u, order), 0), scores[order])  # type: ignore[attr-defined]
