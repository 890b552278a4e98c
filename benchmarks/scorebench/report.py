"""Facts to tables: what is printed, committed as Markdown, and shown in docs/ENGINE.md."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Facts = Mapping[str, Any]

_BLOCK = re.compile(r"(<!-- bench:(\S+) (\S+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded to be read as it is; all columns but the first to the right."""
    cells = [list(head), *[list(row) for row in rows]]
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]

    def line(row: Sequence[str]) -> str:
        padded = [c.rjust(w) if k else c.ljust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))]
        return "| " + " | ".join(padded) + " |"

    lines = [line(row) for row in cells]
    rule = "|" + "|".join("-" * (w + 1) + ":" if k else "-" * (w + 2) for k, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def bound(facts: Facts) -> str:
    """Both ceilings."""
    size = facts["matmul_size"]
    rows = [
        (f"matrix product {size}³, {name}", f"{rate / 1e12:,.3g} TFLOP/s")
        for name, rate in facts["flops"].items()
    ]
    rows.append(
        (
            f"copy of {facts['copy_mebibytes']:,} MiB, read and written",
            f"{facts['copy_bytes'] / 1e9:,.4g} GB/s",
        )
    )
    return table(["ceiling", "measured"], rows)


def engine(facts: Facts) -> str:
    """Everybody's rate, memory and share of the bound."""
    rows = []
    for row in facts["rows"].values():
        title = row["title"] + (f" ({row['note']})" if row.get("note") else "")
        rows.append(
            (
                title,
                _number(row["tokens_per_second"], ",.0f"),
                _number(row.get("airlab_is_faster"), ".2f") + " ×",
                _number(row.get("share_of_bound"), ".1%"),
                _number(row.get("peak_gib"), ".1f"),
                _number(row.get("compile_s"), ".0f"),
                f"{row.get('tokens', 0):,}",
            )
        )
    head = [
        "contender",
        "tokens/s",
        "airlab is faster",
        "share of bound",
        "peak GiB",
        "compile s",
        "tokens timed",
    ]
    limit = facts["bound_flops"] / facts["flops_per_token"]
    subject, documents = facts["subject"], facts["documents"]
    differences = facts["largest_difference"]
    return "\n".join(
        [
            f"{subject['name']} ({subject['weights']} weights), {facts['dtype']}; "
            f"{len(subject['masked_heads'])} masked heads from layer {subject['first_masked_layer']} up; "
            f"{documents['count']:,} documents, {documents['tokens']:,} tokens; "
            f"sort buffer {facts['buffer_tokens']:,} tokens.",
            "",
            table(head, rows),
            "",
            f"Bound: {facts['bound_flops'] / 1e12:,.3g} TFLOP/s, the rate of a large matrix product "
            + _when(facts)
            + f", {facts['flops_per_token'] / 1e9:,.3g} useful GFLOP a token: {limit:,.0f} tokens/s. "
            + (
                f"Largest difference of a document's loss between contenders {max(differences.values()):.1e} "
                f"(masking moves losses by {facts['masking_moves_losses']:.1e} on average)."
                if differences
                else ""
            ),
        ]
    )


def _when(facts: Facts) -> str:
    if "bound_flops_around" not in facts:
        return "in a burst"
    return f"around airlab's runs ({facts['burst_flops'] / 1e12:,.3g} in a burst)"


def fidelity(facts: Facts) -> str:
    """Errors against the judge, and movement with the batch."""
    rows = []
    for name, found in facts["precisions"].items():
        for model, error in found["relative_error"].items():
            rows.append(
                (f"{name}, {model} loss", *(f"{error[k]:.1e}" for k in ("mean", "p99", "worst")), "", "")
            )
        rows.append(
            (f"{name}, influence", "", "", "", f"{found['spearman']:.6f}", f"{found['selected_overlap']:.2%}")
        )
    moves = [
        (f"{name}, {other}", *(f"{move[k]:.1e}" for k in ("loss", "score", "score_p99", "score_absolute")))
        for name, found in facts["precisions"].items()
        for other, move in found["movement"].items()
    ]
    return "\n".join(
        [
            f"{facts['documents']:,} real documents, {facts['tokens']:,} tokens, {facts['subject']['name']} "
            f"({facts['subject']['weights']} weights), against float32 one document at a time:",
            "",
            table(["packed", "mean error", "p99", "worst", "Spearman", "overlap of best 20 %"], rows),
            "",
            "Largest relative movement when the same documents are batched otherwise:",
            "",
            table(["packed", "loss", "score", "score, p99", "score, absolute"], moves),
        ]
    )


def end_to_end(facts: Facts) -> str:
    """From disk to disk."""
    few = facts["few"]
    return "\n".join(
        [
            table(
                ["from Parquet to Parquet", "tokens/s", "share of engine", "seconds"],
                [
                    (
                        "engine alone, tokenized documents",
                        f"{facts['engine_tokens_per_second']:,.0f}",
                        "100.0%",
                        "",
                    ),
                    (
                        "disk to disk, without start",
                        f"{facts['tokens_per_second']:,.0f}",
                        f"{facts['share_of_engine']:.1%}",
                        "",
                    ),
                    (
                        f"disk to disk, whole run of {facts['documents']:,} documents",
                        f"{facts['whole']['tokens_per_second']:,.0f}",
                        f"{facts['whole']['tokens_per_second'] / facts['engine_tokens_per_second']:.1%}",
                        f"{facts['whole']['seconds']:.1f}",
                    ),
                    (f"start (from a run of {few['documents']} documents)", "", "", f"{facts['once_s']:.1f}"),
                    ("tokenizing alone, all documents at once", "", "", f"{facts['tokenizing_s']:.1f}"),
                ],
            ),
            "",
            f"{facts['tokens']:,} predicted tokens; windows of {facts['window_tokens']:,}.",
        ]
    )


def heads(facts: Facts) -> str:
    """Head detection."""
    packed, alone = facts["packed"], facts["one_at_a_time"]
    return "\n".join(
        [
            table(
                ["head detection", "seconds"],
                [
                    (f"{facts['probes']} probes, packed", f"{packed['seconds']:.1f}"),
                    (f"one probe at a time (from {alone['probes']})", f"{alone['all_s']:.1f}"),
                    ("building the probes", f"{facts['build_s']:.1f}"),
                ],
            ),
            "",
            f"{facts['dtype']}, probes of up to {facts['longest']:,} tokens; peak "
            f"{_number(packed['peak_gib'], '.1f')} GiB; scores of the two ways differ by at most "
            f"{facts['largest_difference_of_a_score']:.1e}.",
        ]
    )


def cpu(facts: Facts) -> str:
    """Ordinary passes against airlab on the processor."""
    rows = [
        (
            row["title"],
            f"{row['seconds']:.1f}",
            f"{row['tokens_per_second']:,.0f}",
            f"{row['over_one_pass']:.2f}",
        )
        for row in facts["rows"].values()
    ]
    half = facts["bfloat16"]
    ours, *both = (facts["rows"][k]["seconds"] for k in ("airlab", "one-pass-onednn", "two-passes-onednn"))
    one, two = ours / both[0], both[1] / ours
    return "\n".join(
        [
            table([f"{facts['threads']} threads", "seconds", "tokens/s", "over one pass"], rows),
            "",
            f"{facts['documents']} real documents, {facts['tokens']:,} tokens, float32; largest difference "
            f"of a loss {facts['largest_difference']:.1e}. airlab's oneDNN switch: "
            f"`{facts['onednn_switch']}`. Against passes with that switch airlab takes {one:.2f} times as "
            f"long as one and is {two:.2f} times faster than two. bfloat16 moves losses by up to "
            f"{half['largest_difference']:.1e}, Spearman of the score {half['spearman']:.4f}.",
        ]
    )


def roofline(facts: Facts) -> str:
    """Components of one step against the ceilings."""
    blocks = []
    for name, step in facts["subjects"].items():
        rows = []
        for part, found in step["parts"].items():
            seconds = found["seconds"]
            if "flops" not in found:
                rows.append((part, f"{seconds * 1e3:.2f}", "", "", "", "", "", ""))
                continue
            rows.append(
                (
                    part,
                    f"{seconds * 1e3:.2f}",
                    f"{found['flops'] / 1e12:.3g}",
                    f"{found['bytes'] / 1e9:.3g}",
                    f"{found['flops'] / seconds / 1e12:,.3g}" if seconds else "–",
                    f"{found['bytes'] / seconds / 1e9:,.3g}" if seconds else "–",
                    f"{found['ceiling_s'] * 1e3:.2f} ({found['bound_by']})",
                    f"{found['ceiling_s'] / seconds:.0%}" if seconds else "–",
                )
            )
        ceiling = sum(found.get("ceiling_s", 0) for found in step["parts"].values())
        useful = sum(found.get("flops", 0) for found in step["parts"].values())
        reachable = useful / facts["bound_flops"] / ceiling
        rows.append(
            ("all kernels", f"{step['kernels_s'] * 1e3:.2f}", "", "", "", "", f"{ceiling * 1e3:.2f}",
             f"{ceiling / step['kernels_s']:.0%}")
        )  # fmt: skip
        rows.append(
            (
                "wall clock",
                f"{step['step_s'] * 1e3:.2f}",
                "",
                "",
                "",
                "",
                "",
                f"{ceiling / step['step_s']:.0%}",
            )
        )
        head = ["component", "ms", "TFLOP", "GB", "TFLOP/s", "GB/s", "ceiling ms", "of ceiling"]
        blocks += [
            f"{name}, {facts['dtype']}, a step of {step['documents']} documents, {step['tokens']:,} tokens:",
            "",
            table(head, rows),
            "",
            f"With every component at its ceiling and none fused with another: {reachable:.0%} of the bound.",
            "",
        ]
    blocks.append(
        f"Ceilings: {facts['bound_flops'] / 1e12:,.3g} TFLOP/s, {facts['copy_bytes'] / 1e9:,.4g} GB/s. "
        "Kernels are assigned by name; the JSON lists the longest."
    )
    return "\n".join(blocks)


RENDER: dict[str, Callable[[Facts], str]] = {
    "bound": bound,
    "engine-1.3b": engine,
    "engine-135m": engine,
    "fidelity": fidelity,
    "end-to-end": end_to_end,
    "heads": heads,
    "cpu": cpu,
    "roofline": roofline,
}


_JUDGED = 500
"""Documents that fidelity asks for."""


@dataclass(frozen=True)
class Target:
    """A figure that was set before the measurement.

    Attributes:
        value: finds it in the section's facts; None where it was not measured.
        wanted: at least this, or at most for a `ceiling`.
    """

    title: str
    section: str
    value: Callable[[Facts], float | None]
    wanted: float
    form: str
    ceiling: bool = False


def _at(*keys: str) -> Callable[[Facts], float | None]:
    def find(facts: Facts) -> float | None:
        value: Any = facts
        for key in keys:
            value = None if value is None else value.get(key)
        return value

    return find


def _ranks(*keys: str) -> Callable[[Facts], float | None]:
    """Agreement of ranks, which a handful of documents cannot show."""
    return lambda facts: _at(*keys)(facts) if facts["documents"] >= _JUDGED else None


def _moved(precision: str, what: str) -> Callable[[Facts], float]:
    return lambda facts: max(move[what] for move in facts["precisions"][precision]["movement"].values())


def _engine_targets(
    section: str, name: str, sdpa: float, eager: float, share: float, gib: float
) -> list[Target]:
    faster = "airlab_is_faster"
    return [
        Target(
            f"{name}: over sdpa, sorted, two passes", section, _at("rows", "sdpa-sorted", faster), sdpa, ".2f"
        ),
        Target(
            f"{name}: over eager, padded, two passes", section, _at("rows", "eager", faster), eager, ".1f"
        ),
        Target(f"{name}: share of the bound", section, _at("rows", "airlab", "share_of_bound"), share, ".1%"),
        Target(f"{name}: peak memory, GiB", section, _at("rows", "airlab", "peak_gib"), gib, ".1f", True),
    ]


def _fidelity_targets() -> list[Target]:
    half = ("precisions", "bfloat16")
    moved = [
        Target(f"{p}: batch composition moves a {what} by", "fidelity", _moved(p, what), limit, ".1e", True)
        for p, limit in (("bfloat16", 1e-3), ("float32", 1e-6))
        for what in ("loss", "score")
    ]
    return [
        Target("documents judged", "fidelity", _at("documents"), _JUDGED, ".0f"),
        Target("bfloat16: Spearman of the score", "fidelity", _ranks(*half, "spearman"), 0.999, ".5f"),
        Target(
            "bfloat16: overlap of the best 20 %", "fidelity", _ranks(*half, "selected_overlap"), 0.99, ".1%"
        ),
        *moved,
    ]


TARGETS = (
    *_engine_targets("engine-1.3b", "1.3B", 3.3, 14, 0.72, 30),
    *_engine_targets("engine-135m", "135M", 8, 50, 0.55, 12),
    *_fidelity_targets(),
    Target("disk to disk, share of the engine's rate", "end-to-end", _at("share_of_engine"), 0.85, ".1%"),
    Target("head detection, 800 probes, seconds", "heads", _at("packed", "seconds"), 20, ".1f", True),
    Target(
        "base and reference over one pass", "cpu", _at("rows", "airlab", "over_one_pass"), 1.5, ".2f", True
    ),
    Target("faster than two ordinary passes", "cpu", _at("two_passes_over_airlab"), 2, ".2f"),
)


def targets(sections: Facts) -> str:
    """Every target whose section was measured: wanted, measured, met or missed by how much."""
    rows = []
    for target in TARGETS:
        found = target.value(sections[target.section]["facts"]) if target.section in sections else None
        if found is None:
            continue
        met = found <= target.wanted if target.ceiling else found >= target.wanted
        missed = abs(found / target.wanted - 1)
        outcome = (
            f"missed by {missed:.1%}" if missed < 1 else f"missed: {found / target.wanted:.1f} times that"
        )
        wanted = f"{'≤' if target.ceiling else '≥'} {format(target.wanted, target.form)}"
        rows.append((target.title, wanted, format(found, target.form), "met" if met else outcome))
    return table(["target", "wanted", "measured", ""], rows) if rows else "No target was measured."


def render(results: Facts) -> str:
    """The whole report of one device."""
    lines = [f"# Scoring on {results['device']}", "", targets(results["sections"]), ""]
    for name, section in results["sections"].items():
        made = section["provenance"]
        versions = ", ".join(
            f"{p} {v}" for p, v in made["packages"].items() if p in ("torch", "transformers")
        )
        lines += [f"## {name}", "", RENDER[name](section["facts"]), "", f"{_hardware(made)}; {versions}.", ""]
    return "\n".join(lines)


def _hardware(made: Facts) -> str:
    gpus = ", ".join(made["gpus"])
    return (f"{gpus}; " if gpus else "") + f"{made['cpu']}, {made['cores']} cores"


def block(results: Path, device: str, what: str) -> str:
    """One generated block of the documentation: a section's table, or `targets`."""
    path = results / f"scoring-{device}.json"
    sections = json.loads(path.read_text())["sections"] if path.exists() else {}
    if what == "targets" and sections:
        return targets(sections)
    if what not in sections:
        return "*Not measured yet.*"
    return RENDER[what](sections[what]["facts"])


def fill(text: str, results: Path) -> str:
    """The text with every `<!-- bench:DEVICE SECTION -->` block made anew from committed results."""
    return _BLOCK.sub(lambda m: f"{m[1]}{block(results, m[2], m[3])}\n{m[4]}", text)
