"""Pretraining: airlab's loop against transformers' own Trainer, and two GPUs against one.

    python benchmarks/training.py                   # one GPU: both sizes, the Trainer beside them
    python benchmarks/training.py --sections two-gpus
    python benchmarks/training.py --sections 135m 31m # other sizes that experiments train, for plans
    python benchmarks/training.py --rehearse        # tiny models on the CPU: does everything run?

Every contender trains in a process of its own, and the median of its updates counts, after those that
compile and warm up. Documents have log-normal lengths (mean about 770 tokens), packed into sequences; the
Trainer gets sequences without documents, because a mask makes it slower. Results go to
`results/training-<gpu>.json` (facts, hardware, versions) and `.md` (tables); sections measured earlier stay.

MFU is PaLM's (Chowdhery et al. 2022, appendix B): a token takes 6 N + 12 L h n operations, with N parameters
(tied embeddings once), L layers, hidden size h and n tokens of context; the peak is the data sheet's. It
counts attention to all n positions; `causal` counts half of them, as `airlab plan` does, and `done` those
that a document's tokens really see.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from airlab.progress import announce
from airlab.schema.machine import Machine
from airlab.schema.training import TargetModel, Training
from airlab.selection.mixture import Mixture
from airlab.store.provenance import provenance
from airlab.training.packing import PackedSequences
from airlab.training.pretrain import Job, with_loss
from airlab.training.run import run_to_the_end
from airlab.training.target import SummedLoss, build_target
from scorebench.clock import device_name
from scorebench.report import table

RESULTS = Path(__file__).resolve().parent / "results"
PEAK_TFLOPS = {"h100": 989.4, "h200": 989.4}
"""Dense bfloat16 matrix products, by the data sheet."""

SHAPES = {
    "124m": TargetModel(vocabulary=49152, hidden_size=768, layers=12, heads=12, kv_heads=12,
                        intermediate_size=2048, context=2048, tie_embeddings=True),
    "360m": TargetModel(vocabulary=49152, hidden_size=960, layers=32, heads=15, kv_heads=5,
                        intermediate_size=2560, context=2048, tie_embeddings=True),
    "135m": TargetModel(vocabulary=49152, hidden_size=576, layers=30, heads=9, kv_heads=3,
                        intermediate_size=1536, context=1024, tie_embeddings=True),
    "31m": TargetModel(vocabulary=8192, hidden_size=512, layers=9, heads=8, kv_heads=4,
                       intermediate_size=1408, context=1024, tie_embeddings=True),
    "30m": TargetModel(vocabulary=256, hidden_size=512, layers=8, heads=8, kv_heads=8,
                       intermediate_size=1536, context=1024, tie_embeddings=True),
    "tiny": TargetModel(vocabulary=256, hidden_size=32, layers=2, heads=2, kv_heads=1,
                        intermediate_size=64, context=64, tie_embeddings=True),
}  # fmt: skip


@dataclass(frozen=True)
class Contender:
    """One training run that is timed."""

    title: str
    shape: str
    engine: Literal["airlab", "library", "trainer"]
    """`library` is airlab's loop around transformers' own forward pass."""
    micro_batch: int
    batch: int
    """Sequences of an update."""
    updates: int
    warm_up: int
    device: str = "cuda"
    processes: int = 1
    stage: int | None = None
    offload: Literal["none", "optimizer"] = "none"
    recompute: bool = False
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    text: Literal["drawn", "whole", "files"] = "drawn"
    """Random tokens in documents, in whole sequences, or the bytes of Python's own standard library."""
    learning_rate: float = 3e-4


def sections(*, rehearsal: bool) -> dict[str, list[Contender]]:
    """What is run, by the name under which it is saved."""
    small = Contender("airlab", "124m", "airlab", 32, 128, updates=26, warm_up=6)
    large = Contender("airlab", "360m", "airlab", 16, 128, updates=10, warm_up=3)
    text = Contender("", "30m", "airlab", 16, 16, updates=300, warm_up=5, text="files", learning_rate=5e-4)
    if rehearsal:
        small = large = replace(
            small, shape="tiny", engine="library", micro_batch=2, batch=4, updates=4, warm_up=2, device="cpu"
        )
        text = replace(text, shape="tiny", engine="library", micro_batch=2, batch=4, updates=12, device="cpu")
    two = replace(small, processes=2)
    short = replace(small, updates=small.updates // 2, warm_up=small.warm_up // 2)
    return {
        "124m": [
            small,
            replace(small, title="airlab, documents as long as the context", text="whole"),
            replace(
                small,
                title="transformers' Trainer, compiled",
                engine="trainer",
                micro_batch=small.micro_batch // 2,
            ),
        ],
        "360m": [
            large,
            replace(
                large,
                title="transformers' Trainer, compiled",
                engine="trainer",
                micro_batch=large.micro_batch // 2,
            ),
        ],
        "135m": [replace(small, shape=small.shape if rehearsal else "135m")],
        "31m": [replace(small, shape=small.shape if rehearsal else "31m")],
        "two-gpus": [
            replace(small, title="one GPU"),
            replace(two, title="two GPUs, plain data parallelism"),
            replace(two, title="two GPUs, DeepSpeed ZeRO 2", stage=2),
        ],
        "memory": [
            replace(short, title="one GPU"),
            replace(short, title="one GPU, layers recomputed", recompute=True),
            replace(
                short,
                title="two GPUs, ZeRO 2, optimizer on the host",
                processes=2,
                stage=2,
                offload="optimizer",
            ),
            replace(
                short,
                title="two GPUs, ZeRO 3, the library's forward pass",
                engine="library",
                micro_batch=small.micro_batch // 2,
                processes=2,
                stage=3,
            ),
        ],
        "fidelity": [
            replace(text, title="airlab, bfloat16"),
            replace(text, title="library, bfloat16 (autocast)", engine="library"),
            replace(text, title="library, float32", engine="library", precision="float32"),
        ],
    }


def documents(contender: Contender, n_tokens: int) -> tuple[np.ndarray, list[int]]:
    """A stream of at least `n_tokens` tokens, and where its documents begin."""
    shape, draw = SHAPES[contender.shape], np.random.default_rng(0)
    assert isinstance(shape.vocabulary, int)
    tokens: list[np.ndarray] = []
    starts: list[int] = []
    if contender.text == "files":
        folder = Path(sysconfig.get_paths()["stdlib"])
        paths = sorted(
            path
            for path in folder.rglob("*.py")
            if not {"site-packages", "dist-packages", "test", "tests"} & set(path.relative_to(folder).parts)
        )
        for path in draw.permutation(np.array(paths)).tolist():
            starts.append(sum(map(len, tokens)))
            tokens.append(np.frombuffer(b"\0" + path.read_bytes(), dtype=np.uint8).astype("<u2"))
            if starts[-1] > n_tokens:
                break
    total = sum(map(len, tokens))
    while total < n_tokens:
        mean = math.log(500)
        length = shape.context if contender.text == "whole" else round(draw.lognormal(mean, 0.95))
        starts.append(total)
        tokens.append(draw.integers(0, shape.vocabulary, max(1, length)).astype("<u2"))
        total += len(tokens[-1])
    return np.concatenate(tokens), starts


def write_mixture(folder: Path, contender: Contender) -> None:
    """The contender's tokens as `Mixture.open` reads them."""
    context = SHAPES[contender.shape].context
    tokens, starts = documents(contender, contender.updates * contender.batch * context + 1)
    tokens.tofile(folder / "tokens.bin")
    np.save(folder / "starts.npy", np.array(starts, dtype="<i8"))
    facts = {"n_tokens": len(tokens), "dtype": "<u2", "context": context, "sha256": "0" * 64}
    (folder / "mixture.json").write_text(json.dumps(facts))


def work(folder: Path) -> None:
    """What each process of a contender runs; the first one leaves `measured.json`."""
    contender = Contender(**json.loads((folder / "contender.json").read_text()))
    marks: list[float] = []

    def mark(n_done: int) -> None:
        if contender.device == "cuda" and n_done in (contender.warm_up, contender.updates):
            torch.cuda.synchronize()
        marks.append(time.perf_counter())

    losses = _train_ours(contender, folder, mark) if contender.engine != "trainer" else []
    if contender.engine == "trainer":
        _train_theirs(contender, folder, mark)
    if int(os.environ.get("RANK", "0")) == 0:
        timed = marks[contender.warm_up :]
        found = {
            "seconds_per_update": (timed[-1] - timed[0]) / (len(timed) - 1),
            "median_s": statistics.median(np.diff(timed).tolist()),
            "first_s": marks[1] - marks[0],
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if contender.device == "cuda" else None,
            "losses": losses,
        }
        (folder / "measured.json").write_text(json.dumps(found))


def _train_ours(contender: Contender, folder: Path, mark: Any) -> list[float]:
    shape = SHAPES[contender.shape]
    assert isinstance(shape.vocabulary, int)
    training = Training(
        budget_tokens=contender.updates * contender.batch * shape.context,
        batch_sequences=contender.batch,
        learning_rate=contender.learning_rate,
        warmup_fraction=0.05,
        precision=contender.precision,
    )
    machine = Machine.model_validate(
        {
            "device": contender.device,
            "processes": contender.processes,
            "deepspeed_stage": contender.stage,
            "offload": contender.offload,
            "recompute": contender.recompute,
            "sequences_per_micro_batch": contender.micro_batch,
            "trackers": [],
        }
    )
    job = Job(
        mixture=folder,
        tokenizer=folder,
        output=folder,
        model=shape,
        training=training,
        seed=0,
        machine=machine,
    )
    mixture = Mixture.open(folder)
    target = build_target(shape, shape.vocabulary, 0, seed=0)
    module: torch.nn.Module
    if contender.engine == "library":
        module, packed = SummedLoss(target), PackedSequences(mixture)
    else:
        module, packed = with_loss(target, mixture, job)
    run_to_the_end(
        module=module,
        packed=packed,
        training=training,
        machine=machine,
        output=folder,
        identity={},
        tracking=None,
        checkpoint_every_s=1e9,
        label=contender.title,
        export=lambda _engine: None,
        after_updates=lambda _engine, n_done: mark(n_done),
    )
    return [json.loads(line)["loss"] for line in (folder / "curves.jsonl").read_text().splitlines()]


def _train_theirs(contender: Contender, folder: Path, mark: Any) -> None:
    """transformers' Trainer as its documentation sets it up for speed."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    shape = SHAPES[contender.shape]
    assert isinstance(shape.vocabulary, int)
    target = build_target(shape, shape.vocabulary, 0, seed=0)
    target.config.use_cache = False
    tokens = np.fromfile(folder / "tokens.bin", dtype="<u2")
    rows = tokens[: len(tokens) // shape.context * shape.context].reshape(-1, shape.context).astype(np.int64)

    class Marks(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            mark(0)

        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            mark(state.global_step)

    on_gpu = contender.device == "cuda"
    Trainer(
        model=target,
        args=TrainingArguments(
            output_dir=str(folder / "trainer"),
            per_device_train_batch_size=contender.micro_batch,
            gradient_accumulation_steps=contender.batch // contender.micro_batch,
            max_steps=contender.updates,
            learning_rate=contender.learning_rate,
            bf16=on_gpu,
            use_cpu=not on_gpu,
            torch_compile=on_gpu,
            optim="adamw_torch_fused",
            dataloader_num_workers=2 if on_gpu else 0,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=[{"input_ids": row, "labels": row} for row in map(torch.from_numpy, rows)],
        callbacks=[Marks()],
    ).train()


def run(contender: Contender) -> dict[str, Any]:
    """The contender's facts, from a process of its own, or several."""
    with tempfile.TemporaryDirectory(prefix="airlab-bench-") as scratch:
        folder = Path(scratch)
        (folder / "contender.json").write_text(json.dumps(asdict(contender)))
        write_mixture(folder, contender)
        started = [sys.executable]
        if contender.processes > 1 or contender.stage is not None:
            started += ["-m", "torch.distributed.run", "--standalone"]
            started += ["--nproc-per-node", str(contender.processes)]
        command = [*started, str(Path(__file__).resolve()), "--work", str(folder)]
        environment = os.environ | {"OMP_NUM_THREADS": "4"}
        if contender.device == "cpu":
            environment |= {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            announce(f"{contender.title} failed: {ended.stderr[-3000:]}")
            return {"contender": asdict(contender), "failed": ended.stderr.strip().splitlines()[-1]}
        found = json.loads((folder / "measured.json").read_text())
        starts = np.load(folder / "starts.npy")
        context = SHAPES[contender.shape].context
        if contender.engine == "trainer":  # sees no documents
            starts = starts[:0]
        visible = _visible(starts, contender.updates * contender.batch, context)
    return {
        "contender": asdict(contender),
        "visible": visible,
        **found,
        **_derived(contender, visible, found),
    }


def _visible(starts: np.ndarray, sequences: int, context: int) -> float:
    """Positions that a token sees on average, itself included; documents and sequences end its sight."""
    borders = np.union1d(starts, np.arange(0, sequences * context + 1, context))
    lengths = np.diff(borders[borders <= sequences * context]).astype(float)
    return float((lengths * (lengths + 1) / 2).sum() / lengths.sum())


def _derived(contender: Contender, visible: float, found: dict[str, Any]) -> dict[str, Any]:
    shape = SHAPES[contender.shape]
    assert isinstance(shape.vocabulary, int)
    rate = contender.batch * shape.context / found["seconds_per_update"]
    seen = {"palm": shape.context, "causal": (shape.context + 1) / 2, "done": visible}
    weights = 6.0 * shape.n_parameters(shape.vocabulary)
    return {
        "tokens_per_second": rate,
        "flops_per_token": {
            name: weights + 12.0 * shape.layers * shape.hidden_size * positions
            for name, positions in seen.items()
        },
    }


def render(results: dict[str, Any]) -> str:
    """All sections as Markdown."""
    peak = PEAK_TFLOPS.get(results["device"])
    parts = [f"# Training on {results['device']}\n"]
    for name, section in results["sections"].items():
        where = section["provenance"]
        versions = (f"{package} {where['packages'][package]}" for package in ("torch", "transformers"))
        hardware = ", ".join([*(where["gpus"] or [where["cpu"]]), *versions])
        done = [row for row in section["rows"] if "failed" not in row]
        if not done:
            continue
        rows = [_row(row, done[0], peak) for row in done]
        head = ["", "tokens/s", "rate next to the first", "MFU", "causal", "done", "peak GiB"]
        if name == "fidelity":
            head, rows = ["", "last 100 losses, mean", "next to the last"], _fidelity(done)
        shape = SHAPES[section["rows"][0]["contender"]["shape"]]
        parts += [f"## {name}, context {shape.context:,}\n\n{table(head, rows)}\n\n{hardware}.\n"]
        parts += [
            f"{row['contender']['title']}, did not run: {row['failed']}.\n"
            for row in section["rows"]
            if "failed" in row
        ]
    return "\n".join(parts)


def _row(row: dict[str, Any], first: dict[str, Any], peak: float | None) -> list[str]:
    rate, processes = row["tokens_per_second"], row["contender"]["processes"]
    shares = [
        "–" if peak is None else f"{rate * flops / processes / peak / 1e12:.1%}"
        for flops in row["flops_per_token"].values()
    ]
    memory = "–" if row["peak_gib"] is None else f"{row['peak_gib']:.1f}"
    return [
        row["contender"]["title"],
        f"{rate:,.0f}",
        f"{rate / first['tokens_per_second']:.2f} ×",
        *shares,
        memory,
    ]


def _fidelity(rows: list[dict[str, Any]]) -> list[list[str]]:
    last = [statistics.fmean(row["losses"][-100:]) for row in rows]
    return [
        [row["contender"]["title"], f"{mean:.4f}", f"{mean - last[-1]:+.4f}"]
        for row, mean in zip(rows, last, strict=True)
    ]


def main(argv: list[str] | None = None) -> None:
    """Measure, save after every section, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sections", nargs="*", default=["124m", "360m", "fidelity"], help="none: make the tables anew"
    )
    parser.add_argument("--output", type=Path, help="folder of the results; default: beside this file")
    parser.add_argument("--rehearse", action="store_true", help="tiny models; keeps nothing without --output")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.work:
        work(given.work)
        return
    if not given.sections:
        for path in (given.output or RESULTS).glob("training-*.json"):
            path.with_suffix(".md").write_text(render(json.loads(path.read_text())))
        return
    known = sections(rehearsal=given.rehearse)
    if unknown := set(given.sections) - set(known):
        parser.error(f"there is no section {sorted(unknown)}; there are {', '.join(known)}")
    with tempfile.TemporaryDirectory() if given.rehearse and not given.output else nullcontext() as scratch:
        folder = given.output or Path(scratch or RESULTS)
        name = "rehearsal" if given.rehearse else device_name("cuda")
        path = folder / f"training-{name}.json"
        results: dict[str, Any] = {"device": name, "sections": {}}
        if path.exists():
            results = json.loads(path.read_text())
        for section in given.sections:
            announce(f"{section} started")
            rows = [run(contender) for contender in known[section]]
            results["sections"][section] = {"rows": rows, "provenance": provenance()}
            path.write_text(json.dumps(results, indent=1) + "\n")
            path.with_suffix(".md").write_text(render(results))
        print(render(results))


if __name__ == "__main__":
    main()
