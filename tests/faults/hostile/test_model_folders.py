"""A model folder made by somebody else: nothing in it is run, nothing outside it is read, nothing hangs."""

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from airlab.errors import UserError
from airlab.models.load import load_causal_lm
from airlab.store.files import Files
from tests.faults.hostile.planted import Evil
from tests.faults.ledger import count
from tests.unit.cli.model_folders import random_folder

Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_folder(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    return shutil.copytree(base, tmp_path / "model")


def settings(name: str = "config.json", **changes: object) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def content(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text)


def weights(header: object, data: bytes = b"", length: int | None = None) -> Change:
    """A safetensors file of this header, which says that it has `length` bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    whole = struct.pack("<Q", len(text) if length is None else length) + text + data
    return lambda folder: (folder / "model.safetensors").write_bytes(whole)


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def index(name: str) -> Change:
    """Weights that lie under another name, as an index says."""

    def change(folder: Path) -> None:
        with safe_open(folder / "model.safetensors", framework="pt") as file:
            names = dict.fromkeys(file.keys(), name)
        shutil.copy(folder / "model.safetensors", folder / "decoy.safetensors")
        (folder / "model.safetensors").rename(folder / name)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))

    return change


DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000

REFUSED: dict[str, tuple[Change, str]] = {
    "code of its own": (settings(auto_map={"AutoModelForCausalLM": "evil.Model"}), "never done"),
    "code of an unknown type": (settings(model_type="evil", auto_map={"AutoConfig": "evil.C"}), "never done"),
    "code inside of a part": (settings(text_config={"auto_map": {"AutoConfig": "evil.C"}}), "never done"),
    "a kernel from a hub": (settings(_attn_implementation="evil/kernel"), "never run"),
    "a kernel inside of a part": (settings(text_config={"_attn_implementation": "a/b"}), "never run"),
    "packed weights": (settings(quantization_config={"quant_method": "gptq", "bits": 4}), "only dense ones"),
    "packed weights of no kind": (settings(quantization_config="evil"), "only dense ones"),
    "weights elsewhere": (index("../outside.safetensors"), "are never read"),
    "weights that are a pickle": (index("evil.bin"), "are never read"),
    "weights nowhere": (content("model.safetensors.index.json", "{}"), "does not say where"),
    "an endless configuration": (content("config.json", "[" * 100_000), "is not valid JSON"),
    "a deep configuration": (content("config.json", DEEP), "is not valid JSON"),
    "a list for a configuration": (content("config.json", "[1]"), "does not hold a JSON object"),
    "a number for a configuration": (content("config.json", "1"), "does not hold a JSON object"),
    "a deep tokenizer": (content("tokenizer.json", DEEP), "the tokenizer in"),
    "deep settings of a tokenizer": (content("tokenizer_config.json", DEEP), "is not valid JSON"),
    "a list for a tokenizer's settings": (content("tokenizer_config.json", "[1]"), "does not hold"),
    "a list for generation": (content("generation_config.json", "[1]"), "does not hold"),
    "10^9 layers": (settings(num_hidden_layers=10**9), "its files hold 29 tensors"),
    "negative layers": (settings(num_hidden_layers=-1), "says that it has -1 layers"),
    "layers in words": (settings(num_hidden_layers="x" * 999), "says that it has 'xxx"),
    "10^12 dimensions": (settings(hidden_size=10**12), "cannot be loaded"),
    "10^12 words": (settings(vocab_size=10**12), "cannot be loaded"),
    "no heads": (settings(num_attention_heads=0), "cannot be loaded"),
    "a type that is a list": (settings(model_type=["llama"]), "cannot be loaded"),
    "a dtype that is code": (settings(dtype="__import__('os')"), "cannot be loaded"),
    "a header of 2^63 bytes": (weights({}, length=2**63), "is not a whole safetensors file"),
    "a header beyond the end": (weights({}, length=10**12), "is not a whole safetensors file"),
    "an endless header": (weights(b"[" * 100_000), "is not a whole safetensors file"),
    "tensors over each other": (
        weights({"a": tensor([32], 0, 128), "b": tensor([32], 0, 128)}, bytes(128)),
        "is not a whole safetensors file",
    ),
    "a tensor out of range": (
        weights({"a": tensor([32], 10**12, 10**12 + 128)}, bytes(128)),
        "is not a whole safetensors file",
    ),
    "a negative shape": (
        weights({"a": tensor([-32], 0, 128)}, bytes(128)),
        "is not a whole safetensors file",
    ),
    "a shape of 2^64": (
        weights({"a": tensor([2**32, 2**32], 0, 128)}, bytes(128)),
        "is not a whole safetensors file",
    ),
    "a type that is an object": (
        weights({"a": tensor([32], 0, 128, "OBJ")}, bytes(128)),
        "is not a whole safetensors file",
    ),
    "100,000 empty tensors": (
        weights({f"t{i}": tensor([0], 0, 0) for i in range(100_000)}),
        "its files lack",
    ),
    "nothing": (
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        "is not a whole safetensors file",
    ),
    "a word beyond all numbers": (
        content("tokenizer.json", '{"model": {"type": "BPE", "vocab": {"a": 1099511627776}, "merges": []}}'),
        "the tokenizer in",
    ),
    "a link to itself": (
        lambda folder: (
            (folder / "config.json").unlink(),
            (folder / "config.json").symlink_to("config.json"),
        ),
        "it has no config.json",
    ),
    "a pipe for a configuration": (
        lambda folder: ((folder / "config.json").unlink(), os.mkfifo(folder / "config.json")),
        "it has no config.json",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_made_up_folder_is_refused_in_one_sentence(folder: Path, case: str) -> None:
    change, told = REFUSED[case]
    change(folder)
    with pytest.raises(UserError) as refusal:
        load_causal_lm(folder)
    assert told in str(refusal.value)
    count("hostile", "model folders that were made up: refused", inputs=1)


def test_each_of_them_is_only_refused_for_what_was_changed(folder: Path) -> None:
    assert load_causal_lm(folder).geometry.layers == 3


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "evil.bin", "optimizer.pt", "tokenizer.pkl"]
)
def test_a_pickle_is_not_opened_with_weights_beside_it_or_without(
    folder: Path, tmp_path: Path, name: str
) -> None:
    mark = tmp_path / "mark"
    torch.save(Evil(mark), folder / name)
    load_causal_lm(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="pickle formats"):
        load_causal_lm(folder)
    assert not mark.exists()
    count("hostile", "pickles in model and run folders: never opened", inputs=2)


def test_a_pickle_that_an_index_names_is_not_opened(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    index("evil.bin")(folder)
    torch.save(Evil(mark), folder / "evil.bin")
    with pytest.raises(UserError, match="never read"):
        load_causal_lm(folder)
    assert not mark.exists()
    count("hostile", "pickles in model and run folders: never opened", inputs=1)


def test_the_planted_pickle_would_be_seen(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    torch.save(Evil(mark), tmp_path / "evil.bin")
    code = "import sys, torch; torch.load(sys.argv[1], weights_only=False)"
    subprocess.run([sys.executable, "-c", code, tmp_path / "evil.bin"], check=True)
    assert mark.exists()


CODE = {
    "a tokenizer's own class": {"auto_map": {"AutoTokenizer": ["evil.Tok", "evil.Tok"]}},
    "a tokenizer of an unknown class": {
        "auto_map": {"AutoTokenizer": ["evil.Tok", None]},
        "tokenizer_class": "Evil",
    },
    "a class in a module beside it": {"tokenizer_class": "evil.Tok"},
    "a class of the standard library": {"tokenizer_class": "subprocess.Popen"},
}


@pytest.mark.parametrize("case", CODE)
def test_a_tokenizer_runs_no_code_of_its_own(
    folder: Path, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    (folder / "evil.py").write_text(
        f"open({str(mark)!r}, 'w').close()\nfrom transformers import PreTrainedTokenizerFast as Tok\n"
    )
    settings("tokenizer_config.json", **CODE[case])(folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)  # as in a command that is run where the folder is
    try:
        used = type(load_causal_lm(folder).tokenizer).__module__
    except UserError:
        used = "transformers"
    assert used.startswith("transformers") and not mark.exists()
    assert "evil" not in sys.modules
    count("hostile", "code that a tokenizer asks for: never run", inputs=1)


def test_an_adapter_does_not_bring_another_model(folder: Path, base: Path, tmp_path: Path) -> None:
    other = random_folder(tmp_path / "other", seed=1)
    adapter = {
        "peft_type": "LORA",
        "base_model_name_or_path": str(other),
        "r": 2,
        "target_modules": ["q_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    with pytest.raises(UserError, match="holds an adapter"):
        load_causal_lm(folder)
    count("hostile", "model folders that were made up: refused", inputs=1)


def test_a_pipe_in_a_folder_is_refused_and_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "extra.safetensors")
    with pytest.raises(UserError, match="is no file"):
        Files.of(folder)
    count("hostile", "model folders that were made up: refused", inputs=1)


def test_a_linked_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "deeper").symlink_to("/")
    with pytest.raises(UserError, match="links to a folder"):
        Files.of(folder)
    count("hostile", "model folders that were made up: refused", inputs=1)


def test_a_linked_file_is_known_by_its_content(folder: Path, tmp_path: Path) -> None:
    before = Files.of(folder).sha256
    (folder / "config.json").rename(tmp_path / "blob")
    (folder / "config.json").symlink_to(tmp_path / "blob")  # as hubs keep their files
    assert Files.of(folder).sha256 == before
    (tmp_path / "blob").write_text("{}")
    assert Files.of(folder).sha256 != before
