"""docs/CONFIGURATION.md is what the schemas say."""

from pydantic import BaseModel

from airlab.cli.main import VERBS
from tests.docs_scripts import load

writer = load("configuration")


def test_the_page_is_current() -> None:
    assert writer.PAGE.read_text(encoding="utf-8") == writer.page(), "run `make docs` and commit the page"


def test_every_command_and_every_experiment_has_its_settings_on_the_page() -> None:
    page = writer.page()
    assert all(f"### `airlab {verb}`" in page for verb in VERBS)
    for name, model in writer.experiments():
        own = page.split(f"### `experiment={name}`")[1]
        missing = model.model_fields.keys() - writer.Experiment.model_fields.keys()
        assert missing and all(f"| `{field}` |" in own for field in missing), name


def test_every_class_that_a_setting_links_to_has_a_heading() -> None:
    class Inner(BaseModel):
        value: int = 3
        """What | it holds."""

    class Outer(BaseModel):
        inner: Inner | None = None

    assert writer._fields(Outer)[2] == "| `inner` | [Inner](#inner) or null | `null` |  |"
    assert writer._fields(Inner)[2] == "| `value` | integer | `3` | What \\| it holds. |"
    page = writer.page()
    headings = {line.lstrip("# ").lower() for line in page.splitlines() if line.startswith("##")}
    linked = {part.split(")")[0] for part in page.split("](#")[1:]}
    assert linked and linked <= headings
