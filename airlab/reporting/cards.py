"""The README.md beside what is exported: a data set's card, or a model's. What is not known is not said."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airlab.reporting.formats import escape, grid

CITATION = """\
```bibtex
@article{attentioninfluence,
  title = {AttentionInfluence: Adopting Attention Head Influence for Weak-to-Strong Pretraining Data
           Selection},
  author = {Hua, Kai and others},
  journal = {arXiv preprint arXiv:2505.07293},
  year = {2025}
}
@article{air,
  title = {AIR: Post-training Data Selection for Reasoning via Attention Head Influence},
  author = {Liu, Jinrui and Wu, Jeff and Pan, Xuanguang and Cheung, Gavin and Ma, Shuai and Tao, Chongyang},
  journal = {arXiv preprint arXiv:2512.13279},
  year = {2025}
}
@software{airlab,
  title = {airlab},
  author = {{The airlab authors}}
}
```"""

LIMITS = (
    "The score rewards text that a model knows by heart: licence notices, templates and repeated passages "
    "rank high. Look at what was selected.",
    "Levels differ between kinds of text, so scores of different domains cannot be compared.",
    "At small scale no selector, attention influence included, has been shown to beat a random share of the "
    "same pool at equal tokens; airlab's published tables say what was tried.",
    "Nothing was removed or checked besides: personal data, unwanted content and wrong statements of the "
    "input are in the selection as well.",
)


@dataclass(frozen=True)
class Selection:
    """What a selection's card says.

    Attributes:
        name: of the data set.
        given, broken: records of the input, and those of them that cannot be read.
        domains: by domain, how many were exported and how many tokens they have for the model that scored.
        origin: how they were chosen (see `airlab.cli.outputs.ORIGIN`); None where the selection does not say.
        licences, sources: how many of each; empty where the input does not say.
        made_by: airlab's version and commit.
    """

    name: str
    given: int
    broken: int
    domains: Mapping[str, tuple[int, int]]
    origin: Mapping[str, Any] | None
    licences: Mapping[str, int]
    sources: Mapping[str, int]
    made_by: str

    @property
    def what(self) -> str:
        """What was selected, in words."""
        scores = (self.origin or {}).get("scores") or {}
        return f"{scores.get('unit', 'document')}s"

    @property
    def exported(self) -> int:
        return sum(documents for documents, _ in self.domains.values())


def data_card(selection: Selection, loading: str, data_files: str | None) -> str:
    """The card of exported documents.

    Args:
        loading: Markdown that says how a trainer reads the folder.
        data_files: a pattern of the files that a hub shows as a data set; None where there are none.
    """
    return "\n".join(
        [
            _header(
                license="other" if selection.licences else "unknown",
                tags=["airlab", "data-selection"],
                size_categories=[_size(selection.exported)],
                **({} if data_files is None else {"configs": _configs(data_files)}),
            ),
            f"# {escape(selection.name)}",
            "",
            f"{selection.exported} of {selection.given} {selection.what}, selected with airlab.",
            "",
            *grid(("domain", selection.what, "tokens"), _domain_rows(selection)),
            "",
            "Tokens are those the scoring model predicts.",
            *([f"{selection.broken} records of the input cannot be read."] if selection.broken else []),
            "",
            "## How they were selected",
            "",
            *_origin(selection),
            "",
            "## How to read them",
            "",
            loading,
            "",
            "## Licences and sources",
            "",
            *_counted("licence", selection.licences, selection.what),
            "",
            *_counted("source", selection.sources, selection.what),
            "",
            "## Limits",
            "",
            *(f"- {limit}" for limit in LIMITS),
            "",
            "## How to cite",
            "",
            CITATION,
            "",
        ]
    )


def _header(**facts: Any) -> str:
    """The YAML between dashes that hubs read; JSON is YAML."""
    return "\n".join(["---", *(f"{name}: {json.dumps(value)}" for name, value in facts.items()), "---", ""])


def _configs(data_files: str) -> list[dict[str, Any]]:
    return [{"config_name": "default", "data_files": [{"split": "train", "path": data_files}]}]


_SIZES = {10**3: "n<1K", 10**4: "1K<n<10K", 10**5: "10K<n<100K", 10**6: "100K<n<1M", 10**7: "1M<n<10M"}


def _size(count: int) -> str:
    """The hub's word for so many rows."""
    larger = {10**8: "10M<n<100M", 10**9: "100M<n<1B", 10**10: "1B<n<10B"}
    return next((word for bound, word in {**_SIZES, **larger}.items() if count < bound), "10B<n<100B")


def _domain_rows(selection: Selection) -> list[tuple[str, str, str]]:
    return [(name, f"{d:,}", f"{t:,}") for name, (d, t) in sorted(selection.domains.items())]


def _origin(selection: Selection) -> list[str]:
    """What is known of selector, scores and model, one line each."""
    made = f"Exported by {selection.made_by}."
    if selection.origin is None:
        return [f"- {made}", "- The selection does not say by which selector and scores it was made."]
    origin, scores = selection.origin, selection.origin.get("scores")
    selector = dict(origin["selector"])
    within = "within each domain" if origin["scope"] == "domain" else "over all domains together"
    lines = [
        f"Selector: {code(selector.pop('kind'))}" + (f" with {_settings(selector)}" if selector else ""),
        f"Share: {origin['share']:.4g} of the {_unit(selection)}, {within}; seed {origin['seed']}",
    ]
    if scores is None:
        lines.append("The scores do not say with which model they were made.")
    else:
        lines += [
            f"Scores: fingerprint {code(scores['fingerprint'])}, of each {escape(scores['unit'])}",
            f"Model: {model_words(scores['model'])}",
            f"Heads: {escape(scores['heads'])}",
            f"Reference model: {_settings(scores['masking'])}",
        ]
    return [*(f"- {line}" for line in lines), f"- {made}"]


def _unit(selection: Selection) -> str:
    """What the share counts."""
    assert selection.origin is not None
    return "tokens" if selection.origin["unit"] == "tokens" else selection.what


def model_words(model: Mapping[str, Any]) -> str:
    """Where a model comes from, in words."""
    if model["kind"] == "wheel":
        wheel = model["wheel"]
        return (
            f"{code(model['member'])} of {code(wheel['file'])} (sha-256 {code(wheel['sha256'])}), licence "
            f"{escape(model['licence'])}"
        )
    if model["kind"] == "hub":
        return f"{code(model['name'])} at revision {code(model['revision'])}"
    if model["kind"] == "trained":
        return f"trained from scratch, fingerprint {code(model['fingerprint'])}"
    return f"a local one, weights' content hash {code(model['sha256'])}"


def code(text: str) -> str:
    """Text in Markdown's code quotes."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{escape(name)} {code(json.dumps(value))}" for name, value in sorted(values.items()))


def _counted(what: str, counts: Mapping[str, int], of: str) -> list[str]:
    if not counts:
        return [f"No column of the input says the {what}."]
    rows = [(name, f"{n:,}") for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return grid((what, of), rows)


@dataclass(frozen=True)
class Training:
    """What a checkpoint's card says.

    Attributes:
        name: of the cell: experiment, scale, arm and seed.
        what: how it came to be, in a sentence.
        facts: what was trained on and how, by name.
        evaluation: rows of a task with its direction and the arm's value with its interval; empty where no
            published table holds this very model.
        seeds: of the arm in that table.
        units: what is counted by licence, in words.
        licence: what follows from that, in a sentence.
    """

    name: str
    what: str
    facts: Mapping[str, str]
    evaluation: Sequence[tuple[str, str]]
    seeds: str
    units: str
    licences: Mapping[str, int]
    licence: str


def model_card(training: Training) -> str:
    """The card of an exported checkpoint."""
    evaluation = ["No published table holds this very model."]
    if training.evaluation:
        evaluation = [
            f"Values of the arm over {training.seeds}, of which this is one, with their intervals.",
            "",
            *grid(("task", "value"), training.evaluation),
        ]
    return "\n".join(
        [
            _header(
                license="other",
                library_name="transformers",
                pipeline_tag="text-generation",
                tags=["airlab", "data-selection"],
            ),
            f"# {escape(training.name)}",
            "",
            training.what,
            "",
            "```python",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            'model = AutoModelForCausalLM.from_pretrained("FOLDER")',
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
            "```",
            "",
            "## Training",
            "",
            *(f"- {name}: {value}" for name, value in training.facts.items()),
            "",
            "## Evaluation",
            "",
            *evaluation,
            "",
            "## Limits",
            "",
            "- Trained to compare ways of selecting data, not to be used: it is small, has seen little text, "
            "and was neither aligned nor checked for what it says.",
            "",
            "## Licences of what it was trained on",
            "",
            training.licence,
            "",
            *_counted("licence", training.licences, training.units),
            "",
            "## How to cite",
            "",
            CITATION,
            "",
        ]
    )
