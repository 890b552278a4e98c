"""Whatever a score depends on is part of what it is: another one is never answered with an old result."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file

from tests.faults.ledger import count
from tests.unit.cli.conftest import Airlab, Answer, write_jsonl
from tests.unit.cli.model_folders import random_folder

Score = Callable[..., Answer]

ROWS = [{"id": f"t{n}", "prompt": f"Why {n}?", "response": f"For {n}.\n\nAnd so on."} for n in range(3)]
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with a chat template of its own."""
    made = random_folder(tmp_path / "model")
    (made / "chat_template.jinja").write_text(TEMPLATE)
    return made


@pytest.fixture
def score(airlab: Airlab, folder: Path, heads: Path) -> Score:
    write_jsonl(Path("d.jsonl"), ROWS)

    def call(**settings: object) -> Answer:
        given = {
            "model": "local", "model.path": folder, "heads": heads, "unit": "step", "input": "d.jsonl",
            "output": "out.parquet", **settings,
        }  # fmt: skip
        return airlab("score", *(f"{name}={value}" for name, value in given.items()))

    return call


def other_weights(folder: Path) -> None:
    """As another revision of the same model would have."""
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def other_tokenizer(folder: Path) -> None:
    data = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = data["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folder / "tokenizer.json").write_text(json.dumps(data))


def other_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("\n", " "))


def other_configuration(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["rms_norm_eps"] = 1e-4
    (folder / "config.json").write_text(json.dumps(config))


def edited_input(folder: Path) -> None:
    content = Path("d.jsonl").read_text()
    Path("d.jsonl").write_text(content.replace("And so on", "And so in"))


CHANGES = [other_weights, other_tokenizer, other_template, other_configuration, edited_input]


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_score_depends_on_is_measured_again_and_the_old_table_kept(
    score: Score, folder: Path, change: Callable[[Path], None]
) -> None:
    assert score().code == 0
    before = Path("out.parquet").read_bytes()
    change(folder)
    refused = score()
    assert refused.code == 2 and "was made from something else" in refused.sentence
    assert Path("out.parquet").read_bytes() == before
    answer = score(output="other.parquet")
    assert answer.code == 0 and "measure_steps" in answer.err, "measured, not looked up"
    old, new = (pq.read_table(name) for name in ("out.parquet", "other.parquet"))
    assert old.schema.metadata != new.schema.metadata
    assert not old["loss_base"].equals(new["loss_base"])
    count("identity", "another tokenizer, revision, template, configuration or input", faults=1)


@pytest.mark.parametrize(
    "settings",
    [
        {"scoring.precision": "bfloat16"},
        {"scoring.window_tokens": 16, "too_long": "window"},
        {"rendering": "plain"},
        {"masking": "zero"},
        {"input.broken": "quarantine"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_that_matter_are_measured_again(score: Score, settings: dict[str, object]) -> None:
    assert score().code == 0
    refused = score(**settings)
    assert refused.code == 2 and "was made from something else" in refused.sentence
    answer = score(output="other.parquet", **settings)
    assert answer.code == 0 and "measure_steps" in answer.err
    count("identity", "another dtype, window, rendering or masking", faults=1)


@pytest.mark.parametrize("stage", ["import_traces", "measure_steps"])
def test_a_command_does_not_read_an_artifact_that_was_edited_by_hand(
    score: Score, stage: str, tmp_path: Path
) -> None:
    assert score(unit="trace").code == 0
    name = "traces.parquet" if stage == "import_traces" else "losses.parquet"
    (path,) = (tmp_path / "store" / stage).glob(f"*/{name}")
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    answer = score(output="other.parquet", unit="step", **{"aggregation.least_loss": 0.02})
    assert answer.code == 2 and f"its file {name} was changed after it was finished" in answer.sentence
    assert not Path("other.parquet").exists()
    count("identity", "artifacts edited by hand", faults=1)


def test_a_model_edited_between_two_stages_is_noticed(
    score: Score, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airlab.stages.import_traces import ImportTraces

    original = ImportTraces.run

    def run(*arguments: object) -> None:
        original(*arguments)  # type: ignore[arg-type]
        other_weights(folder)

    monkeypatch.setattr(ImportTraces, "run", run)
    answer = score()
    assert answer.code == 2 and f"{folder} was changed while it was used" in answer.sentence
    assert not Path("out.parquet").exists()
    monkeypatch.undo()
    count("identity", "input files edited while they are used", faults=1)


def test_heads_found_in_other_weights_are_refused(score: Score, folder: Path, tmp_path: Path) -> None:
    from airlab.heads.ranking import HeadRanking, RankedHead, write_ranking
    from airlab.models.load import weights_digest

    heads = tuple(RankedHead(i // 4, i % 4, 0.9 - i / 20, 0.01, 0.9, 0.9) for i in range(12))
    write_ranking(
        tmp_path / "found.json", HeadRanking(weights_digest(folder), 3, 4, 8, 0.9, 0.01, 0.9, heads)
    )
    given = {"heads": tmp_path / "found.json", "masking.share_of_heads": 0.2}
    assert score(**given).code == 0
    other_weights(folder)
    answer = score(output="other.parquet", **given)
    assert answer.code == 2 and "found in another model" in answer.sentence
    count("identity", "heads of another revision", faults=1)
