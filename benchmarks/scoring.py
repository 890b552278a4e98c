"""Base and reference losses: airlab against ordinary transformers, and against the hardware's limits.

    python benchmarks/scoring.py                              # two CPU cores, in minutes
    python benchmarks/scoring.py --device cuda --model FOLDER --heads heads.json --documents documents.parquet
    python benchmarks/scoring.py --rehearse                   # tiny models: does everything run?
    python benchmarks/scoring.py --sections                   # measure nothing, make all tables anew

Every section builds its models, checks that all contenders compute the same losses, and times them in one
process. Results go to `results/scoring-<device>.json` (facts, hardware, versions) and `.md` (tables);
sections measured earlier stay. Ratios are what to compare: rates belong to the hardware named.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers

from airlab.progress import announce
from airlab.store.provenance import provenance
from scorebench import bound, detection, engine, fidelity, inputs, pipeline, processor, report, roofline
from scorebench.clock import device_name, release
from scorebench.contenders import RIVALS
from scorebench.options import Options
from scorebench.subjects import Subject

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
DOCUMENT = HERE.parent / "docs" / "ENGINE.md"


def _small(options: Options) -> Subject:
    """SmolLM2-135M with its own weights and heads where they were given, else its shape."""
    given = options.rehearsal or options.model is not None
    return inputs.subject(options, "135m") if given else Subject.random("135m")


def _large(options: Options) -> Subject:
    return Subject.random("tiny" if options.rehearsal else "1.3b")


SECTIONS: dict[str, Callable[[Options], dict[str, Any]]] = {
    "bound": bound.run,
    "engine-1.3b": lambda options: engine.run(options, _large(options)),
    "engine-135m": lambda options: engine.run(options, _small(options)),
    "fidelity": fidelity.run,
    "end-to-end": pipeline.run,
    "heads": detection.run,
    "cpu": processor.run,
    "roofline": lambda options: roofline.run(
        options, [_small(options)] + [_large(options)] * (options.device == "cuda")
    ),
}
BY_DEFAULT = {
    "cpu": ("bound", "cpu", "fidelity"),
    "cuda": tuple(name for name in SECTIONS if name != "cpu"),
}


def load(folder: Path, device: str) -> dict[str, Any]:
    """The device's results so far."""
    path = folder / f"scoring-{device}.json"
    return json.loads(path.read_text()) if path.exists() else {"device": device, "sections": {}}


def save(folder: Path, device: str, name: str, section: dict[str, Any]) -> dict[str, Any]:
    """Put one section into the device's results; all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    sections = load(folder, device)["sections"] | {name: section}
    ordered = {known: sections[known] for known in SECTIONS if known in sections}
    results = {"device": device, "sections": ordered}
    (folder / f"scoring-{device}.json").write_text(json.dumps(results, indent=1) + "\n")
    return results


def refresh(folder: Path) -> None:
    """Make the tables anew from all results in a folder; for the committed ones also the documentation's."""
    for path in folder.glob("scoring-*.json"):
        path.with_suffix(".md").write_text(report.render(json.loads(path.read_text())))
    if folder == RESULTS:
        DOCUMENT.write_text(report.fill(DOCUMENT.read_text(), RESULTS))


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--sections", nargs="*", choices=SECTIONS, help="default: all that suit the device")
    parser.add_argument(
        "--rivals", nargs="*", choices=RIVALS, default=tuple(RIVALS), help="of the engine sections"
    )
    parser.add_argument("--repeats", type=int, default=3, help="timed runs; the median counts")
    parser.add_argument("--count", type=int, help="documents of `fidelity`, `cpu` and `end-to-end`")
    parser.add_argument(
        "--model", type=Path, help="SmolLM2-135M as a folder; default: the store's, downloaded"
    )
    parser.add_argument("--heads", type=Path, help="its ranking (`airlab heads`) or a list of [layer, head]")
    parser.add_argument("--documents", type=Path, help="documents.parquet with columns domain and text")
    parser.add_argument(
        "--output", type=Path, help="folder of the results; default: results/ beside this file"
    )
    parser.add_argument("--rehearse", action="store_true", help="tiny models; keeps nothing without --output")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure, save after every section, print the tables and what became of the targets."""
    given = arguments().parse_args(argv)
    name = ("rehearsal-" if given.rehearse else "") + device_name(given.device)
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="airlab-bench-") as scratch:
        options = Options.of(given, Path(scratch))
        folder = given.output or (options.scratch if given.rehearse else RESULTS)
        results = load(folder, name)
        for section in BY_DEFAULT[given.device] if given.sections is None else given.sections:
            announce(f"{section} started")
            start = time.perf_counter()
            facts = SECTIONS[section](options)
            release(given.device)
            found = {"facts": facts, "wall_s": time.perf_counter() - start, "provenance": provenance()}
            announce(f"{section} finished in {found['wall_s']:.0f} s")
            results = save(folder, name, section, found)
        refresh(folder)
    print(report.render(results))


if __name__ == "__main__":
    main()
