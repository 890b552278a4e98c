"""What is installed is pinned by version and hash, and the licences of all of it stand on one page."""

import re
from email.message import Message
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.docs_scripts import load
from tests.faults.ledger import count

ROOT = Path(__file__).parents[3]
WITHOUT_HASHES = {"torch", "triton"}
"""Built for each machine: the file for a CPU is another one than that for a GPU."""


LICENCES = load("licences")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(text: str) -> dict[str, tuple[str, int]]:
    """Name → version and number of hashes."""
    found = {}
    for block in re.split(r"\n(?=\S)", text.strip()):
        name, version = re.match(r"([\w.-]+)==([^\s;]+)", block).groups()  # type: ignore[union-attr]
        found[normal(name)] = version, len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block))
    return found


def test_every_tested_version_is_locked_with_hashes_and_nothing_else() -> None:
    versions = {normal(name): version for name, version in LICENCES.pinned().items()}
    lock = locked((ROOT / "requirements.lock").read_text())
    assert {name: version for name, (version, _) in lock.items()} == {
        name: version for name, version in versions.items() if name not in WITHOUT_HASHES
    }
    assert min(hashes for _, hashes in lock.values()) >= 1
    count("supply chain", "packages pinned by version and sha-256", inputs=len(lock))


def test_no_pin_is_refused_by_a_package_that_is_installed() -> None:
    pins = {normal(name): version for name, version in LICENCES.pinned().items()}
    asked = [
        (name, requirement)
        for name, _, says in LICENCES.packages()
        if says is not None
        for requirement in map(Requirement, requires(name) or ())
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if normal(requirement.name) in pins
    ]
    assert len(asked) > 50
    refused = [
        f"{name} wants {requirement}"
        for name, requirement in asked
        if not requirement.specifier.contains(pins[normal(requirement.name)], prereleases=True)
    ]
    assert refused == []


def test_the_lock_names_no_place() -> None:
    assert not re.search(r"https?:|file:|index-url|find-links", (ROOT / "requirements.lock").read_text())


def rows_of(page: str) -> dict[str, tuple[str, str]]:
    """Name → version and licence, as the page shows them."""
    cells = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    rows = ((name, version, licence.replace("\\|", "|")) for name, version, licence in cells)
    return {name: (version, licence) for name, version, licence in rows if name != "name"}


def contradicted(page: str) -> list[str]:
    """Packages that are installed as pinned, and say another licence than the page."""
    shown = rows_of(page)
    return [name for name, _, says in LICENCES.packages() if says is not None and shown[name][1] != says]


def test_every_package_and_text_has_its_licence_on_the_page() -> None:
    shown = rows_of(LICENCES.PAGE.read_text())
    packages, texts = list(LICENCES.packages()), list(LICENCES.texts())
    assert {name: version for name, (version, _) in shown.items()} == {
        name: version for name, version, _ in (*packages, *texts)
    }
    assert contradicted(LICENCES.PAGE.read_text()) == []
    assert [name for name, _, _ in packages if shown[name][1] == LICENCES.UNKNOWN] == []
    assert {name: shown[name][1] for name, _, _ in texts} == {name: licence for name, _, licence in texts}
    assert len(texts) > 10 and len(packages) > 90
    count("supply chain", "licences of packages, texts and models on one page", inputs=len(shown))


@pytest.mark.parametrize("name", ["numpy", "transformers", "torch", "hydra-core"])
def test_another_licence_than_the_installed_package_says_is_noticed(name: str) -> None:
    page = LICENCES.PAGE.read_text()
    version, licence = rows_of(page)[name]
    if {known: says for known, _, says in LICENCES.packages()}[name] is None:
        pytest.skip(f"{name} is not installed as pinned")
    row = f"| {name} | {version} | {licence} |"
    assert row in page
    assert contradicted(page.replace(row, f"| {name} | {version} | Proprietary |")) == [name]


def test_the_page_is_not_written_where_a_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LICENCES, "pinned", lambda: {"numpy": "0.0.1"})
    with pytest.raises(LookupError, match=r"not installed as pinned in constraints\.txt: numpy"):
        LICENCES.page()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"License-Expression": "MIT"}, "MIT"),
        ({"Classifier": "License :: OSI Approved :: Apache Software License"}, "Apache Software License"),
        ({"License": "BSD\nlong text"}, "BSD"),
        ({}, "unknown"),
    ],
)
def test_a_licence_that_nobody_states_is_unknown(fields: dict[str, str], told: str) -> None:
    message = Message()
    for name, value in fields.items():
        message[name] = value
    assert LICENCES.licence_of(message) == told
