"""Published results as pandas' data frames."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from airlab.errors import UserError

COLUMNS = (
    "variant",
    "task",
    "metric",
    "direction",
    "in_composite",
    "chance",
    "quantity",
    "against",
    "value",
    "low",
    "high",
    "level",
    "n_items",
    "n_seeds",
    "p_holm",
    "detectable",
    "outcome",
    "method",
)


def results(folder: Path | str) -> pd.DataFrame:
    """A published table, one row a number, unrounded; unknown and missing ones are empty.

    `quantity` is `value` (of a variant in a column), `difference` (paired, to the variant in `against`) or
    `composite` (over all columns, in units of the baseline's spread between items; its `task` and `metric`
    are empty). `low` and `high` are the ends of the interval of that `level`, `n_items` and `n_seeds` what
    it was drawn over. Composites have `p_holm` and `detectable`, those against the reference an `outcome`.
    `direction` says which values are better, `higher` or `lower`; a composite's are turned to `higher`::

        from airlab.reporting.frames import results

        table = results("results/attention_influence/main/laptop")
        differences = table[(table.quantity == "difference") & (table.against == "random")]
        print(differences.pivot(index="task", columns="variant", values="value").round(3))

    Raises:
        UserError: the folder holds no table.
    """
    path = Path(folder) / "estimates.json"
    if not path.is_file():
        pages = ", ".join(sorted(page.name for page in Path(folder).glob("*.csv")))
        read = f"; read its pages with pandas.read_csv: {pages}" if pages else "; name one below results/"
        raise UserError(f"{folder} holds no table (no estimates.json){read}.")
    try:
        rows = list(_rows(json.loads(path.read_text(encoding="utf-8"))))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not a table's estimates ({error}); restore it or write it again."
        ) from None
    numbers = dict.fromkeys(("chance", "value", "low", "high", "level", "p_holm", "detectable"), "float64")
    counts = dict.fromkeys(("n_items", "n_seeds"), "Int64")
    types = {"in_composite": "boolean", **numbers, **counts}
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(types)


def _rows(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    reference, baseline = found["reference"], found["baseline"]
    for cell in found["cells"]:
        told = {name: cell[name] for name in ("variant", "task", "metric", "in_composite", "chance")}
        told["direction"] = "higher" if cell["higher_is_better"] else "lower"
        yield {**told, "quantity": "value", **_numbers(cell["value"])}
        for against, key in {baseline: "to_baseline", reference: "difference"}.items():
            if cell["variant"] != against:
                yield {**told, "quantity": "difference", "against": against, **_numbers(cell[key])}
    for against, key in {baseline: "against_baseline", reference: "verdicts"}.items():
        for variant, contrast in found[key].items():
            told = {"variant": variant, "quantity": "composite", "against": against, "direction": "higher"}
            errors = {name: (contrast or {}).get(name) for name in ("p_holm", "detectable", "outcome")}
            yield {**told, **_numbers(contrast and contrast["composite"]), **errors}


def _numbers(estimate: Mapping[str, Any] | None) -> dict[str, Any]:
    if estimate is None:
        return {}
    told = {name: estimate[name] for name in ("value", "low", "high", "level", "n_items", "method")}
    return {**told, "n_seeds": estimate["n_runs"]}
