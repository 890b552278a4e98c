"""Parquet files to memory-mapped ids: airlab against `datasets.map` with the same tokenizer, and memory.

    python benchmarks/tokenizing.py --tokenizer FOLDER --documents documents.parquet
    python benchmarks/tokenizing.py --tokenizer FOLDER --documents documents.parquet --sections rate
    python benchmarks/tokenizing.py --sections                # measure nothing, make the table anew

`rate`: the same files by one and two processes of one thread each, every run in a process of its own, in
turn; medians count. Both must give the same ids. The clock starts when the libraries are loaded and stops
when the ids lie on the disk. Tokens a second of processor time tell what a core does, however busy it is.
What starting takes is part of it, and is a fifth of the time here: `memory` tells the rate of a long run.
`memory`: the peak of the largest process while the input grows twentyfold.
Results go to `results/tokenizing-cpu.json` (facts, hardware, versions) and `.md` (tables).
"""

import argparse
import hashlib
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from airlab.progress import announce
from airlab.randomness import generator
from airlab.schema.machine import Machine
from airlab.schema.text import Columns
from airlab.selection.mixture import TOKENIZED
from airlab.stages.tokenize_shards import BYTES_PER_SHARD, TokenizeShards
from airlab.store.files import Files
from airlab.store.provenance import provenance
from airlab.store.store import Store
from scorebench.report import table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
NAME = "tokenizing-cpu"
COLUMNS = Columns(text="text", id="id")
MIB = 1 << 20
ROWS_PER_GROUP = 1000
"""As hubs' own tools write them."""
SMALL_SHARD = 4 * MIB
_WATCH_S = 0.1
GROWTH = 20


def write_input(documents: Path, folder: Path, size: int, files: int) -> None:
    """`size` bytes of the documents' text in that many Parquet files.

    Where it runs out of documents it goes through them again, the lines of each in another order.
    """
    folder.mkdir(parents=True)
    texts = pq.read_table(documents, columns=["text"])["text"].to_pylist()
    number = written = 0
    for file in range(files):
        rows: list[dict[str, str]] = []
        while written < size * (file + 1) // files:
            lap, which = divmod(number, len(texts))
            lines = texts[which].splitlines(keepends=True)
            order = generator(0, f"lines {number}").permutation(len(lines)) if lap else range(len(lines))
            rows.append({"id": f"doc-{number}", "text": "".join(lines[k] for k in order)})
            written += len(rows[-1]["text"].encode())
            number += 1
        name = f"train-{file:05d}-of-{files:05d}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), folder / name, row_group_size=ROWS_PER_GROUP)


def by_airlab(
    data: Path, tokenizer: Path, out: Path, processes: int, shard: int
) -> Callable[[], dict[str, Any]]:
    """What `airlab tokenize` runs."""
    from airlab.training.tokenizer import DocumentEncoder

    assert DocumentEncoder  # its libraries are loaded before the clock starts
    stage = TokenizeShards(Files.of(data), COLUMNS, Files.of(tokenizer), shard)

    def run() -> dict[str, Any]:
        folder = Store(out).make(stage, Machine(processes=processes))
        facts = json.loads((folder / TOKENIZED).read_text())
        return {
            "tokens": facts["n_tokens"],
            "ids": lambda: _digest([folder / name for name in facts["files"]]),
        }

    return run


def by_datasets(
    data: Path, tokenizer: Path, out: Path, processes: int, shard: int
) -> Callable[[], dict[str, Any]]:
    """What one writes with `datasets`: a batched map, which leaves a memory-mapped Arrow file."""
    from datasets import load_dataset
    from transformers import AutoTokenizer

    def run() -> dict[str, Any]:
        fast = AutoTokenizer.from_pretrained(tokenizer)

        def encode(batch: dict[str, list[str]]) -> dict[str, Any]:
            found = fast(batch["text"], add_special_tokens=False, return_attention_mask=False)
            return {"input_ids": found["input_ids"]}

        rows = load_dataset("parquet", data_files=str(data / "*.parquet"), split="train", cache_dir=str(out))
        workers = processes if processes > 1 else None
        rows = rows.map(encode, batched=True, remove_columns=["text", "id"], num_proc=workers)
        ids = rows.with_format("arrow")

        def digest() -> str:
            told = hashlib.sha256()
            for batch in ids.iter(ROWS_PER_GROUP):
                flat = batch["input_ids"].combine_chunks().flatten()
                told.update(np.asarray(flat).astype("<u2").tobytes())
            return told.hexdigest()

        lengths = (len(batch["input_ids"].combine_chunks().flatten()) for batch in ids.iter(ROWS_PER_GROUP))
        return {"tokens": sum(lengths), "ids": digest}

    return run


CONTENDERS = {"airlab": by_airlab, "datasets.map": by_datasets}


def _digest(files: list[Path]) -> str:
    told = hashlib.sha256()
    for path in files:
        told.update(path.read_bytes())
    return told.hexdigest()


def child(name: str, data: Path, tokenizer: Path, out: Path, processes: int, shard: int) -> None:
    """One run in this process; prints its facts."""
    run = CONTENDERS[name](data, tokenizer, out, processes, shard)
    before, start = _cpu_s(), time.perf_counter()
    with _watched_children() as largest:
        found = run()
    wall_s, cpu_s = time.perf_counter() - start, _cpu_s() - before
    facts = {"tokens": found["tokens"], "ids_sha256": found["ids"](), "wall_s": wall_s, "cpu_s": cpu_s}
    print(json.dumps(facts | {"own_mib": _peak_mib("self"), "largest_child_mib": max(largest, default=0.0)}))


@contextmanager
def _watched_children() -> Iterator[list[float]]:
    """The peaks of all processes that are started inside the block.

    Asked of each while it lives: what the system tells of one that ended counts what it shared with its
    parent before it became another program.
    """
    peaks: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_WATCH_S):
            for process in psutil.Process().children(recursive=True):
                with suppress(OSError, ValueError, psutil.Error):
                    if process.cmdline() != psutil.Process().cmdline():
                        peaks[:] = [max([*peaks, _peak_mib(str(process.pid))])]

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def _peak_mib(process: str) -> float:
    """The most memory that a process ever had."""
    status = Path("/proc", process, "status").read_text()
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(peak) / 1024


def _cpu_s() -> float:
    """Processor time of this process and of those that it started and that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measured(name: str, data: Path, tokenizer: Path, processes: int, shard: int) -> dict[str, Any]:
    """One run in a process of its own, with one thread a process."""
    with tempfile.TemporaryDirectory(prefix="airlab-bench-") as out:
        command = [sys.executable, str(Path(__file__).resolve()), "--child", name, "--data", str(data)]
        command += ["--tokenizer", str(tokenizer), "--out", out]
        command += ["--processes", str(processes), "--shard", str(shard)]
        one = {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        environment = {
            **os.environ,
            "PYTHONPATH": str(HERE.parent),
            **one,
            "TOKENIZERS_PARALLELISM": "true",
            "HF_HUB_OFFLINE": "1",
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr}")
        facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return facts


def rate(documents: Path, tokenizer: Path, size: int, repeats: int, scratch: Path) -> dict[str, Any]:
    """Both contenders with one and two processes, in turn."""
    data = scratch / "rate"
    write_input(documents, data, size, files=4)
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(repeats):
        for processes in (1, 2):
            for name in CONTENDERS:
                found = measured(name, data, tokenizer, processes, SMALL_SHARD)
                runs.setdefault(f"{name}, {processes}", []).append(found)
                announce(
                    f"{name}, {processes}: {found['wall_s']:.0f} s, {found['cpu_s']:.0f} s of processors"
                )
    ids = {run["ids_sha256"] for row in runs.values() for run in row}
    if len(ids) != 1:
        raise SystemExit("the contenders do not give the same ids: nothing is compared.")
    rows = {name: _row(row, int(name.rpartition(" ")[2])) for name, row in runs.items()}
    ratios = {
        str(n): {
            over: statistics.median(
                theirs[over] / ours[over]
                for ours, theirs in zip(runs[f"airlab, {n}"], runs[f"datasets.map, {n}"], strict=True)
            )
            for over in ("wall_s", "cpu_s")
        }
        for n in (1, 2)
    }
    two = statistics.median(
        one["wall_s"] / both["wall_s"] for one, both in zip(runs["airlab, 1"], runs["airlab, 2"], strict=True)
    )
    return {
        "text_mib": size / MIB,
        "tokens": next(iter(runs.values()))[0]["tokens"],
        "shard_mib": SMALL_SHARD / MIB,
        "repeats": repeats,
        "rows": rows,
        "times_faster": ratios,
        "two_processes_over_one": two,
    }


def _row(runs: list[dict[str, Any]], processes: int) -> dict[str, Any]:
    def median(of: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(map(of, runs))

    return {
        "processes": processes,
        "tokens_per_wall_s": median(lambda run: run["tokens"] / run["wall_s"]),
        "tokens_per_core_s": median(lambda run: run["tokens"] / run["cpu_s"]),
        "peak_mib": median(lambda run: max(run["own_mib"], run["largest_child_mib"])),
        "runs": [{key: value for key, value in run.items() if key != "ids_sha256"} for run in runs],
    }


def memory(documents: Path, tokenizer: Path, size: int, repeats: int, scratch: Path) -> dict[str, Any]:
    """airlab's peaks with `size` bytes, and with twenty times as many in small and in usual shards."""
    rows = []
    for times, shard in ((1, SMALL_SHARD), (GROWTH, SMALL_SHARD), (GROWTH, BYTES_PER_SHARD)):
        data = scratch / f"memory-{times}"
        if not data.exists():
            write_input(documents, data, size * times, files=2)
        found = measured("airlab", data, tokenizer, 2, shard)
        largest = max(path.stat().st_size for path in data.iterdir())
        rows.append(
            {
                "text_mib": size * times / MIB,
                "shard_mib": shard / MIB,
                "tokens": found["tokens"],
                "tokens_per_core_s": found["tokens"] / found["cpu_s"],
                "tokens_per_wall_s": found["tokens"] / found["wall_s"],
                "worker_mib": found["largest_child_mib"],
                "starter_mib": found["own_mib"],
                "largest_file_mib": largest / MIB,
            }
        )
        announce(f"{rows[-1]}")
    return {"growth": GROWTH, "rows": rows}


SECTIONS: Mapping[str, Callable[..., dict[str, Any]]] = {"rate": rate, "memory": memory}
MIB_OF = {"rate": 16, "memory": 10}
"""Text of a section; the growth comes on top."""


def render(results: Mapping[str, Any]) -> str:
    """The tables, with the hardware and the versions."""
    parts = ["# Tokenizing, CPU", ""]
    for name, section in results["sections"].items():
        facts, made = section["facts"], section["provenance"]
        packages = ", ".join(f"{p} {made['packages'][p]}" for p in ("tokenizers", "datasets", "pyarrow"))
        parts += [f"## {name}", "", f"{made['cpu']}, {made['cores']} cores; {packages}.", ""]
        if section["note"]:
            parts += [section["note"], ""]
        parts += [{"rate": _rate_table, "memory": _memory_table}[name](facts), ""]
    return "\n".join(parts).rstrip() + "\n"


def _rate_table(facts: Mapping[str, Any]) -> str:
    head = ["processes of one thread", "tokens/s of a core", "tokens/s", "peak of the largest process"]
    rows = [
        [
            name,
            f"{row['tokens_per_core_s']:,.0f}",
            f"{row['tokens_per_wall_s']:,.0f}",
            f"{row['peak_mib']:,.0f} MiB",
        ]
        for name, row in facts["rows"].items()
    ]
    told = [
        f"with {n}: {row['cpu_s']:.2f} × the tokens of a core's second, {row['wall_s']:.2f} × by the clock"
        for n, row in facts["times_faster"].items()
    ]
    return "\n".join(
        [
            f"{facts['text_mib']:.0f} MiB of text, {facts['tokens']:,} tokens; "
            f"medians of {facts['repeats']} runs.",
            "",
            table(head, rows),
            "",
            f"airlab against `datasets.map`, run by run: {'; '.join(told)}. Two processes of airlab are "
            f"{facts['two_processes_over_one']:.2f} × as fast as one by the clock.",
        ]
    )


def _memory_table(facts: Mapping[str, Any]) -> str:
    head = ["text", "shards of", "tokens", "tokens/s of a core", "largest worker", "process that starts them"]
    rows = [
        [
            f"{row['text_mib']:,.0f} MiB",
            f"{row['shard_mib']:,.0f} MiB",
            f"{row['tokens']:,}",
            f"{row['tokens_per_core_s']:,.0f}",
            f"{row['worker_mib']:,.0f} MiB",
            f"{row['starter_mib']:,.0f} MiB",
        ]
        for row in facts["rows"]
    ]
    return f"Two processes of one thread each.\n\n{table(head, rows)}"


def main(argv: list[str] | None = None) -> None:
    """Measure, save, and make the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokenizer", type=Path, help="a folder with a tokenizer of at most 65,536 tokens")
    parser.add_argument("--documents", type=Path, help="documents.parquet with real text in a column text")
    parser.add_argument("--sections", nargs="*", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--mib", type=int, help="text of each section before it grows")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--note", default="", help="what else the machine was doing, for the record")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--child", choices=CONTENDERS, help=argparse.SUPPRESS)
    for name in ("--data", "--out"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    for name in ("--processes", "--shard"):
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.child:
        child(given.child, given.data, given.tokenizer, given.out, given.processes, given.shard)
        return
    if given.sections and not (given.tokenizer and given.documents):
        parser.error("--tokenizer and --documents are needed to measure")
    path = given.output / f"{NAME}.json"
    results = json.loads(path.read_text()) if path.exists() else {"sections": {}}
    for name in given.sections:
        with tempfile.TemporaryDirectory(prefix="airlab-bench-") as scratch:
            size = (given.mib or MIB_OF[name]) * MIB
            facts = SECTIONS[name](given.documents, given.tokenizer, size, given.repeats, Path(scratch))
        results["sections"][name] = {"facts": facts, "note": given.note, "provenance": provenance()}
        path.write_text(json.dumps(results, indent=1) + "\n")
    path.with_suffix(".md").write_text(render(results))
    print(render(results))


if __name__ == "__main__":
    main()
