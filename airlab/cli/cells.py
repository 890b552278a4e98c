"""What a cell of an experiment holds for others: what it was trained on, and its checkpoint."""

import difflib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from airlab.cli.experiment import open_experiment
from airlab.cli.origin import model_facts, of_stage
from airlab.cli.outputs import open_store, write_output
from airlab.cli.overrides import choices, explain, prepare
from airlab.errors import UserError
from airlab.reporting.cards import Training, code, model_card, model_words
from airlab.reporting.lock import LOCK, read_lock
from airlab.stages.build_mixture import BuildMixture
from airlab.stages.build_training import BuildTraining
from airlab.stages.continue_pretraining import ContinuePretraining, Trained
from airlab.stages.evaluate import Evaluate
from airlab.stages.fine_tune import FineTune
from airlab.stages.inputs import documents_stage
from airlab.stages.select_units import SelectUnits
from airlab.stages.weigh_steps import WeighSteps
from airlab.stats.estimate import Estimate
from airlab.store.fingerprint import fingerprint
from airlab.store.record import Record
from airlab.store.stage import Stage
from airlab.store.store import Store
from airlab.terminal import visible

AnyTrained = Trained | FineTune

CHECKPOINT = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
"""The files of a checkpoint that are a model; others are about its training."""


@dataclass(frozen=True)
class Cell:
    """One trained model of an experiment."""

    experiment: str
    scale: str
    name: str
    """As the experiment's lock calls it, such as `random/seed-0`."""
    config: Any
    evaluation: Evaluate
    checkpoint: AnyTrained

    @property
    def path(self) -> str:
        """As the user names it."""
        return f"{self.experiment}/{self.scale}/{self.name}"

    @property
    def arm(self) -> str:
        """Its row in the experiment's table."""
        return self.name.rpartition("/")[0].rpartition("/")[2]


def open_cell(path: str, settings: Sequence[str] = ()) -> Cell:
    """The cell that a user named.

    Args:
        path: the experiment, its scale and the name of the cell, as folder and lock of its results say them.
        settings: what else its run was given.

    Raises:
        UserError: there is no such cell, or nothing was trained for it.
    """
    from airlab.cli.main import configs_folder

    known = choices(configs_folder(), "experiment")
    experiment = next((name for name in known if path.startswith(name + "/")), None)
    if experiment is None:
        raise UserError(
            f"cell={path} names no experiment; write PAPER/EXPERIMENT/SCALE/ARM/seed-N, where experiments "
            f"are {_by_paper(known)}."
        )
    scale, _, name = path.removeprefix(experiment + "/").partition("/")
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(configs_folder()), version_base="1.3"):
            overrides = prepare([f"experiment={experiment}", f"scale={scale}", *settings], configs_folder())
            module, bound, _ = open_experiment(compose("run", overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, configs_folder(), "run")) from error
    targets: Mapping[str, Stage] = module.targets(bound)
    if name not in targets:
        close = difflib.get_close_matches(name, targets, 3) or list(targets)[:3]
        raise UserError(
            f"{experiment} at scale {scale} has no cell {name!r}; it has {', '.join(close)} and others, as "
            f"its {LOCK} lists."
        )
    evaluation = targets[name]
    checkpoint = getattr(evaluation, "checkpoint", None)
    if not isinstance(evaluation, Evaluate) or not isinstance(checkpoint, AnyTrained):
        raise UserError(f"nothing was trained for {path}: name a cell of an arm that was.")
    return Cell(experiment, scale, name, bound, evaluation, checkpoint)


def _by_paper(experiments: Sequence[str]) -> str:
    """Such as ``air/{evidence, main} and …``: names in full would be a screen of them."""
    papers: dict[str, list[str]] = {}
    for paper, _, name in (experiment.partition("/") for experiment in experiments):
        papers.setdefault(paper, []).append(name)
    return " and ".join(f"{paper}/{{{', '.join(names)}}}" for paper, names in papers.items())


def _found(store: Store, stage: Stage, cell: Cell) -> Path:
    folder = store.find(stage)
    if folder is None:
        raise UserError(
            f"{cell.path} is not there yet; run `airlab run experiment={cell.experiment} scale={cell.scale}` "
            "first, with AIRLAB_STORE set to the same store."
        )
    return folder


def selection_of(cell: Cell) -> tuple[Path, Path, Mapping[str, Any]]:
    """The table of documents or traces, that of the selected ones, and how they were selected.

    Raises:
        UserError: the arm selects nothing, or its selection is not there.
    """
    source, selection = _trained_on(cell.checkpoint)
    if selection is None:
        raise UserError(
            f"{cell.path} was trained on everything there was, so it has no selection to export: name a cell "
            "of a selector."
        )
    store = open_store()
    documents = _table(_found(store, source, cell))
    return documents, _found(store, selection, cell) / "selection.parquet", of_stage(selection)


def _trained_on(checkpoint: AnyTrained) -> tuple[Stage, SelectUnits | None]:
    """The stage that made documents or traces, and what was selected of them."""
    if isinstance(checkpoint, FineTune):
        assert isinstance(checkpoint.data, BuildTraining)
        source, selection = checkpoint.data.traces, checkpoint.data.selection
    else:
        assert isinstance(checkpoint.mixture, BuildMixture)
        source, selection = documents_stage(checkpoint.mixture.tokenized), checkpoint.mixture.selection
    assert selection is None or isinstance(selection, SelectUnits)
    return source, selection


def _table(folder: Path) -> Path:
    return next(folder / name for name in ("documents.parquet", "traces.parquet") if (folder / name).exists())


def export_checkpoint(cell: Cell, output: Path, results: Path, made_by: str) -> None:
    """Copy a trained model into a folder of the user's, with a card.

    Raises:
        UserError: it was not trained yet.
    """
    store = open_store()
    folder = _found(store, cell.checkpoint, cell)
    record = store.verify(cell.checkpoint)
    card = model_card(_training(cell, store, record, results, made_by))

    def write(path: Path) -> None:
        path.mkdir()
        for name in CHECKPOINT:
            if (folder / name).exists():
                shutil.copyfile(folder / name, path / name)
        (path / "README.md").write_text(card, encoding="utf-8")

    write_output(output, write)
    print(visible(f"{output}: {cell.path}, {record.notes['n_parameters']:,} parameters"))


def _training(cell: Cell, store: Store, record: Record, results: Path, made_by: str) -> Training:
    checkpoint, notes = cell.checkpoint, record.notes
    made: Mapping[str, Any] = record.provenance
    source, selection = _trained_on(checkpoint)
    trained_on = f"{source.name} {code(fingerprint(source)[:12])}, "
    trained_on += "all of it" if selection is None else f"selected by {code(_selector(selection))}"
    if isinstance(checkpoint, FineTune):
        what = f"Fine-tuned on reasoning traces from {model_words(model_facts(checkpoint.model))}."
        recipe = checkpoint.recipe.model_dump(mode="json")
        trained_on += _weighted(checkpoint)
    else:
        how = "from scratch"
        if isinstance(checkpoint, ContinuePretraining):
            how = f"further, from {model_words(model_facts(checkpoint.model))},"
        what = f"Trained {how} on text: a target of airlab's comparison of ways to select data."
        recipe = checkpoint.training.model_dump(mode="json")
        assert isinstance(checkpoint.mixture, BuildMixture)
        trained_on += f", mixture {code(checkpoint.mixture.spec.kind)}"
    values, seeds = _published(cell, results)
    return Training(
        cell.path,
        what,
        {
            "Cell": code(cell.path),
            "Trained on": trained_on,
            "Tokens": f"{notes['n_tokens']:,} in {notes['n_steps']:,} updates",
            "Parameters": f"{notes['n_parameters']:,}",
            "Seed": str(checkpoint.seed),
            "Recipe": code(json.dumps(recipe, sort_keys=True)),
            "Fingerprint": code(fingerprint(checkpoint)),
            "Commit": code((made["git"] or {}).get("commit", "unknown")),
            "Hardware": ", ".join([*made["gpus"], f"{made['cpu']} with {made['cores']} cores"]),
            "Time": f"{record.wall_s:,.0f} s",
            "Exported by": made_by,
        },
        values,
        seeds,
        "traces" if isinstance(checkpoint, FineTune) else "documents",
        _licences(store.find(source)),
        "airlab puts no licence of its own on the weights. Whether the licences of the texts, and of a model "
        "they began as, bind them is for whoever passes them on to decide.",
    )


def _weighted(checkpoint: FineTune) -> str:
    """By what the steps of traces are weighted, if they are."""
    assert isinstance(checkpoint.data, BuildTraining)
    weights = checkpoint.data.weights
    if weights is None:
        return ""
    assert isinstance(weights, WeighSteps)
    scores: Any = weights.scores  # a stage that scores steps
    told = json.dumps(weights.spec.model_dump(mode="json"))
    return f", their steps weighted by {code(scores.selector.kind)} ({code(told)})"


def _selector(selection: SelectUnits) -> str:
    return str(of_stage(selection)["selector"]["kind"])


def _licences(folder: Path | None) -> Counter[str]:
    """Documents or traces by licence; nothing where the store has them no more."""
    if folder is None:
        return Counter()
    found = pq.read_table(_table(folder), columns=["licence"])["licence"].to_pylist()
    return Counter(licence or "not said" for licence in found)


def _published(cell: Cell, results: Path) -> tuple[list[tuple[str, str]], str]:
    """The arm's values in its table, if that table was made from this very cell, and its seeds."""
    folder = results / cell.experiment / cell.scale
    if not (folder / LOCK).is_file() or not (folder / "estimates.json").is_file():
        return [], ""
    if read_lock(folder).cells.get(cell.name) != fingerprint(cell.evaluation):
        return [], ""
    found = json.loads((folder / "estimates.json").read_text(encoding="utf-8"))
    own = cell.name.partition("/")[0] in (cell.arm, "default")  # a table has the first settings' cells alone
    rows = [
        (
            f"{row['task']} {row['metric']} {'↑' if row['higher_is_better'] else '↓'}",
            Estimate(**row["value"]).text(),
        )
        for row in found["cells"]
        if own and row["variant"] == cell.arm and row["value"] is not None
    ]
    return rows, "seeds " + ", ".join(map(str, found["seeds"]))
