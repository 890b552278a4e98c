"""`airlab plan`: stages, how long they take, what they take on GPUs, what fits into it, and job scripts."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import PositiveFloat
from rich.console import Console
from rich.table import Table as RichTable

import airlab
from airlab.cli.bind import bind
from airlab.cli.experiment import ONLY_PLANNED, RunCommand, asked_for, open_plain
from airlab.cli.outputs import open_store
from airlab.cli.plan_costs import NOT_COUNTED, Planner, billions
from airlab.cli.plan_times import expected, paces, told
from airlab.cli.slurm import is_installed, run_script, write_script
from airlab.errors import UserError
from airlab.planning.assumptions import Assumptions
from airlab.planning.costs import Cost, grouped, total
from airlab.planning.memory import Offload, gibibytes
from airlab.planning.memory import Stage as ZeroStage
from airlab.planning.rates import read_measured
from airlab.planning.scaling import fits
from airlab.progress import duration
from airlab.reporting.formats import markup
from airlab.reporting.pages import Page, Section, print_page
from airlab.schema.base import Frozen
from airlab.schema.machine import Machine
from airlab.stages.continue_pretraining import Trained
from airlab.stages.measure_losses import MeasureLosses
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.stage import Stage
from airlab.terminal import visible

RATES = "scoring-h100.json"
TRAINING_RATES = "training-h100.json"


class PlanCommand(Frozen):
    """What `configs/plan.yaml` adds to an experiment's settings."""

    gpu_hours: PositiveFloat | None
    price: PositiveFloat | None
    """Of one GPU-hour."""
    scripts: str | None
    """Folder for the job scripts of a machine with Slurm; null prints them."""
    planning: Assumptions


def plan(config: Mapping[str, Any]) -> None:
    """Print the stages, what they take, and the script of a job that runs them where there is Slurm."""
    bound, command = show(config)
    given = [argument for argument in sys.argv[1:] if setting(argument) not in ONLY_PLANNED]
    if has_scripts(config, command.machine):
        print_script(config, bound.name, run_script(job_name(bound), command.machine, given))


def has_scripts(config: Mapping[str, Any], machine: Machine) -> bool:
    """Whether a plan ends with job scripts; a plan is shown even where they cannot be written.

    Raises:
        UserError: they are asked for, and the machine has no Slurm.
    """
    wanted = bind(PlanCommand, {key: config[key] for key in ONLY_PLANNED}).scripts is not None
    if machine.slurm is None:
        if wanted:
            raise UserError("scripts are for machines with Slurm; add machine=slurm, or leave scripts out.")
        return False
    if not wanted and not is_installed():
        print("Its job scripts are written by submitit: pip install 'airlab[slurm]'.")
        return False
    return True


def print_script(config: Mapping[str, Any], name: str, script: str) -> None:
    """Save or print a job's script."""
    if config["scripts"] is None:
        print(f"\n{script}")
    else:
        path = write_script(Path(config["scripts"]), name.replace("/", "-"), script)
        print(visible(f"written to {path}; submit it with sbatch"))


def job_name(bound: Any) -> str:
    """What Slurm lists an experiment's jobs under."""
    return f"airlab-{bound.name.rpartition('/')[2]}-{bound.scale}"


def setting(override: str) -> str:
    """The first word of a `key.inner=value` argument."""
    return override.lstrip("+~").partition("=")[0].partition(".")[0].partition("@")[0]


def show(config: Mapping[str, Any]) -> tuple[Any, RunCommand]:
    """Print the stages, which of them are there, and on a machine with GPUs what the others take.

    Returns:
        The experiment's bound configuration, and how to run it.
    """
    module, bound, command = open_plain(config)
    asked = bind(PlanCommand, {key: config[key] for key in ONLY_PLANNED})
    store = open_store()
    stages = Plan(store, list(asked_for(module, bound, command).values()))
    rows = stages.explain()
    planner = Planner(
        asked.planning, read_measured(rates_file(RATES), rates_file(TRAINING_RATES)), command.machine, store
    )
    known = paces(planner, stages, bound.name, bound.scale)
    missing = stages.missing()
    needed = {fingerprint(stage): expected(planner, known, stage) for stage in missing}
    table = RichTable("stage", "", "fingerprint", "status", title=f"{bound.name}, scale {bound.scale}")
    table.add_column("expected", justify="right")
    for row, stage in zip(rows, stages.order, strict=True):
        status = "run" if row.needed else row.status
        table.add_row(
            row.stage, markup(row.slug), row.fingerprint, status, _seconds(needed, fingerprint(stage))
        )
    Console().print(table)
    if command.machine.device == "cuda":
        if missing:
            print_page(_page(planner, missing, asked.price))
        if asked.gpu_hours is not None:
            seeds = len(getattr(bound, "seeds", ())) or 1
            print_page(_fits_page(planner, stages.order, seeds, asked.gpu_hours))
    elif asked.gpu_hours is not None or asked.price is not None:
        raise UserError("hours are planned for GPUs; choose a machine that has some, machine=gpu1, say.")
    if needed:
        for line in told([(stage.name, needed[fingerprint(stage)]) for stage in missing], known):
            print(visible(line))
    print(f"{len(rows)} stages, {len(needed)} to run, {len(rows) - len(needed)} not")
    return bound, command


def _seconds(needed: Mapping[str, float | None], address: str) -> str:
    if address not in needed:
        return "–"
    seconds = needed[address]
    return "unknown" if seconds is None else duration(seconds)


def rates_file(name: str) -> Path:
    """Committed measured rates: inside an installed package, or beside it in a checkout."""
    package = Path(airlab.__file__).parent
    inside = package / "rates" / name
    return inside if inside.exists() else package.parent / "benchmarks" / "results" / name


def _page(planner: Planner, stages: Sequence[Stage], price: float | None) -> Page:
    """What the stages take together, and the memory of those that train."""
    each = [(stage, planner.cost(stage)) for stage in stages]
    costs = grouped(cost for _, cost in each)
    names = dict.fromkeys(stage.name for stage, cost in each if cost.group == NOT_COUNTED)
    headers = ["", "stages", "tokens", "FLOPs", "GPU-hours", "hours", "GPU GiB", "disk GB"]
    rows = [_row(cost, planner.gpus, price) for cost in costs]
    hours = total(cost.gpu_hours for cost in costs if cost.group != NOT_COUNTED)
    whole = Cost(
        "all",
        sum(cost.stages for cost in costs),
        None,
        total(cost.flops for cost in costs if cost.group != NOT_COUNTED),
        None,
        total(cost.disk_bytes for cost in costs if cost.group != NOT_COUNTED),
    )
    rows.append(_row(whole, planner.gpus, price, hours=hours, tokens=""))
    if price is not None:
        headers.append("cost")
    sections = [Section("what it takes", tuple(headers), tuple(rows))]
    targets = {cost.group: stage for stage, cost in each if isinstance(stage, Trained)}
    sections += [_memory(planner, group, target) for group, target in targets.items()]
    return Page("plan", _title(planner), tuple(sections), _foot(planner, stages, costs, names, price), (), ())


def _title(planner: Planner) -> str:
    processes, zero = planner.machine.processes, planner.machine.deepspeed_stage
    how = "without DeepSpeed" if zero is None else f"ZeRO stage {zero}"
    return f"On {planner.gpus} GPUs ({planner.hosts} hosts of {processes}), {planner.measured.gpu}, {how}"


def _row(
    cost: Cost, gpus: int, price: float | None, hours: float | None = None, tokens: str | None = None
) -> tuple[str, ...]:
    hours = cost.gpu_hours if hours is None else hours
    texts = [
        cost.group,
        str(cost.stages),
        count(cost.tokens) if tokens is None else tokens,
        "unknown" if cost.flops is None else f"{cost.flops:.2e}" if cost.flops else "–",
        amount(hours),
        amount(None if hours is None else hours / gpus),
        "–" if cost.gpu_bytes is None else f"{gibibytes(cost.gpu_bytes):.1f}",
        "unknown" if cost.disk_bytes is None else f"{cost.disk_bytes / 1e9:,.1f}" if cost.disk_bytes else "–",
    ]
    if price is not None:
        texts.append("unknown" if hours is None else f"{hours * price:,.0f}" if hours else "–")
    return tuple(texts)


def _memory(planner: Planner, group: str, target: Trained) -> Section:
    """A row a ZeRO stage: what one GPU holds, and one host of what is offloaded as far as the stage can."""
    room = planner.assumptions.gpu_memory_gib
    most: dict[ZeroStage | None, Offload] = {None: "none", 1: "optimizer", 2: "optimizer", 3: "all"}
    rows = []
    for zero, offload in most.items():
        found = planner.training_memory(target, zero)
        recomputed = planner.training_memory(target, zero, recompute=True)
        offloaded = planner.training_memory(target, zero, recompute=True, offload=offload)
        activations = found.step - found.states
        parts = (found.states, activations, found.step, recomputed.step, offloaded.step, offloaded.host)
        name = "no ZeRO" if zero is None else f"ZeRO {zero}"
        mark = " (this machine)" if zero == (planner.machine.deepspeed_stage or None) else ""
        fits = "yes" if gibibytes(found.peak) <= room else "no"
        rows.append((name + mark, *(f"{gibibytes(part):.1f}" for part in parts), fits))
    headers = (
        "", "weights, gradients, optimizer", "activations", "an update", "layers recomputed",
        "and offloaded", "to each host", f"fits in {room:g}",
    )  # fmt: skip
    return Section(f"GiB on one GPU, {group}", headers, tuple(rows))


def _foot(
    planner: Planner,
    stages: Sequence[Stage],
    costs: Sequence[Cost],
    not_counted: Mapping[str, None],
    price: float | None,
) -> tuple[str, ...]:
    assumed = planner.assumptions
    lines = [f"{cost.group}: {cost.rate.told}." for cost in costs if cost.rate is not None]
    models = [stage.model for stage in stages if isinstance(stage, MeasureLosses)]
    if any(planner.assumes_shape(model) for model in models):
        size = billions(assumed.selector.n_parameters(planner.shape(models[0])[1]))
        lines.append(f"The scoring model is not here: counted as planning.selector, {size} parameters.")
    if models:
        lines.append(
            f"Scoring counts windows as full, and the lowest {assumed.unmasked_share_of_layers:.0%} of the "
            "layers as shared by both models (assumed: heads are found later)."
        )
    if not_counted:
        lines.append(f"Not counted, and in no sum: {', '.join(not_counted)}.")
    lines += [
        "Reading, tokenizing and selecting take processors, and no GPU-hours. Disk counts text unpacked.",
        "Memory is arithmetic (airlab.planning.memory), 93 to 100% of the peaks that an H100 showed in "
        "training 124M and 360M parameters. It is the machine's recompute and offload that count; the "
        "columns of these names say what an update takes with them.",
    ]
    if planner.hosts != planner.machine.hosts:
        lines.append(
            f"Planned with {planner.hosts} hosts; a run trains on machine.hosts={planner.machine.hosts}."
        )
    if price is None:
        lines.append("price=NUMBER, of one GPU-hour, adds what it costs.")
    return tuple(lines)


def _fits_page(planner: Planner, stages: Sequence[Stage], seeds: int, gpu_hours: float) -> Page:
    recipe = planner.recipe(stages, seeds)
    rows = tuple(
        (
            fit.rule,
            str(fit.targets),
            count(fit.scored_tokens),
            billions(fit.parameters),
            count(fit.target_tokens),
            amount(fit.hours),
        )
        for fit in fits(recipe, gpu_hours)
    )
    headers = ("rule", "targets", "tokens scored", "parameters", "tokens a target", "GPU-hours")
    arms = recipe.targets // recipe.seeds
    foot = (
        f"The whole recipe, {arms} arms with {recipe.seeds} seed{'s' * (recipe.seeds > 1)} each, takes "
        f"{amount(recipe.hours)} GPU-hours; {gpu_hours / recipe.hours:.2g} times that is given.",
        "Fewer tokens: those scored and those trained on shrink by one factor, so that every target sees its "
        "corpus as many times over. Smaller targets: parameters shrink by that factor too, and tokens per "
        "parameter stay. Nothing grows beyond the recipe; a rule that leaves nothing is not listed.",
    )
    section = Section(f"what fits into {gpu_hours:,g} GPU-hours", headers, rows)
    return Page("fits", "", (section,), foot, (), ())


def count(number: float | None) -> str:
    """A number of tokens, such as `241B`."""
    if number is None:
        return "unknown"
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:.0f}" if number else "–"


def amount(hours: float | None) -> str:
    """Hours, or minutes, to two digits; from a hundred on whole."""
    if hours is None:
        return "unknown"
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}" if hours else "–"
