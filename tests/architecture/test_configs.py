"""Every YAML file composes, binds and plans; identity follows science and nothing else."""

import ast
import json
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from pydantic import BaseModel, TypeAdapter

from airlab.cli.bind import bind, to_plain
from airlab.cli.experiment import open_experiment
from airlab.cli.explain import ExplainCommand
from airlab.cli.export import ExportCommand
from airlab.cli.heads import HeadsCommand
from airlab.cli.restore import RestoreCommand
from airlab.cli.score import ScoreCommand, import_stage
from airlab.cli.select import SelectCommand
from airlab.cli.tokenize import TokenizeCommand, tokenize_stage
from airlab.cli.verify import VerifyCommand
from airlab.cli.weigh import WeighCommand
from airlab.schema.base import Frozen
from airlab.schema.corpus import HubCorpus, PoolCorpus
from airlab.schema.heads import Detection, Masking, Probes
from airlab.schema.machine import Machine
from airlab.schema.mixture import MixtureSpec
from airlab.schema.scoring import Scoring
from airlab.schema.selection import Selecting
from airlab.schema.step_weights import StepWeights
from airlab.schema.traces import Aggregation, Rendering, Segmentation
from airlab.selection.selectors import make_selector
from airlab.stages.build_mixture import BuildMixture
from airlab.stages.inputs import corpus_stage, documents_stage, model_input, traces_stage
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.store import Store

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"

ROOTS = {
    "heads": (HeadsCommand, ["output=o.json"]),
    "score": (ScoreCommand, ["output=o.parquet", "heads=h.json", "input.path=d.jsonl"]),
    "explain": (ExplainCommand, ["output=o.html", "heads=h.json", "text=x"]),
    "select": (SelectCommand, ["output=o.parquet", "scores=s.parquet"]),
    "weigh": (WeighCommand, ["output=o.parquet", "scores=s.parquet"]),
    "export": (ExportCommand, ["output=o.parquet"]),
    "tokenize": (TokenizeCommand, []),
    "restore": (RestoreCommand, []),
    "verify": (VerifyCommand, []),
}
"""Root configurations of one command each: their schema, and a value for what the user must give."""

GROUPS = {
    "aggregation": ("score",),
    "corpus": ("heads", "tokenize", "run"),
    "detection": ("heads", "run"),
    "evaluation": ("run",),
    "experiment": ("run",),
    "fine_tuning": ("run",),
    "machine": ("heads", "score", "tokenize", "run"),
    "masking": ("score", "explain", "run"),
    "mixture": ("run",),
    "model": ("heads", "score", "export", "tokenize", "run"),
    "probes": ("heads", "run"),
    "rendering": ("score",),
    "scale": ("run",),
    "scoring": ("score", "run"),
    "segmentation": ("score", "explain"),
    "selecting": ("run",),
    "selector": ("select", "weigh"),
    "target": ("run",),
    "traces": ("score", "run"),
    "training": ("run",),
    "weights": ("weigh",),
}
"""Each folder of choices, and the root configurations that choose from it."""

OWN_SIZE = "own_size"
"""The folder of what an experiment sets for itself with a corpus, EXPERIMENT/CORPUS: followed, not chosen."""

OWN_TASKS = "own_tasks"
"""The folder of how many items an experiment asks for, EXPERIMENT/CORPUS/EVALUATION: followed, not chosen."""

OWN_TRACES = "own_traces"
"""The folder of how many traces an experiment generates, EXPERIMENT/CORPUS/TRACES: followed, not chosen."""

PLANNING = "planning"
"""The folder of what `airlab plan` assumes at a scale: followed, not chosen."""

OPEN = {
    ("model", "hub"): ["model.name=owner/name", f"model.revision={'a' * 40}"],
    ("model", "local"): ["model.path=MODEL"],
    ("corpus", "local"): ["corpus.path=CORPUS"],
    ("traces", "local"): ["traces.path=CORPUS"],
}
"""Choices that leave something to the user, with an example."""

TRAINED = [("model", choice) for choice in ("trained", "trained-30m")]
"""Models that are trained on the command's corpus; `airlab score` has none and must be told."""

OF_TRACES = [("evaluation", "worked"), *(("fine_tuning", choice) for choice in ("lora", "paper", "small"))]
"""How models are fine-tuned on traces and evaluated; others refuse it, and scales change values."""


def given(root: str, group: str, choice: str) -> list[str]:
    """An example of what the user must say with a choice."""
    if (group, choice) in TRAINED and root == "tokenize":
        return ["corpus=pool-smoke"]
    if (group, choice) in TRAINED and root in ("score", "export"):
        return ["+corpus@model.corpus=pool-smoke"]
    if (group, choice) in OF_TRACES or (root, group) == ("run", "traces"):
        return ["experiment=air/main", *OPEN.get((group, choice), [])]
    return OPEN.get((group, choice), [])


def choices(group: str) -> list[str]:
    folder = CONFIGS / group
    return sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))


USES = [
    (group, choice, root) for group, roots in GROUPS.items() for choice in choices(group) for root in roots
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A model folder and a corpus file, for the choices that name one."""
    tmp_path = tmp_path_factory.mktemp("named")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "docs.jsonl").write_text('{"text": "x y"}\n')
    return {"MODEL": str(tmp_path / "model"), "CORPUS": str(tmp_path / "docs.jsonl")}


@pytest.fixture(scope="module")
def composed(files: dict[str, str]) -> Iterator[Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):

        def call(root: str, *overrides: str) -> Any:
            for name, path in files.items():
                overrides = tuple(o.replace(name, path) for o in overrides)
            config = compose(root, list(overrides))
            OmegaConf.resolve(config)
            return config

        yield call


def bound(composed: Any, root: str, *overrides: str) -> BaseModel:
    if root == "run":
        return open_experiment(composed("run", *overrides))[1]
    schema, given = ROOTS[root]
    return bind(schema, to_plain(composed(root, *given, *overrides)))


def experiment(composed: Any, *overrides: str) -> tuple[Any, Any]:
    module, config, _ = open_experiment(composed("run", *overrides))
    return module, config


def test_no_file_is_forgotten() -> None:
    found = {p.relative_to(CONFIGS).with_suffix("").as_posix() for p in CONFIGS.rglob("*.yaml")}
    own = {f"{OWN_SIZE}/{name}/{corpus}" for name in EXPERIMENTS for corpus in choices("corpus")}
    places = [at.split("/", 1)[1] for at in own]
    for folder, group in ((OWN_TASKS, "evaluation"), (OWN_TRACES, "traces")):
        own |= {f"{folder}/{at}/{choice}" for at in places for choice in choices(group)}
    own |= {f"{PLANNING}/{scale}" for scale in choices("scale")}
    roots = {*ROOTS, "run", "plan", "report", "archive", "quiet"}
    covered = {f"{group}/{choice}" for group, choice, _ in USES} | roots | (own & found)
    assert found == covered
    assert len(found) == sum(1 for p in CONFIGS.rglob("*") if p.is_file()) >= 45
    assert {p.name for p in CONFIGS.iterdir() if p.is_dir()} == {
        *GROUPS,
        OWN_SIZE,
        OWN_TASKS,
        OWN_TRACES,
        PLANNING,
    }


@pytest.mark.parametrize("root", [*ROOTS, "run"])
def test_every_root_binds_as_it_is(composed: Any, root: str) -> None:
    bound(composed, root)


@pytest.mark.parametrize(("group", "choice", "root"), USES)
def test_every_choice_binds_where_it_can_be_chosen(composed: Any, group: str, choice: str, root: str) -> None:
    result = bound(composed, root, f"{group}={choice}", *given(root, group, choice))
    if group == "selector":
        assert make_selector(result.selector).kind == result.selector["kind"]
    if group == "traces":
        assert fingerprint(traces_stage(result.traces))
    if root in ("heads", "run") and group == "corpus":
        assert fingerprint(corpus_stage(result.corpus))
    if root == "score" and group == "model":
        assert model_input(result.model)


def test_what_is_chosen_arrives(composed: Any) -> None:
    """A group file with a wrong package header composes, and changes nothing."""
    for group, choice, root in USES:
        if group in ("scale", "experiment"):
            continue
        config = OmegaConf.to_container(
            composed(root, f"{group}={choice}", *given(root, group, choice))[group]
        )
        raw = yaml.safe_load((CONFIGS / group / f"{choice}.yaml").read_text())
        builds_on_another = raw.pop("defaults", None)
        if (group, choice) in TRAINED:
            assert isinstance(config, dict) and config["corpus"]["kind"] == "pool"
            raw.pop("corpus", None)
        assert isinstance(config, dict)
        sized = group in ("probes", "training", "traces") or (group, choice) in OF_TRACES
        if builds_on_another or (root == "run" and sized):
            assert set(raw) <= set(config)  # the scale changes values in them
        else:
            assert {k: v for k, v in config.items() if raw.get(k) not in ("???", None)} == {
                k: v for k, v in raw.items() if v not in ("???", None)
            }, (group, choice)


EXPERIMENTS = choices("experiment")
COMPARISONS = [
    name for name in EXPERIMENTS if hasattr(import_module(f"experiments.{name.replace('/', '.')}"), "cells")
]
"""Experiments that train targets, arm by arm."""
CELLS = list(product(COMPARISONS, choices("scale")))


NO_HELD_OUT_TEXT = ("attention_influence/coverage_audit", "paper")
"""What it audits is not there, and it says so (tests/unit/experiments/test_coverage_audit.py)."""


@pytest.mark.parametrize(
    ("name", "scale"), [pair for pair in product(EXPERIMENTS, choices("scale")) if pair != NO_HELD_OUT_TEXT]
)
def test_every_experiment_plans_at_every_scale(composed: Any, tmp_path: Path, name: str, scale: str) -> None:
    module, config = experiment(composed, f"experiment={name}", f"scale={scale}")
    targets = module.targets(config)
    assert len({fingerprint(stage) for stage in targets.values()}) == len(targets) > 1
    rows = Plan(Store(tmp_path / "store"), list(targets.values())).explain()
    assert all(row.needed and row.status == "missing" for row in rows)


@pytest.mark.parametrize(("name", "scale"), CELLS)
def test_every_comparison_plans_its_cells_at_every_scale(
    composed: Any, tmp_path: Path, name: str, scale: str
) -> None:
    module, config = experiment(composed, f"experiment={name}", f"scale={scale}")
    cells = module.cells(config)
    assert len({c.name for c in cells}) == len({fingerprint(c.evaluation) for c in cells}) == len(cells) > 1
    seeds = {c.seed for c in cells}
    assert len(cells) == len({c.variant for c in cells}) * len(seeds)
    rows = Plan(Store(tmp_path / "store"), [c.evaluation for c in cells]).explain()
    assert all(row.needed and row.status == "missing" for row in rows)
    assert module.cells(config) == cells, "planning twice must give the same"


def test_the_main_comparison_has_the_papers_baselines_and_the_full_pool(composed: Any) -> None:
    module, config = experiment(composed, "scale=laptop")
    arms = {"random", "attention_influence", "length", "entropy", "loss_high", "loss_low"}
    assert {c.variant for c in module.cells(config)} == {"full_pool", *arms}
    assert len(module.cells(config)) == 7 * len(config.seeds)
    assert config.seeds == (0, 1, 2)


@pytest.mark.parametrize(("name", "scale"), CELLS)
def test_all_arms_train_on_the_same_number_of_tokens(composed: Any, name: str, scale: str) -> None:
    module, config = experiment(composed, f"experiment={name}", f"scale={scale}")
    mixtures = [c.evaluation.checkpoint.mixture for c in module.cells(config)]
    assert all(isinstance(mixture, BuildMixture) for mixture in mixtures)
    assert len({fingerprint(mixture) for mixture in mixtures}) == len(mixtures)
    assert {(m.budget_tokens, m.context) for m in mixtures} == {
        (config.training.budget_tokens, config.target.context)
    }
    assert {c.evaluation.checkpoint.training.budget_tokens for c in module.cells(config)} == {
        config.training.budget_tokens
    }


def test_arms_share_everything_above_the_choice_of_data(composed: Any) -> None:
    """One model, one detection, one pass of losses, one tokenizer for all arms and seeds."""
    module, config = experiment(composed)
    order = Plan(Store(Path("nowhere")), [c.evaluation for c in module.cells(config)]).order
    names = [stage.name for stage in order]
    for once in ("prepare_model", "build_pool", "detect_heads", "measure_losses", "train_tokenizer"):
        assert names.count(once) == 1, once


REPEATED = {"probes": Probes, "detection": Detection, "masking": Masking, "selecting": Selecting}


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        *((schema, f"{group}/paper") for group, schema in REPEATED.items() if group != "masking"),
        (Masking, "masking/uniform"),
        (Scoring, "scoring/float32"),
        (MixtureSpec, "mixture/upsample"),
        (Rendering, "rendering/chat"),
        (Segmentation, "segmentation/blank_line"),
        (Aggregation, "aggregation/trace"),
        (Machine, "machine/cpu"),
    ],
)
def test_defaults_of_a_schema_are_what_the_file_says(schema: type[Frozen], path: str) -> None:
    assert bind(schema, yaml.safe_load((CONFIGS / f"{path}.yaml").read_text())) == schema()


STEPS_AND_WEIGHTS = [(group, choice) for group in ("segmentation", "weights") for choice in choices(group)]


@pytest.mark.parametrize(("group", "choice"), STEPS_AND_WEIGHTS)
def test_files_of_steps_and_weights_say_what_the_schema_has_by_default(group: str, choice: str) -> None:
    """And each file is named after what it sets."""
    said = yaml.safe_load((CONFIGS / group / f"{choice}.yaml").read_text())
    adapter: TypeAdapter[Any] = TypeAdapter(Segmentation if group == "segmentation" else StepWeights)
    named = {"rule" if group == "segmentation" else "kind": choice}
    assert adapter.validate_json(json.dumps(said)) == adapter.validate_json(json.dumps(named))
    if group == "weights":
        assert set(said) == set(type(adapter.validate_python(named)).model_fields)


def test_select_defaults_to_the_papers_share() -> None:
    said = yaml.safe_load((CONFIGS / "select.yaml").read_text())
    assert bind(Selecting, {k: said[k] for k in Selecting.model_fields}) == Selecting()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_states_its_hypothesis_where_it_is_written(name: str) -> None:
    module = ROOT / "experiments" / f"{name}.py"
    docstring = ast.get_docstring(ast.parse(module.read_text()))
    assert docstring and "Hypothesis" in docstring


def test_code_and_results_have_a_configuration_of_the_same_name() -> None:
    modules = {
        p.relative_to(ROOT / "experiments").with_suffix("").as_posix()
        for p in (ROOT / "experiments").rglob("*.py")
        if "class Config(" in p.read_text()  # others hold what experiments share
    }
    assert modules == set(EXPERIMENTS)
    results = {
        p.parent.parent.relative_to(ROOT / "results").as_posix()
        for p in (ROOT / "results").rglob("lock.json")
    }
    assert results <= set(EXPERIMENTS)


@pytest.fixture(scope="module")
def base(composed: Any) -> set[str]:
    """The fingerprints of the experiment as it stands."""
    return prints(composed)


@pytest.fixture(scope="module")
def seeds(composed: Any) -> int:
    return len(experiment(composed)[1].seeds)


def prints(composed: Any, *overrides: str) -> set[str]:
    module, config = experiment(composed, *overrides)
    return {fingerprint(c.evaluation) for c in module.cells(config)}


@pytest.mark.parametrize(
    "machine",
    [f"machine={m}" for m in choices("machine")]
    + [
        "machine.tokens_per_batch=17",
        "machine.sequences_per_micro_batch=3",
        "results=elsewhere",
        "partial=true",
    ],
)
def test_the_machine_is_in_no_fingerprint(composed: Any, base: set[str], machine: str) -> None:
    assert prints(composed, machine) == base


SCIENCE = [
    "corpus.pool.seed=1", "corpus.pool.near_duplicate_threshold=0.6",
    "probes.count=49", "probes.max_tokens=1000", "probes.demonstrations=2", "probes.max_value_tokens=29",
    "probes.seed=1", "detection.decoding=generated", "detection.argmax_in=needle",
    "detection.failed_retrievals=skip", "detection.precision=bfloat16", "masking.share_of_heads=0.06",
    "masking=zero", "scoring.window_tokens=1024", "scoring=bfloat16", "selecting.share=0.3",
    "selecting.unit=tokens", "selecting.scope=global", "mixture=subset_only", "target=llama-1m",
    "target.vocabulary=4000", "training.budget_tokens=65536", "training.learning_rate=5e-4",
    "training.precision=bfloat16", "evaluation.minimum_items=21", "seeds=[7,8,9]",
    "model.member=another.gguf", "model=local model.path=MODEL",
]  # fmt: skip


@pytest.mark.parametrize("change", SCIENCE)
def test_every_value_of_the_science_is_in_the_fingerprints(
    composed: Any, base: set[str], seeds: int, change: str
) -> None:
    """All cells move, except that the full pool's do not depend on how data are chosen."""
    after = prints(composed, *change.split())
    chooses = change.split("=")[0].split(".")[0] in (
        "probes", "detection", "masking", "scoring", "selecting", "mixture", "model"
    )  # fmt: skip
    assert len(after & base) == (seeds if chooses else 0), change


@pytest.mark.parametrize("kind", ["random", "length"])
def test_a_selectors_own_choice_moves_its_arm_only(
    composed: Any, base: set[str], seeds: int, kind: str
) -> None:
    assert len(base - prints(composed, f"selectors.entropy.kind={kind}")) == seeds


@pytest.mark.parametrize("name", ["text", "id", "domain", "default_domain"])
def test_which_column_is_read_is_part_of_what_documents_are(
    composed: Any, files: dict[str, str], name: str
) -> None:
    def stage(*overrides: str) -> str:
        return fingerprint(import_stage(bound(composed, "score", "input.path=CORPUS", *overrides).input))

    assert stage(f"input.{name}=other") != stage()


@pytest.mark.parametrize(
    "name", [c for c in choices("corpus") if not c.startswith(("pool", "encyclopedia", "local"))]
)
def test_hub_corpora_are_pinned_and_their_own(composed: Any, name: str) -> None:
    corpus = bound(composed, "heads", f"corpus={name}").corpus
    assert isinstance(corpus, HubCorpus) and not isinstance(corpus, PoolCorpus)
    assert len(corpus.hub.revision) == 40


def test_the_large_pool_reads_whatever_the_pool_reads_and_more(composed: Any) -> None:
    small, large = (bound(composed, "heads", f"corpus={name}").corpus.pool for name in ("pool", "pool-large"))
    assert set(small.wheels) < set(large.wheels)
    uncapped = {source.model_copy(update={"max_bytes": None}) for source in small.sources}
    assert uncapped < set(large.sources)
    for name in set(type(small).model_fields) - {"wheels", "sources"}:
        if not name.endswith("bytes_per_domain"):
            assert getattr(small, name) == getattr(large, name), name


@pytest.mark.parametrize("name", ["fineweb-edu-dedup", "open-web-math"])
def test_a_command_tokenizes_what_an_experiment_on_that_corpus_trains_on(composed: Any, name: str) -> None:
    """A corpus is prepared where there are many cores, and found again where there are GPUs."""
    choice = [f"corpus={name}", "model=hub", "model.name=a/b", f"model.revision={'a' * 40}"]
    alone = tokenize_stage(bound(composed, "tokenize", *choice))
    module, config = experiment(
        composed,
        *("experiment=attention_influence/main", "scale=paper"),
        *(*choice, "target.vocabulary=selector"),
    )
    mixtures = {cell.evaluation.checkpoint.mixture for cell in module.cells(config)}
    assert {fingerprint(mixture.tokenized) for mixture in mixtures} == {fingerprint(alone)}
    (documents,) = {fingerprint(documents_stage(mixture.tokenized)) for mixture in mixtures}
    assert documents == fingerprint(corpus_stage(config.corpus)), "what a selection of them is exported from"
