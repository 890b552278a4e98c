"""Files of a hub are those of one commit and are read in ranges; what is wrong with it is one sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from airlab.errors import UserError
from airlab.schema.text import HubDataset
from airlab.text.pinned_files import check_same, hub_files, local_files, opened, with_footers
from tests.unit.text.small_hub import AWAY, COMMIT, GATED, NAME, Hub, lay_out, serving
from tests.unit.training.made_corpus import COLUMNS, write_files

ROOT = Path(__file__).parents[3]

ASKS = """
import json, sys
from airlab.errors import UserError
from airlab.schema.text import Columns, HubDataset
from airlab.text.pinned_files import hub_files, with_footers
for case in json.loads(sys.argv[1]):
    try:
        where, files = hub_files(HubDataset(**case))
        told = [[file.model_dump(), groups] for file, groups in with_footers(where, files, Columns())]
    except UserError as error:
        told = str(error)
    print(json.dumps(told))
"""

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "another commit": ({"revision": "b" * 40}, "there is no such commit: made/corpus (prose) at bbbb"),
    "another name": ({"name": "made/none"}, "there is no such data set, or none that you may see: made/none"),
    "gated": ({"name": GATED}, "is gated: ask for access on its page, log in with `hf auth login`"),
    "away": ({"name": AWAY}, "check the network and HF_ENDPOINT"),
    "configuration": ({"config": "poems"}, "BuilderConfig 'poems' not found. Available: ['prose', 'lines']"),
    "split": ({"split": "test"}, "has no split 'test': its splits are train"),
    "no Parquet": ({"config": "lines"}, "no Parquet file of this commit (train.jsonl)"),
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Hub, dict[str, Any]]:
    """The data set's folder, the hub, and what it says of the data set and in each of the cases."""
    folder = lay_out(tmp_path_factory.mktemp("hub"))
    sound = {"name": NAME, "revision": COMMIT, "config": "prose", "split": "train"}
    given = {"sound": sound} | {name: sound | changes for name, (changes, _) in CASES.items()}
    with serving(folder) as (hub, environment):
        command = [sys.executable, "-c", ASKS, json.dumps(list(given.values()))]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder, hub, dict(zip(given, map(json.loads, done.stdout.splitlines()), strict=True))


def test_files_are_listed_with_what_pins_them_and_what_their_groups_hold(
    asked: tuple[Path, Hub, dict[str, Any]],
) -> None:
    folder, _, told = asked
    _, files = local_files(folder / "prose")
    found = told["sound"]
    assert [file["name"] for file, _ in found] == [f"prose/{file.name}" for file in files]
    assert [file["size"] for file, _ in found] == [file.size for file in files]
    assert all(len(file["digest"]) == len(file["footer"]) == 64 for file, _ in found)
    for file, groups in found:
        footer = pq.read_metadata(folder / file["name"])
        assert [rows for rows, _ in groups] == [
            footer.row_group(n).num_rows for n in range(footer.num_row_groups)
        ]


def test_listing_reads_no_more_than_footers(asked: tuple[Path, Hub, dict[str, Any]]) -> None:
    _, hub, told = asked
    for file, _ in told["sound"]:
        (only,) = hub.ranges(file["name"])
        assert only == (max(0, file["size"] - (64 << 10)), file["size"] - 1)
    read = [path for method, path, _ in hub.asked if method == "GET" and path.endswith(".parquet")]
    assert len(read) == len(told["sound"]) and all(f"/{COMMIT}/" in path for path in read)


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_one_sentence(asked: tuple[Path, Hub, dict[str, Any]], name: str) -> None:
    _, _, told = asked
    assert CASES[name][1] in told[name] and told[name].endswith(".") and "\n" not in told[name]


def test_a_hub_that_is_switched_off_is_told() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(UserError, match="unset HF_HUB_OFFLINE"):
        hub_files(HubDataset(name=NAME, revision=COMMIT))


def test_a_file_that_came_went_or_changed_is_refused(tmp_path: Path) -> None:
    where, files = local_files(write_files(tmp_path / "corpus"))
    check_same(where, files, files)
    for other in (files[:-1], [*files, files[0].model_copy(update={"name": "z"})]):
        with pytest.raises(UserError, match="is not what it was"):
            check_same(where, other, files)
    for change in ({"size": 1}, {"digest": "x"}):
        with pytest.raises(UserError, match=f"{files[1].name} of .* is not what it was"):
            check_same(where, [files[0], files[1].model_copy(update=change), files[2]], files)


def test_a_file_is_held_to_its_footer_whenever_it_is_opened(tmp_path: Path) -> None:
    corpus = write_files(tmp_path / "corpus")
    where, files = local_files(corpus)
    pinned = [file for file, _ in with_footers(where, files, COLUMNS)]
    with opened(where, pinned[0]) as file:
        assert file.metadata.num_rows == 80
    table = pq.read_table(corpus / pinned[0].name)
    pq.write_table(table, corpus / pinned[0].name, row_group_size=40)
    with pytest.raises(UserError, match="is not what it was"), opened(where, pinned[0]):
        pass


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet at all"])
def test_what_is_no_parquet_file_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.parquet").write_bytes(content)
    where, (file,) = local_files(tmp_path)
    with (
        pytest.raises(UserError, match=r"train\.parquet of .* is not a readable Parquet file"),
        opened(where, file),
    ):
        pass


@pytest.mark.parametrize("beside", ["notes.jsonl", "notes.csv", "deeper/more.parquet"])
def test_documents_that_would_be_left_out_are_told(tmp_path: Path, beside: str) -> None:
    folder = write_files(tmp_path / "corpus")
    (folder / beside).parent.mkdir(exist_ok=True)
    (folder / beside).write_text("{}")
    with pytest.raises(UserError, match=f"{beside} in .* would be left out"):
        local_files(folder)
    (folder / beside).rename(folder / beside.replace("notes", ".notes").replace("more", ".more"))
    local_files(folder)


def test_a_folder_without_parquet_files_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}")
    for path in (tmp_path, tmp_path / "a.jsonl"):
        with pytest.raises(UserError, match="holds no Parquet files"):
            local_files(path)
