"""Everything that airlab makes, small: what the fault suite kills, fills disks under, and compares.

A pipeline is prepared once, and then run in one place after another: a folder that holds a store and the
outputs. The same pipeline leaves the same bytes in every place, whatever happened on the way.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli import experiment, explain, export, heads, score, select, weigh
from airlab.cli.bind import to_plain
from airlab.cli.main import configs_folder
from airlab.cli.outputs import open_store
from airlab.errors import UserError
from airlab.evaluation import client, worker
from airlab.schema.evaluation import BitsPerByte, Copying, TaskSpec
from airlab.schema.fine_tuning import FineTuning
from airlab.schema.machine import Machine
from airlab.schema.mixture import MixtureSpec
from airlab.schema.selection import Selecting
from airlab.schema.training import TargetModel, Training
from airlab.selection.selectors import make_selector
from airlab.stages.build_mixture import BuildMixture, TokenizeCorpus
from airlab.stages.build_tasks import BuildTasks
from airlab.stages.build_training import BuildTraining
from airlab.stages.evaluate import Evaluate
from airlab.stages.evaluate_masked import EvaluateMasked
from airlab.stages.fine_tune import FineTune
from airlab.stages.measure_losses import SCHEMA as LOSSES
from airlab.stages.pretrain import Pretrain
from airlab.stages.score_units import ScoreUnits
from airlab.stages.select_units import SelectUnits
from airlab.stages.train_tokenizer import TrainTokenizer
from airlab.store.files import Files
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.text.documents import Document, write_documents
from experiments.attention_influence import masking_check
from tests.faults.attempts import KEPT
from tests.unit.cli.conftest import documents, text, write_jsonl
from tests.unit.cli.model_folders import random_folder
from tests.unit.cli.test_cli_heads import prose
from tests.unit.evaluation.conftest import save_tiny_llama
from tests.unit.experiments.test_masking_check_experiment import fake_run
from tests.unit.training.made_training import MadeScores, training

Prepare = Callable[[Path], None]
Run = Callable[[Path], None]


@dataclass(frozen=True)
class Pipeline:
    """One thing that users wait for.

    Attributes:
        name: as `docs/faults.md` shows it.
        prepare: makes its inputs in the folder it is given; what it leaves in `place` there is what every
            place begins as.
        run: makes everything, in the current folder, from the prepared folder; the store is $AIRLAB_STORE.
    """

    name: str
    prepare: Prepare
    run: Run
    modules: tuple[str, ...] = ()
    """What is imported by processes that are not watched."""
    child_dies_after: Callable[[float], None] | None = None
    """Makes the process that it starts die so many seconds after it was started."""


@dataclass(frozen=True)
class SmallCorpus(Stage):
    """Two dozen short documents, and as many held out."""

    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        words = np.array(
            ["river", "stone", "music", "winter", "garden", "letter", "window", "silver", "bread", "north"]
        )
        for name, seed in (("documents", 0), ("heldout", 1)):
            draw = np.random.default_rng(seed)
            rows = [Document(f"{name}-{i}", "prose", " ".join(draw.choice(words, 60))) for i in range(24)]
            with work.writing(f"{name}.parquet") as path:
                write_documents(path, rows)


@dataclass(frozen=True)
class SmallLosses(Stage):
    """Losses of those documents, made up."""

    VERSION: ClassVar[int] = 1
    corpus: Stage

    def run(self, work: Workdir, machine: Machine) -> None:
        ids = pq.read_table(work.input(self.corpus) / "documents.parquet")["unit_id"].to_pylist()
        rows = [(u, u, "prose", 50, 100.0 + i, 120.0 + i * i, 90.0) for i, u in enumerate(ids)]
        with work.writing("losses.parquet") as path:
            pq.write_table(
                pa.table([pa.array(c) for c in zip(*rows, strict=True)], names=LOSSES.names).cast(LOSSES),
                path,
            )


TASKS = TaskSpec(
    tasks=(
        BitsPerByte(items=4, domains=("prose",), max_bytes=128, min_bytes=64),
        Copying(items=4, words=6),
    ),
    minimum_items=2,
)


def tokenizer() -> TrainTokenizer:
    """Of the small corpus."""
    return TrainTokenizer(SmallCorpus(), 300)


def selection() -> SelectUnits:
    """Some documents of the small corpus, by attention influence."""
    corpus = SmallCorpus()
    influence = make_selector({"kind": "attention_influence"})
    return SelectUnits(ScoreUnits(SmallLosses(corpus), corpus, influence, seed=0), Selecting())


def mixture() -> BuildMixture:
    """The small corpus with that selection repeated."""
    tokenized = TokenizeCorpus(SmallCorpus(), tokenizer())
    return BuildMixture(tokenized, selection(), MixtureSpec(), budget_tokens=2048, context=64, seed=0)


def pretrained() -> Pretrain:
    """A target of a few thousand weights, trained in eight updates."""
    model = TargetModel(
        vocabulary=300, hidden_size=16, layers=1, heads=2, kv_heads=1, intermediate_size=32, context=64,
        tie_embeddings=False,
    )  # fmt: skip
    recipe = Training(budget_tokens=2048, batch_sequences=4, learning_rate=1e-2, warmup_fraction=0.1)
    return Pretrain(mixture(), tokenizer(), model, recipe, seed=0)


def tuning_data(given: Path) -> BuildTraining:
    """Made traces, their steps weighted."""
    return training(given / "model", MadeScores(uniform=False))


def tuned(given: Path) -> FineTune:
    """A model of a few thousand weights fine-tuned on them."""
    recipe = FineTuning(epochs=1, batch_sequences=2, learning_rate=1e-3)
    return FineTune(Files.of(given / "model"), tuning_data(given), recipe, seed=0, teacher=None)


def evaluated(given: Path) -> Evaluate:
    """A random model through lm-evaluation-harness."""
    return Evaluate(Files.of(given / "model"), BuildTasks(SmallCorpus(), TASKS, seed=0), seed=0)


def make(*targets: Stage) -> None:
    """Make what is missing in the store that users would use."""
    # Without trackers: their files tell the time, so that no two runs leave the same.
    Plan(open_store(), targets).run(Machine(trackers=()))


def composed(verb: str, *overrides: str) -> Mapping[str, Any]:
    """What a command would be called with: composed once, which takes longer than some of them work."""
    name = " ".join((verb, *overrides))
    if name not in KEPT:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(configs_folder()), version_base="1.3"):
            KEPT[name] = to_plain(compose(verb, list(overrides)))
    return dict(KEPT[name])


def _detection_given(given: Path) -> None:
    random_folder(given / "model")
    prose(given / "prose.jsonl")


def _detect(given: Path) -> None:
    heads.run(
        composed(
            "heads", "model=local", f"model.path={given / 'model'}", "corpus=local",
            f"corpus.path={given / 'prose.jsonl'}", "probes.count=40", "probes.max_tokens=512",
            "probes.demonstrations=1", "probes.max_value_tokens=40", "output=heads.json",
        )
    )  # fmt: skip


def _documents_given(given: Path) -> None:
    random_folder(given / "model")
    (given / "heads.json").write_text("[[1, 2]]")
    rows = documents(270)  # two shards
    rows[3] |= {"text": "x"}
    rows[260] |= {"text": " "}
    write_jsonl(given / "docs.jsonl", rows)


def _score(given: Path, *more: str) -> None:
    model = ("model=local", f"model.path={given / 'model'}", f"heads={given / 'heads.json'}")
    score.run(composed("score", *model, *more))


def _score_documents(given: Path) -> None:
    _score(given, f"input.path={given / 'docs.jsonl'}", "output=scores.parquet")


def _traces_given(given: Path) -> None:
    random_folder(given / "model")
    (given / "heads.json").write_text("[[1, 2]]")
    rows = [{"prompt": text(n), "response": f"{text(n + 1)}\n\n{text(n + 2)}"} for n in range(260)]
    rows[7] |= {"response": "\n\n".join(text(n) for n in range(20))}
    write_jsonl(given / "traces.jsonl", rows)


def _score_steps(given: Path) -> None:
    _score(
        given, "unit=step", f"input.path={given / 'traces.jsonl'}", "rendering.template=plain",
        "scoring.window_tokens=256", "output=steps.parquet",
    )  # fmt: skip


def _scores_given(given: Path) -> None:
    draw = np.random.default_rng(0)
    losses = {name: draw.random(40) + 1 for name in ("loss_base", "loss_ref", "entropy")}
    measured = {**losses, "attention_influence": losses["loss_ref"] / losses["loss_base"] - 1}
    ids = [f"d{n}" for n in range(40)]
    table = {"id": ids, "domain": ["a", "b"] * 20, "n_tokens": draw.integers(5, 50, 40), **measured}
    document = pa.table(table).replace_schema_metadata({"airlab_unit": "document"})
    pq.write_table(document, given / "scores.parquet")
    traces = {"trace": [f"t{n // 4}" for n in range(40)], "step": [n % 4 for n in range(40)]}
    places = {"start": [n % 4 for n in range(40)], "end": [n % 4 + 1 for n in range(40)]}
    steps = pa.table({**table, **traces, **places}).replace_schema_metadata({"airlab_unit": "step"})
    pq.write_table(steps, given / "steps.parquet")


def _select_and_weigh(given: Path) -> None:
    select.run(composed("select", f"scores={given / 'scores.parquet'}", "output=selected.parquet"))
    weigh.run(composed("weigh", f"scores={given / 'steps.parquet'}", "output=weights.parquet"))


def _selection_given(given: Path) -> None:
    _scores_given(given)
    write_jsonl(given / "docs.jsonl", [{"id": f"d{n}", "text": text(n), "more": n} for n in range(40)])
    selected = f"output={given / 'selected.parquet'}"
    select.run(composed("select", f"scores={given / 'scores.parquet'}", selected))


def _export(given: Path) -> None:
    files = (f"input.path={given / 'docs.jsonl'}", f"selected={given / 'selected.parquet'}")
    for output, more in (("out.parquet", ()), ("out.jsonl.zst", ()), ("out", ("format=torchtitan",))):
        try:
            export.run(composed("export", *files, f"output={output}", *more))
        except UserError as refused:  # what is there already is not written again
            if "already exists" not in str(refused):
                raise


def _explain(given: Path) -> None:
    model = ("model=local", f"model.path={given / 'model'}", f"heads={given / 'heads.json'}")
    documents = (f"input.path={given / 'docs.jsonl'}", "id=[d001,d005]")
    explain.run(composed("explain", *model, *documents, "output=page.html"))


def _nothing_given(_: Path) -> None:
    pass


def _in_place(given: Path, *targets: Stage) -> None:
    from airlab.store.store import Store

    Plan(Store(given / "place" / "store"), targets).run(Machine(trackers=()))


def _checkpoint_after_every_update() -> None:
    from airlab.training import loop

    loop.CHECKPOINT_EVERY_S, loop.CHECKPOINT_SHARE = 0.0, 1e9


def _pretrain(_: Path) -> None:
    _checkpoint_after_every_update()
    make(pretrained())


def _tuning_given(given: Path) -> None:
    random_folder(given / "model", context=128)
    _in_place(given, tuning_data(given))


def _tune(given: Path) -> None:
    _checkpoint_after_every_update()
    make(tuned(given))


def _evaluation_given(given: Path) -> None:
    save_tiny_llama(given / "model")
    _in_place(given, BuildTasks(SmallCorpus(), TASKS, seed=0))


class ForkedWorker:
    """What `subprocess.Popen` gives, of a forked evaluation process: lm-eval takes seconds to import."""

    dies_after_s = 0.0

    def __init__(self, _: Any, *, stderr: Any, env: Mapping[str, str], **__: Any) -> None:
        (request, requests), (replies, reply) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            for number, descriptor in enumerate((request, reply, stderr.fileno())):
                os.dup2(descriptor, number)
            os.closerange(3, 1 << 10)
            sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
            os.environ.update(env)
            signal.setitimer(signal.ITIMER_REAL, self.dies_after_s)
            worker.main()
        os.close(request)
        os.close(reply)
        self.stdin, self.stdout = os.fdopen(requests, "w"), os.fdopen(replies)
        self.code: int | None = None

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self) -> int:
        """The exit code, when there is one."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def kill(self) -> None:
        """As the system does it."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _worker_dies_after(seconds: float) -> None:
    ForkedWorker.dies_after_s = seconds


def _evaluate(given: Path) -> None:
    pipe = SimpleNamespace(Popen=ForkedWorker, PIPE=subprocess.PIPE)
    client.subprocess = pipe  # type: ignore[attr-defined]
    make(evaluated(given))


def _table_config() -> Mapping[str, Any]:
    return composed("run", "experiment=attention_influence/masking_check", "scale=smoke", "results=tables")


def _evaluations_made_up() -> None:
    evaluations: Any = EvaluateMasked
    evaluations.run, evaluations.inputs = fake_run, lambda _: ()


def _table_given(given: Path) -> None:
    """Finished evaluations, and the table of an earlier time, to be replaced."""
    _evaluations_made_up()
    _, bound, _ = experiment.open_plain(_table_config())
    _in_place(given, *masking_check.targets(bound).values())
    old = given / "place" / "tables" / bound.name / bound.scale
    old.mkdir(parents=True)
    for name in ("masking.md", "masking.csv", "lock.json", "selections.json"):
        (old / name).write_text(json.dumps("of an earlier time"))


def _tabulate(_: Path) -> None:
    _evaluations_made_up()
    experiment.table(_table_config())


PIPELINES = {
    pipeline.name: pipeline
    for pipeline in (
        Pipeline("detection", _detection_given, _detect),
        Pipeline("scoring documents", _documents_given, _score_documents),
        Pipeline("scoring steps", _traces_given, _score_steps),
        Pipeline("selection", _scores_given, _select_and_weigh),
        Pipeline(
            "mixture building", _nothing_given, lambda _: make(mixture(), BuildTasks(SmallCorpus(), TASKS, 0))
        ),
        Pipeline("pretraining", lambda given: _in_place(given, mixture()), _pretrain),
        Pipeline("fine-tuning", _tuning_given, _tune),
        Pipeline(
            "evaluation",
            _evaluation_given,
            _evaluate,
            modules=("airlab.evaluation.harness",),
            child_dies_after=_worker_dies_after,
        ),
        Pipeline("tabulation", _table_given, _tabulate),
        Pipeline("exporting", _selection_given, _export),
        Pipeline("explaining", _documents_given, _explain),
    )
}


def begin(pipeline_folder: Path, place: Path) -> None:
    """A place as every one begins: what was prepared, or nothing."""
    prepared = pipeline_folder / "place"
    if prepared.is_dir():
        shutil.copytree(prepared, place, dirs_exist_ok=True)
    else:
        place.mkdir(parents=True, exist_ok=True)
