"""Provenance tells code, packages and hardware, and nothing about whose machine it was."""

import getpass
import json
import platform
import subprocess
import sys
from pathlib import Path

from airlab.store.provenance import provenance, source_digests


def test_it_tells_what_a_reader_needs() -> None:
    facts = provenance()
    assert facts["python"] == platform.python_version()
    assert {"numpy", "pydantic", "torch"} <= facts["packages"].keys()
    assert facts["cores"] >= 1
    assert facts["memory_bytes"] > 1 << 28
    assert "store" in facts["sources"]
    json.dumps(facts, allow_nan=False)


def test_it_tells_nothing_about_whose_machine_it_was() -> None:
    text = json.dumps(provenance())
    assert str(Path(__file__).parents[3]) not in text
    assert str(Path.home()) not in text
    for private in (platform.node(), getpass.getuser()):
        assert f'"{private}"' not in text


def test_it_imports_none_of_the_packages_it_names() -> None:
    code = (
        "import sys; from airlab.store.provenance import provenance; provenance(); "
        "assert not {'torch', 'transformers', 'datasets', 'hydra'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


def test_a_source_digest_follows_names_and_contents_of_its_package_alone(tmp_path: Path) -> None:
    for name in ("top.py", "a/one.py", "b/two.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    before = source_digests(tmp_path)
    assert set(before) == {"", "a", "b"}
    (tmp_path / "a" / "one.py").write_text("x = 2\n")
    after = source_digests(tmp_path)
    assert after["a"] != before["a"]
    assert (after[""], after["b"]) == (before[""], before["b"])
    (tmp_path / "b" / "two.py").rename(tmp_path / "b" / "three.py")
    assert source_digests(tmp_path)["b"] != before["b"]
