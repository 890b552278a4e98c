"""Published results as a data frame: every number of the committed files, and nothing else."""

import csv
import json
import math
import re
import shutil
from pathlib import Path

import pytest

from airlab.errors import UserError
from airlab.reporting.frames import COLUMNS, results

RESULTS = Path(__file__).parents[3] / "results"
TABLES = sorted(path.parent for path in RESULTS.rglob("estimates.json"))
ERRORS = ("value", "low", "high", "level", "n_items", "p_holm", "detectable")


@pytest.mark.parametrize("folder", TABLES, ids=lambda path: path.relative_to(RESULTS).as_posix())
def test_it_says_what_the_committed_csv_says(folder: Path) -> None:
    """The CSV was written by other code, from the same numbers."""
    reference = json.loads((folder / "estimates.json").read_text())["reference"]
    expected = {}
    with (folder / "table.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            quantity, _, against = row["quantity"].partition("_to_")
            against = against or (reference if quantity != "value" else "")
            key = (row["variant"], row["task"], row["metric"], quantity, against)
            assert key not in expected
            expected[key] = row
    frame = results(folder)
    assert tuple(frame.columns) == COLUMNS
    found = {}
    for row in frame.to_dict("records"):
        names = ("variant", "task", "metric", "quantity", "against")
        found[tuple("" if row[n] != row[n] or row[n] is None else row[n] for n in names)] = row
    assert found.keys() == expected.keys() and len(found) == len(frame)
    for key, row in found.items():
        for name in ERRORS:
            told = expected[key][name]
            assert float(row[name]) == float(told) if told else math.isnan(row[name]), (key, name)
        assert str(row["n_seeds"]) == expected[key]["n_runs"]
        assert row["direction"] == ("higher" if expected[key]["higher_is_better"] == "True" else "lower")
        assert row["method"] == expected[key]["method"]
        if expected[key]["outcome"]:
            assert row["outcome"] == expected[key]["outcome"]


def test_unknown_ends_are_empty_and_never_zero(tmp_path: Path) -> None:
    shutil.copytree(TABLES[0], tmp_path / "table")
    path = tmp_path / "table" / "estimates.json"
    found = json.loads(path.read_text())
    found["cells"][0]["value"] |= {"low": None, "high": None}
    found["cells"][1]["value"] = None
    path.write_text(json.dumps(found))
    values = results(tmp_path / "table").query("quantity == 'value'").reset_index()
    assert math.isnan(values.low[0]) and not math.isnan(values.value[0])
    assert math.isnan(values.value[1]) and values.n_items.isna()[1]


def test_the_example_in_the_docstring_runs(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(RESULTS.parent)
    block = re.search(r"::\n\n(.*?)\n\n    Raises", results.__doc__ or "", re.DOTALL)
    assert block is not None
    code = re.sub(r"^        ", "", block[1], flags=re.MULTILINE)
    exec(compile(code, "example", "exec"), {})
    printed = capsys.readouterr().out
    assert "bits_per_byte_prose" in printed and "random" not in printed


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "name one below results/"),
        (lambda folder: (folder / "masking.csv").touch(), "pandas.read_csv: masking.csv"),
        (lambda folder: (folder / "estimates.json").write_text("{}"), "is not a table's estimates"),
        (lambda folder: (folder / "estimates.json").write_text("[1"), "is not a table's estimates"),
    ],
)
def test_a_folder_without_a_table_is_refused_in_a_sentence(tmp_path: Path, make, said: str) -> None:
    make(tmp_path)
    with pytest.raises(UserError, match=said) as caught:
        results(tmp_path)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
