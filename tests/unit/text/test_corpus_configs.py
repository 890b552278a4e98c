"""The corpus configs say what the schemas accept, at pinned commits and known readers."""

import json
from pathlib import Path

import pytest
import yaml

from airlab.schema.text import Columns, HubDataset, PoolSpec
from airlab.text.sources import READERS

FOLDER = Path(__file__).parents[3] / "configs" / "corpus"
COMPONENTS = ("fineweb-edu-dedup", "cosmopedia-v2", "python-edu", "open-web-math")


def test_the_pool_names_known_readers_pinned_wheels_and_five_domains_and_more() -> None:
    spec = PoolSpec.model_validate_json(
        json.dumps(yaml.safe_load((FOLDER / "pool.yaml").read_text())["pool"])
    )
    assert {source.reader for source in spec.sources} == set(READERS)
    assert {source.wheel for source in spec.sources} == {wheel.name for wheel in spec.wheels}
    assert set(spec.bytes_per_domain) == set(spec.heldout_bytes_per_domain) | {"low_value"}
    assert len(spec.heldout_bytes_per_domain) == 5


@pytest.mark.parametrize("name", COMPONENTS)
def test_each_component_is_a_hub_data_set_at_a_commit(name: str) -> None:
    config = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    hub = HubDataset.model_validate_json(json.dumps(config["hub"]))
    Columns.model_validate_json(json.dumps(config["columns"]))
    assert hub.config in (name, None) and len(hub.revision) == 40
