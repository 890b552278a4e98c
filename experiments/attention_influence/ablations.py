"""Ablations: which of the method's choices does its result hang on?

Hypothesis (AttentionInfluence, arXiv 2505.07293, Sections 4.1 and 4.2, Appendix C): a document that depends
on the retrieval heads is worth repeating. If so, the choices around it are details: neighbouring settings
rank documents alike, select alike, and train targets alike. One factor at a time around the default (the
top 5 % of heads, uniform attention, the top 20 % of documents of each domain, repeated beside the full
pool, windows of 2,048 tokens):

- `heads-1`, `heads-2`, `heads-10`, `heads-20`: the share of heads that is masked.
- `zero-mask`: the heads' output removed.
- `share-10`, `share-30`, `share-40`, `share-50`: how much of the pool is selected.
- `global-scope`: domains compete with each other.
- `share-of-tokens`: a fifth of the tokens instead of the documents.
- `subset-only`: the selection alone, repeated up to the same budget.
- `window-256`, `window-512`: the longest piece that is scored at once; longer documents are cut, and no
  piece sees the ones before it.

Another selector model is asked about in `selector_size`.

Analysis plan. Two sections. First, before any training: Spearman of each variant's influence with the
default's, over all documents and of ranks within domains, with percentile bootstrap intervals over
documents drawn within domains (not corrected, a description); the Jaccard index of its selection with the
default's; documents and tokens selected. Second, each variant's own comparison, all at the same number of
training tokens, paired over seeds and items: attention influence against random *under the same setting*
(the same share, scope, unit and mixture; a random draw does not look at losses, so variants that only
change those share the default's), as the composite of `main`; p-values Holm-corrected over all variants,
default included, the detectable difference beside each. The difference to the full pool is shown with its
interval and is no test. No two variants are compared with each other: that one beats random and another
does not is no difference between them. No variant, arm, seed or column is dropped afterwards.

For the method: rankings by a tenth or a hundredth of the heads agree with the default's (Spearman within
domains above 0.8) and no variant changes the sign of a difference that can be told from zero. Against it:
`heads-20`, most of whose heads do not retrieve, ranks like the default (then any heads would do; the
controls' `random_heads` asks the same), or `zero-mask` does not (then the result hangs on how a head is
masked), or a window of 256 tokens, in which little can be looked up, ranks like 2,048 (then it is not far
retrieval).

Expected at laptop scale: from the first section, high agreement between neighbouring shares of heads, less
for `heads-20`, and a global scope that selects reasoning, code and boilerplate at the cost of reference
text (docs/LOG.md, levels by kind of text). From the second, nothing: the main table detected differences of
0.2 to 0.7 only, targets here see two fifths of its tokens, and fifteen tests are corrected for.

Time at laptop scale, by what `controls` took, whose pool and budget this shares (a pass over 93,000 tokens
2.8 minutes on two CPU cores, a target 14.6 s and its evaluation 10.7), not measured yet. Eight passes: six
of 2.8 or a little less; the tenth and the fifth of heads begin lower in the stack and cost 3.0 to 3.9 each:
22.8 to 24.6 in all. 72 cells, three of the full pool, 24 of random, 45 of attention influence: 30.4. Pool,
model and heads 1.2; fifteen processes that start, up to 2. In all 56 to 58 minutes, 11 fewer where the
controls are in the store: both masks' passes and nine cells are theirs, too.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

import pyarrow.parquet as pq
from pydantic import Field, JsonValue, PositiveInt, ValidationError, model_validator

from airlab.reporting.ablations import Ablation, Ranking, ablations_page
from airlab.reporting.findings import Findings
from airlab.reporting.tables import IncompleteTable, build_table
from airlab.stages.select_units import SelectUnits
from airlab.store.fingerprint import fingerprint
from airlab.store.stage import Stage
from airlab.store.store import Store
from experiments.attention_influence import comparison
from experiments.attention_influence.comparison import (
    BASELINE,
    CONTROL,
    Comparison,
    losses_stage,
    selection_of,
    table_spec,
)
from experiments.base import Cell, cell_records

__all__ = ["Config", "cells", "find", "losses_stage", "parts", "selections", "targets"]

DEFAULT = "default"
METHOD = "attention_influence"
_LOOKED_AT = ("model", "probes", "detection", "masking", "scoring")
"""Settings behind the losses, which a random draw does not look at."""

VariantName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
"""Also the name of a folder."""


class Setting(Comparison):
    """One variant, bound like any comparison."""

    TITLE: ClassVar[str] = "AttentionInfluence, ablations, default setting"


class Grid(Setting):
    """A default and what is varied of it, one choice at a time."""

    PAGE: ClassVar[str]
    """The page's title; the scale is added."""
    name: str
    variants: dict[VariantName, dict[str, JsonValue]]
    """By name, what differs from the default: settings by their dotted names."""
    agreement_resamples: PositiveInt

    @model_validator(mode="after")
    def _variants_are_possible(self) -> Self:
        if METHOD not in self.selectors:
            raise ValueError(f"selectors must have {METHOD}, whose choices are varied")
        if DEFAULT in self.variants:
            raise ValueError(f"{DEFAULT} is what the configuration says without a variant; rename it")
        default = setting(self, DEFAULT)
        for name in self.variants:
            try:
                varied = setting(self, name)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                where = ".".join(map(str, first["loc"]))
                raise ValueError(f"variant {name}: {where}: {first['msg']}") from None
            if varied == default:
                raise ValueError(f"variant {name} changes nothing")
        return self


class Config(Grid):
    """What `configs/experiment/attention_influence/ablations.yaml` binds to."""

    PAGE: ClassVar[str] = "Ablations"
    name: Literal["attention_influence/ablations"]


def setting(config: Grid, name: str) -> Setting:
    """A variant's configuration, checked as strictly as the file it came from.

    Raises:
        ValueError: a setting that does not exist (a `pydantic.ValidationError`: a value that cannot be).
    """
    plain = config.model_dump(mode="json", include=set(Setting.model_fields))
    for key, value in ({} if name == DEFAULT else config.variants[name]).items():
        *groups, last = key.split(".")
        inner: Any = plain
        for group in groups:
            inner = inner.get(group) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or last not in inner:
            raise ValueError(f"variant {name}: there is no setting {key}")
        inner[last] = value
    return Setting.model_validate_json(json.dumps(plain))


def variant_cells(config: Grid, name: str) -> tuple[Cell, ...]:
    """The targets that a variant's comparison is made of; its other arms are the default's where they can be.

    A random draw does not look at losses, and the full pool is neither selected from nor mixed. Trained again
    under another address, they would cost as much as the variant itself and give the same targets.
    """
    varied = setting(config, name)
    kept = [k for k in _LOOKED_AT if (k, varied.target.vocabulary) != ("model", "selector")]
    whole = varied.model_copy(update={k: getattr(config, k) for k in (*kept, "selecting", "mixture")})
    sources = {BASELINE: {c.name: c for c in comparison.cells(whole)}}
    if getattr(varied.selectors[CONTROL], "kind", "") == CONTROL:
        drawn = varied.model_copy(update={k: getattr(config, k) for k in kept})
        sources[CONTROL] = {c.name: c for c in comparison.cells(drawn)}
    own = comparison.cells(varied)
    return tuple(sources[c.variant][c.name] if c.variant in sources else c for c in own)


def cells(config: Grid) -> tuple[Cell, ...]:
    """Every target once, named after the first variant that needs it."""
    found: dict[str, Cell] = {}
    for name in _names(config):
        for cell in variant_cells(config, name):
            named = Cell(f"{name}/{cell.variant}", cell.seed, cell.evaluation)
            found.setdefault(fingerprint(cell.evaluation), named)
    return tuple(found.values())


def targets(config: Grid) -> dict[str, Stage]:
    """Every target once, by the names that the lock gives them."""
    return {cell.name: cell.evaluation for cell in cells(config)}


def parts(config: Grid) -> dict[str, dict[str, Stage]]:
    """By variant, all targets that its comparison needs: what can run without the other variants."""
    return {
        name: {cell.name: cell.evaluation for cell in variant_cells(config, name)} for name in _names(config)
    }


def find(config: Grid, store: Store, *, partial: bool = False) -> Findings:
    """The default's table, and the page of all variants.

    Raises:
        IncompleteTable: a variant has no result and `partial` is off; all such are named.
    """
    tables, holes = {}, []
    for name in _names(config):
        # The title is the grid's: a setting of its own knows nothing of it.
        spec = replace(table_spec(setting(config, name)), title=f"{config.TITLE}, scale {config.scale}")
        records = cell_records(variant_cells(config, name), store)
        try:
            tables[name] = build_table(spec, records)
        except IncompleteTable:
            holes.append(name)
            tables[name] = build_table(spec, records, partial=True)
    if holes and not partial:
        raise IncompleteTable(f"{len(holes)} variants have no results: {', '.join(holes)}")
    rankings = {name: _ranking(config, name, store) for name in _names(config)}
    page = ablations_page(
        name=config.name.rpartition("/")[2],
        title=f"{config.PAGE}, scale {config.scale}",
        ablations=[
            Ablation(
                name=name,
                change=" ".join(_told(*change) for change in config.variants.get(name, {}).items()),
                ranking=rankings[name],
                comparison=tables[name].comparisons[METHOD],
                to_baseline=tables[name].against_baseline[METHOD],
            )
            for name in _names(config)
        ],
        resamples=config.agreement_resamples,
    )
    return Findings(tables[DEFAULT], (page,))


def selections(config: Grid, store: Store) -> dict[str, Mapping[str, Any]]:
    """What each variant's arms took, at the first seed: documents and tokens by domain."""
    return {name: comparison.selections(setting(config, name), store) for name in _names(config)}


def _told(key: str, value: JsonValue) -> str:
    """A change in words; of a whole group, such as a model, only which kind it is."""
    return f"{key}.kind={value['kind']}" if isinstance(value, dict) else f"{key}={json.dumps(value)}"


def _names(config: Grid) -> tuple[str, ...]:
    return DEFAULT, *config.variants


def _ranking(config: Grid, name: str, store: Store) -> Ranking | None:
    """How a variant ranks and what it selects, at the first seed; the method draws nothing."""
    cell = next(c for c in variant_cells(config, name) if c.variant == METHOD)
    selection = selection_of(cell)
    assert isinstance(selection, SelectUnits)
    scores, chosen = store.find(selection.scores), store.find(selection)
    if scores is None or chosen is None:
        return None
    columns = ["unit_id", "domain", "score"]
    ranked = pq.read_table(scores / "scores.parquet", columns=columns).sort_by("unit_id")
    taken = pq.read_table(chosen / "selection.parquet", columns=["unit_id", "n_tokens"])
    unit_id, domain, score = (ranked[name].to_numpy(zero_copy_only=False) for name in columns)
    return Ranking(
        fingerprint(selection.scores),
        unit_id,
        domain,
        score,
        frozenset(taken["unit_id"].to_pylist()),
        int(sum(taken["n_tokens"].to_pylist())),
    )
