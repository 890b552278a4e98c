"""Evidence: does step influence find the steps of a trace that matter?

Hypothesis (AIR, arXiv 2512.13279): the loss of steps that carry the reasoning rises most, relative to itself,
when retrieval heads are masked, so that step influence can weight a trace's steps. On generated problems the
kind of every step is known, and no training is needed to ask. Four questions, each an area under the ROC
curve (AUC; one half is chance):

- `padded`: do steps of the solution score above padding, which says nothing new? In padded traces.
- `redundant`: do they score above steps that repeat or derive again what was found? In redundant traces.
- `feeds`: among steps of solutions, do those that find a number on which the answer hangs score above the
  others? In all traces; few solutions have both.
- `wrong`: do right steps score above the false one? In traces with an error, carried on or taken back.

Against the method: an AUC not above one half, in `padded` and `feeds` above all; `redundant` below one half,
for then what is copied scores highest, whether it is needed or not; a cue that needs no reference model
(length, base loss, entropy, share of digits, an equals sign, position) that tells the kinds apart as well; or
the influence of other heads of the same layers doing as well, for then retrieval heads are not what matters.

Known when this was written: a trial of 64 traces of the same generator gave medians of influence of 0.465 for
redundant steps, 0.266 for answers, 0.150 for clean, 0.046 for wrong and -0.064 for padded ones. Of the cues
length alone had an AUC of 0.48 for padded against clean steps, and the share of digits 0.24; so a cue turned
around, here digits, reaches 0.76. No AUC of influence, of other heads or for `feeds` had been computed.
Expected therefore: `padded` well above one half, 0.7 to 0.8, but not above the share of digits for certain;
`redundant` well below one half, 0.2 to 0.3, so the score follows copying; `wrong` about 0.6, as a false
number is a surprise and raises the denominator; `feeds` unknown, near one half. Random heads: near one half.

Analysis plan. The AUC within traces decides: the mean over traces of the AUC among a trace's own steps, as
weights within a trace are what the method is for. The pooled AUC, over all pairs of the same steps, stands
beside it. Influence has a direction, higher is better, and is tested against one half: four p-values,
Holm-corrected. Every other score is compared with influence on the same traces, paired; as a cue may be used
either way, those below one half are turned around, by the same data, which favours them a little. These
differences are Holm-corrected within a question, over all other scores. Errors are by generator: problems of
one are not independent of each other. Levels, medians and AUCs of whole traces (clean ones against each kind
of spoilt ones, by every named aggregation) are described and not tested. Answers, carried steps and
corrections are in no question. No score, level or trace is dropped; steps that share a token with another, if
any, are left out and counted. Random heads are draws 1 and 3: draws 0 and 2 mask [18, 8], which breaks the
model by itself (docs/LOG.md), and that was known before.

At laptop scale there are 360 traces, 120 a level: 72 padded, 54 redundant and 72 with an error; counted after
the above was written, 184 have both steps that feed and steps that do not, and the generators are 100. An AUC
within traces is then known to about 0.05. The model has 135M parameters, too few to solve most of these
problems; whether a larger one's influence says more is a question for `model=hub`. At scale=h100 there are
3,000 traces.

Time at laptop scale on two CPU cores, as planned: three passes over 360 traces; a pass over 64 took 24 to
27 s on one shared core, so 2.3 minutes each there and 7 in all, about half with both cores free. The first
pass took more than twice that beside other work, so draw 3 of the random heads was left to scale=h100. That
was decided while this pass ran, before any loss of it had been looked at. Both passes took 9.2 minutes in the
end. Pool, model and heads, which `main` shares, take 1.4.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt

from airlab.reporting.evidence import NAME, Evidence, evidence_page
from airlab.reporting.findings import Findings
from airlab.reporting.tables import IncompleteTable
from airlab.schema.evaluation import EvaluationSpec
from airlab.schema.traces import Rendering, Segmentation
from airlab.schema.worked_problems import WorkedProblems
from airlab.selection.known_steps import INFLUENCE, read_known
from airlab.stages.build_traces import BuildTraces
from airlab.stages.control_heads import ControlHeads
from airlab.stages.detect_heads import DetectHeads
from airlab.stages.inputs import corpus_stage, model_input
from airlab.stages.masked_model import masked_heads
from airlab.stages.measure_steps import MeasureSteps
from airlab.store.stage import Stage
from airlab.store.store import Store
from experiments.base import Experiment

__all__ = ["NAME", "Config", "find", "selections", "targets"]


class Config(Experiment):
    """What `configs/experiment/air/evidence.yaml` binds to; nothing is selected or trained.

    The corpus is where the probes' sentences come from.
    """

    name: Literal["air/evidence"]
    traces: WorkedProblems
    rendering: Rendering
    random_draws: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
    """Of other heads of the same layers, masked instead."""
    evaluation: EvaluationSpec


def targets(config: Config) -> dict[str, Stage]:
    """The losses of the same steps under each mask, by the score's name."""
    return dict(measured(config))


def measured(config: Config) -> dict[str, MeasureSteps]:
    """The same with the stages' own type; influence first."""
    model = model_input(config.model)
    ranking = DetectHeads(model, corpus_stage(config.corpus), config.probes, config.detection)
    heads: dict[str, Stage] = {INFLUENCE: ranking}
    for draw in config.random_draws:
        heads[f"random_heads_{draw}"] = ControlHeads(ranking, config.masking.share_of_heads, draw)
    traces = BuildTraces(config.traces)
    return {
        name: MeasureSteps(
            model,
            masked,
            config.masking,
            traces,
            config.rendering,
            Segmentation(rule="given"),
            config.scoring,
            too_long="skip",
        )
        for name, masked in heads.items()
    }


def find(config: Config, store: Store, *, partial: bool = False) -> Findings:
    """The page, from measured steps.

    Raises:
        IncompleteTable: losses under a mask are missing and `partial` is off.
    """
    stages = measured(config)
    folders = {name: folder for name, stage in stages.items() if (folder := store.find(stage)) is not None}
    if missing := [name for name in stages if name not in folders]:
        if not partial:
            raise IncompleteTable(f"steps are not measured for {', '.join(missing)}")
        if INFLUENCE in missing:
            return Findings()
    traces = store.find(stages[INFLUENCE].traces)
    if traces is None:
        raise IncompleteTable("the traces are gone, and with them what is known of their steps")
    steps, whole = read_known(traces, folders)
    title = f"Does step influence find the steps that matter? Scale {config.scale}"
    return Findings(pages=(evidence_page(Evidence(title, steps, whole, notes=_notes(config, store))),))


def _notes(config: Config, store: Store) -> tuple[str, ...]:
    record = store.record(measured(config)[INFLUENCE])
    skipped = "unknown" if record is None else record.notes["skipped"]
    return (
        f"Masked: the top {config.masking.share_of_heads:.0%} of heads by retrieval score, "
        f"{config.masking.mode}; for random heads, as many in each of their layers. Too long or without a "
        f"step, and so skipped: {skipped} traces.",
    )


def selections(config: Config, store: Store) -> Mapping[str, Mapping[str, Any]]:
    """Which heads each measurement masked, as (layer, head) pairs counted from 0."""
    return masked_heads(measured(config), store)
