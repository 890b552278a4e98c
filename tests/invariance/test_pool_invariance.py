"""The pool from small wheels made here: the same bytes each time, and what the spec promises."""

import hashlib
import json
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.schema.text import DOMAINS, PoolSpec, ReasoningSpec, WheelPin, WheelSource
from airlab.stages.build_pool import BuildPool
from airlab.store.plan import Plan
from airlab.store.store import Store
from airlab.text.documents import read_documents, write_documents
from airlab.text.near_duplicates import SeenDocuments
from airlab.text.pool import Pool, build_pool

VOCABULARY = [
    f"{first}{second}{third}" for first in "bdfglmnprst" for second in "aeiou" for third in "knlrst"
]
CAPS = {"prose": 20_000, "code": 20_000, "mathematics": 12_000, "reference": 20_000, "low_value": 12_000}
HELD = {"prose": 5_000, "code": 5_000, "mathematics": 4_000, "reference": 5_000}


def words(seed: int, count: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(VOCABULARY, count)) + "."


def module(seed: int) -> str:
    functions = []
    for number in range(6):
        said = textwrap.fill(words(1000 * seed + number, 60), 70, subsequent_indent="    ")
        functions.append(
            f'def function_{seed}_{number}(a, b):\n    """{said}"""\n    return a * {number} + b\n\n\n'
        )
    return "# Copyright someone. Licensed.\n\nimport math\n\n\n" + "".join(functions)


def make_wheel(folder: Path, name: str, members: dict[str, str]) -> WheelPin:
    file = f"{name}-1.0-py3-none-any.whl"
    with ZipFile(folder / file, "w") as archive:
        for member, text in members.items():
            archive.writestr(member, text)
    digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    return WheelPin(name=name, version="1.0", file=file, sha256=digest)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture(scope="module")
def spec(wheels: Path) -> PoolSpec:
    entry = [{"title": f"Title {n}", "extract": words(n, 90)} for n in range(120)]
    twins = [{"title": f"Twin {n}", "extract": words(n, 90) + " One more."} for n in range(0, 120, 3)]
    recipes = [
        {
            "title": f"Dish {n}",
            "ingredients": [words(n, 3)] * 2,
            "steps": [words(7_000 + n * 9 + k, 20) for k in range(4)],
        }
        for n in range(100)
    ]
    shapes = {
        f"Shape{n}": {
            "members": {
                f"m{k}": {"documentation": f"<p>{words(90_000 + n * 9 + k, 12)}</p>"} for k in range(5)
            }
        }
        for n in range(40)
    }
    topics = {item["title"]: item for item in entry + twins}
    dishes = {item["title"]: item for item in recipes}
    versions = {f"s/data/svc/20{y}-01-01/service-2.json": json.dumps({"shapes": shapes}) for y in (14, 20)}
    pins = (
        make_wheel(wheels, "encyclopedia", {"p/data/summaries_en-us.json": json.dumps(topics)}),
        make_wheel(wheels, "cookbook", {"p/data/recipes_en-us.json": json.dumps(dishes)}),
        make_wheel(wheels, "library", {f"library/part{n}.py": module(n) for n in range(60)}),
        make_wheel(wheels, "service", versions),
    )
    sources = (
        WheelSource(wheel="encyclopedia", reader="encyclopedia", domain="reference", licence="CC-BY-SA-4.0"),
        WheelSource(wheel="cookbook", reader="recipes", domain="prose", licence="CC-BY-SA-4.0"),
        WheelSource(wheel="library", reader="code", domain="code", licence="BSD-3-Clause"),
        WheelSource(wheel="library", reader="docstrings", domain="mathematics", licence="BSD-3-Clause"),
        WheelSource(wheel="service", reader="parameter_blurbs", domain="low_value", licence="Apache-2.0"),
    )
    return PoolSpec(wheels=pins, sources=sources, bytes_per_domain=CAPS, heldout_bytes_per_domain=HELD)


def built(spec: PoolSpec, wheels: Path) -> Pool:
    files = {pin.name: pin.file for pin in spec.wheels}
    return build_pool(spec, lambda name: wheels / files[name])


@pytest.fixture(scope="module")
def pool(spec: PoolSpec, wheels: Path) -> Pool:
    return built(spec, wheels)


def test_the_same_spec_gives_the_same_bytes(spec: PoolSpec, wheels: Path, pool: Pool, tmp_path: Path) -> None:
    again = built(spec, wheels)
    for number, rows in enumerate([pool.documents, again.documents, pool.heldout, again.heldout]):
        write_documents(tmp_path / f"{number}.parquet", rows)
    contents = [(tmp_path / f"{number}.parquet").read_bytes() for number in range(4)]
    assert contents[0] == contents[1] and contents[2] == contents[3]
    assert again.manifest == pool.manifest


def test_the_stage_reads_the_cache_and_writes_what_the_pool_holds(
    spec: PoolSpec, wheels: Path, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "downloads").symlink_to(wheels)
    monkeypatch.setenv("AIRLAB_CACHE", str(tmp_path / "cache"))
    stage, store = BuildPool(spec), Store(tmp_path / "store")
    Plan(store, [stage]).run(Machine())
    folder = store.find(stage)
    assert folder is not None
    assert list(read_documents(folder / "documents.parquet")) == pool.documents
    assert list(read_documents(folder / "heldout.parquet")) == pool.heldout
    assert pq.read_metadata(folder / "skipped.parquet").num_row_groups == 0
    assert json.loads((folder / "manifest.json").read_text()) == pool.manifest


def test_another_seed_gives_another_sample_in_another_order(spec: PoolSpec, wheels: Path, pool: Pool) -> None:
    other = built(spec.model_copy(update={"seed": 1}), wheels)
    assert [row.unit_id for row in other.documents] != [row.unit_id for row in pool.documents]
    assert {row.unit_id for row in other.heldout} != {row.unit_id for row in pool.heldout}


def test_every_domain_has_documents_with_licence_source_and_member(pool: Pool) -> None:
    assert {row.domain for row in pool.documents} == set(CAPS)
    assert {row.domain for row in pool.heldout} == set(HELD)
    for row in pool.documents + pool.heldout:
        assert (
            row.licence and row.member and row.source.endswith("==1.0") and row.unit_id.startswith(row.domain)
        )


def test_caps_are_kept_and_nearly_reached(pool: Pool) -> None:
    for rows, caps in ((pool.documents, CAPS), (pool.heldout, HELD)):
        for domain, cap in caps.items():
            size = sum(len(row.text.encode()) for row in rows if row.domain == domain)
            assert 0.6 * cap < size <= cap, domain


def test_a_cap_beyond_all_text_neither_starves_the_heldout_part_nor_loses_documents(
    spec: PoolSpec, wheels: Path
) -> None:
    update = {"bytes_per_domain": {"code": 10**9}, "heldout_bytes_per_domain": {"code": 6_000}}
    whole = built(spec.model_copy(update=update), wheels)
    assert 2_000 < sum(len(row.text) for row in whole.heldout) <= 6_000
    held = {row.member.split("#")[0] for row in whole.heldout}
    kept = {row.member.split("#")[0] for row in whole.documents}
    assert not held & kept
    everything = built(spec.model_copy(update=update | {"heldout_bytes_per_domain": {}}), wheels).documents
    assert held | kept == {row.member.split("#")[0] for row in everything}


def test_ids_are_unique_and_follow_the_text(pool: Pool) -> None:
    rows = pool.documents + pool.heldout
    assert len({row.unit_id for row in rows}) == len({row.text for row in rows}) == len(rows)
    assert all(row.unit_id.endswith(hashlib.sha256(row.text.encode()).hexdigest()[:20]) for row in rows)


def test_near_duplicates_are_removed_also_across_the_split(pool: Pool) -> None:
    rows = [row for row in pool.documents + pool.heldout if row.domain == "reference"]
    bodies = Counter(row.text.split("\n\n", 1)[1].removesuffix(" One more.") for row in rows)
    assert len(rows) > 30 and max(bodies.values()) == 1
    assert pool.manifest["read"]["reference/encyclopedia/encyclopedia"]["near_duplicate"] > 0


def test_a_module_is_read_once_and_stays_on_one_side_of_the_split(spec: PoolSpec, wheels: Path) -> None:
    update = {
        "bytes_per_domain": {"code": 10**6, "mathematics": 10**6},
        "heldout_bytes_per_domain": {"code": 3_500, "mathematics": 3_500},
        "max_characters": 900,
    }
    whole = built(spec.model_copy(update=update), wheels)
    homes: dict[str, set[tuple[str, str]]] = {}
    for side, rows in (("pool", whole.documents), ("held out", whole.heldout)):
        for row in rows:
            homes.setdefault(row.member.split("#")[0], set()).add((row.domain, side))
    assert len(homes) == 60 and all(len(home) == 1 for home in homes.values())
    assert {home for places in homes.values() for home in places} == {
        (domain, side) for domain in ("code", "mathematics") for side in ("pool", "held out")
    }


def test_a_prefix_of_the_rows_is_a_fair_sample_of_the_domains(pool: Pool) -> None:
    whole = Counter(row.domain for row in pool.documents)
    half = Counter(row.domain for row in pool.documents[: len(pool.documents) // 2])
    for domain, count in whole.items():
        assert abs(half[domain] - count / 2) < 3 * (count / 4) ** 0.5 + 1


def test_only_the_newest_version_of_a_service_is_read(pool: Pool) -> None:
    members = {row.member for row in pool.documents if row.domain == "low_value"}
    assert members and all("/2020-01-01/" in member for member in members)


def test_counts_in_the_manifest_add_up(pool: Pool) -> None:
    manifest = pool.manifest
    assert (
        manifest["documents"]
        == len(pool.documents)
        == sum(manifest["pool"][name]["documents"] for name in CAPS)
    )
    assert sum(counts["kept"] for counts in manifest["read"].values()) == len(pool.documents) + len(
        pool.heldout
    )


def test_a_sources_own_cap_and_pattern_hold(spec: PoolSpec, wheels: Path) -> None:
    source = WheelSource(
        wheel="library", reader="code", domain="code", licence="MIT", max_bytes=3_000, members=r"part1\d\.py$"
    )
    small = spec.model_copy(
        update={"sources": (source,), "bytes_per_domain": {"code": 50_000}, "heldout_bytes_per_domain": {}}
    )
    rows = built(small, wheels).documents
    assert rows and all(row.member.startswith("library/part1") for row in rows)
    assert sum(len(row.text.encode()) for row in rows) < 3_000 + spec.max_characters


def test_a_wheel_without_such_text_or_that_is_no_archive_is_refused(
    spec: PoolSpec, wheels: Path, tmp_path: Path
) -> None:
    wrong = WheelSource(wheel="library", reader="recipes", domain="prose", licence="MIT")
    update = {"sources": (wrong,), "bytes_per_domain": {"prose": 9_000}, "heldout_bytes_per_domain": {}}
    with pytest.raises(UserError, match="holds no text for the reader 'recipes'"):
        built(spec.model_copy(update=update), wheels)
    (tmp_path / "broken.whl").write_bytes(b"no zip")
    with pytest.raises(UserError, match="not a readable wheel"):
        build_pool(spec.model_copy(update=update), lambda _: tmp_path / "broken.whl")
    unknown = wrong.model_copy(update={"reader": "poems"})
    with pytest.raises(UserError, match=r"no text reader 'poems'.*recipes"):
        built(spec.model_copy(update=update | {"sources": (unknown,)}), wheels)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(0, 600))
def test_row_groups_hold_256_rows_but_the_last(tmp_path: Path, pool: Pool, count: int) -> None:
    rows = (pool.documents * (count // len(pool.documents) + 1))[:count]
    write_documents(tmp_path / "d.parquet", rows)
    assert pq.read_metadata(tmp_path / "d.parquet").num_row_groups == -(-count // 256)


def test_similarity_decides_what_a_near_duplicate_is() -> None:
    seen = SeenDocuments(0.7)
    text = words(1, 300)
    swapped = text.split()
    swapped[150] = "changed"
    assert seen.add(text) == "new"
    assert seen.add(text.upper().replace(" ", "\n ")) == "duplicate"
    assert seen.add(" ".join(swapped)) == "near_duplicate"
    assert seen.add(" ".join(text.split()[:150] + words(2, 150).split())) == "new"


def test_reasoning_does_not_depend_on_string_hashing_or_global_randomness() -> None:
    pytest.importorskip("engram_generator")
    code = (
        "import random, hashlib, itertools, sys\n"
        "random.seed(int(sys.argv[1]))\n"
        "from airlab.text.reasoning import documents\n"
        "from airlab.schema.text import ReasoningSpec\n"
        "d = hashlib.sha256()\n"
        "found = documents(ReasoningSpec(max_tier=3, rounds=1), 5)\n"
        "for member, text in itertools.islice(found, 40): d.update((member + text).encode())\n"
        "print(d.hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code, hash_seed],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


def test_generated_reasoning_joins_the_pool(spec: PoolSpec, wheels: Path) -> None:
    pytest.importorskip("engram_generator")
    update = {
        "reasoning": ReasoningSpec(max_tier=2, problems_per_document=3, rounds=4),
        "sources": (),
        "bytes_per_domain": {"reasoning": 8_000},
        "heldout_bytes_per_domain": {"reasoning": 2_000},
    }
    pool = built(spec.model_copy(update=update), wheels)
    assert len(pool.documents) > 5 and pool.heldout
    for row in pool.documents:
        assert row.text.count("Question: ") == 3 == len(set(row.member.split("+")))
        assert row.source == "engram-generator==0.3.0" and row.domain in DOMAINS
