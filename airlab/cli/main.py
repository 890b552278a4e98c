"""The command line: Hydra begins and ends in this package.

Every verb composes a configuration from `configs/`, binds it strictly to a schema, and calls one
function. A user's mistake is one sentence on standard error and exit code 2.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import airlab
from airlab.cli.answer import answer, refuse
from airlab.cli.printing import NotTaken, leave, watch
from airlab.errors import UserError


@dataclass(frozen=True)
class Verb:
    """One command: its configuration file, the function it calls, and what `--help` says."""

    config: str
    target: str
    summary: str
    example: str
    sweep: str = "airlab.cli.sweep:each"
    """What is called, after all configurations are composed, with the jobs of `-m`."""


VERBS = {
    "heads": Verb(
        "heads",
        "airlab.cli.heads:run",
        "find a model's retrieval heads",
        "airlab heads model=smollm2-135m probes.count=800 probes.max_tokens=4096 output=heads.json",
    ),
    "score": Verb(
        "score",
        "airlab.cli.score:run",
        "score documents, reasoning traces or their steps by attention influence",
        "airlab score model=smollm2-135m heads=heads.json input=docs.jsonl output=scores.parquet",
    ),
    "explain": Verb(
        "explain",
        "airlab.cli.explain:run",
        "shade a text by what its tokens lose without retrieval heads, as a page to look at",
        "airlab explain heads=heads.json text='My own text' output=map.html",
    ),
    "select": Verb(
        "select",
        "airlab.cli.select:run",
        "select the best share of scored documents or traces",
        "airlab select scores=scores.parquet selector=attention_influence share=0.2 output=selected.parquet",
    ),
    "weigh": Verb(
        "weigh",
        "airlab.cli.weigh:run",
        "weigh the scored steps of traces for fine-tuning",
        "airlab weigh scores=steps.parquet weights=softmax output=weights.parquet",
    ),
    "tokenize": Verb(
        "tokenize",
        "airlab.cli.tokenize:run",
        "tokenize a large corpus into memory-mapped files, by several processes",
        "airlab tokenize corpus=cosmopedia-v2 model=smollm2-135m machine.processes=8",
    ),
    "export": Verb(
        "export",
        "airlab.cli.export:run",
        "write selected documents, or a trained checkpoint, for other programs",
        "airlab export input=docs.jsonl selected=selected.parquet output=selected.jsonl.zst",
    ),
    "plan": Verb(
        "plan",
        "airlab.cli.plan:plan",
        "show what an experiment would run, and what it takes on GPUs",
        "airlab plan experiment=attention_influence/main scale=laptop",
        "airlab.cli.sweep:plan",
    ),
    "status": Verb(
        "run",
        "airlab.cli.status:run",
        "show what is finished, unfinished, stale (and why) or damaged in the store",
        "airlab status experiment=attention_influence/main scale=laptop",
        "airlab.cli.status:sweep",
    ),
    "run": Verb(
        "run",
        "airlab.cli.experiment:run",
        "run what is missing of an experiment and write its table",
        "airlab run experiment=attention_influence/main scale=laptop",
        "airlab.cli.sweep:run",
    ),
    "table": Verb(
        "run",
        "airlab.cli.experiment:table",
        "write an experiment's table from finished cells",
        "airlab table experiment=attention_influence/main scale=laptop",
        "airlab.cli.sweep:table",
    ),
    "archive": Verb(
        "archive",
        "airlab.cli.archive:run",
        "pack what an experiment's tables are read from into a file beside them, to keep or carry it",
        "airlab archive experiment=attention_influence/main scale=laptop",
    ),
    "restore": Verb(
        "restore",
        "airlab.cli.restore:run",
        "unpack archived artifacts into the store, as if they had been made here",
        "airlab restore",
    ),
    "verify": Verb(
        "verify",
        "airlab.cli.verify:run",
        "check that committed tables still follow from their configurations, and that archives are whole",
        "airlab verify",
    ),
    "report": Verb(
        "report",
        "airlab.cli.report:run",
        "write a page of all published tables, or of one finished run with its figures",
        "airlab report experiment=attention_influence/main scale=laptop",
    ),
}


FOLLOWED = {"own_size", "own_tasks", "own_traces", "planning"}
"""Groups that are chosen by what else is chosen, never by the user."""


def configs_folder() -> Path:
    """Where the configuration files lie: inside an installed package, or beside it in a checkout."""
    package = Path(airlab.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def main() -> None:
    """Entry point of the `airlab` script."""
    watch()
    try:
        code = dispatch(sys.argv[1:])
        sys.stdout.flush()
    except NotTaken as lost:
        code = leave(lost)
    sys.exit(code)


def dispatch(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    name, *overrides = arguments
    if name not in VERBS:
        close = difflib.get_close_matches(name, VERBS, 1)
        hint = f" did you mean {close[0]}?" if close else ""
        return refuse("", f"there is no command {name!r}; commands are {', '.join(VERBS)}.{hint}")
    verb = VERBS[name]
    if any(o in ("-h", "--help") for o in overrides):
        return answer(name, lambda: print(_help(name, verb)))
    return answer(name, lambda: _compose_and_call(name, verb, overrides))


def _usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "airlab: choose training data by looking inside a model",
            "",
            "usage: airlab COMMAND [key=value ...]",
            "",
            *lines,
            "",
            "airlab COMMAND --help shows a command's settings and an example.",
        ]
    )


def _help(name: str, verb: Verb) -> str:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        settings = OmegaConf.to_yaml(compose(verb.config))
    groups = sorted(p.name for p in configs_folder().iterdir() if p.is_dir() and p.name not in FOLLOWED)
    return "\n".join(
        [
            f"airlab {name}: {verb.summary}",
            "",
            f"example: {verb.example}",
            "",
            "settings (key=value changes one, ??? must be given; "
            f"groups to choose from: {', '.join(groups)}):",
            "",
            settings.rstrip(),
        ]
    )


def _compose_and_call(name: str, verb: Verb, overrides: Sequence[str]) -> None:
    # Hydra would otherwise print a shortened trace and leave with code 1 by itself.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    _set_environment()
    import hydra
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped]

    from airlab.cli.overrides import SWEEP, explain, prepare
    from airlab.cli.sweep import Composed, composed, discard, sweep_folder

    sweep = any(o in SWEEP for o in overrides)
    command = _function(verb.sweep if sweep else verb.target)
    sys.argv = [f"airlab {name}", *prepare(overrides, configs_folder())]
    jobs: list[Composed] = []
    mistakes: list[str] = []
    folders: set[Path] = set()

    def collect(config: DictConfig) -> None:
        # Only composed here: Hydra would run all jobs in one process, and compose each when its turn comes.
        folders.add(sweep_folder())
        try:
            jobs.append(composed(config))
        except UserError as error:
            mistakes.append(str(error))

    start = hydra.main(version_base="1.3", config_path=str(configs_folder()), config_name=verb.config)
    try:
        start(collect)()
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(explain(error, configs_folder(), verb.config)) from error
    try:
        if mistakes:
            raise UserError(" / ".join(dict.fromkeys(mistakes)))
        command(*(name, jobs) if sweep else [jobs[0].config])
    finally:
        if sweep:
            for folder in folders:
                discard(folder)


def _function(target: str) -> Callable[..., None]:
    module, function = target.split(":")
    found: Callable[..., None] = getattr(importlib.import_module(module), function)
    return found


def _set_environment() -> None:
    """Keep libraries' notices out of our own lines (warnings and errors stay), and threads polite."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # Threads that wait give up their core: with anything else running, ones that spin are ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What is compiled for one number of tokens is kept for as many others as these say, half a megabyte each,
    # and hardly two batches have the same number.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "64")
    os.environ.setdefault("TQDM_DISABLE", "1")  # progress is shown by airlab.progress
    os.environ.setdefault("DS_LOG_LEVEL", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
