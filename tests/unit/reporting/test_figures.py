"""Figures hold what the files say, can stand in any page, and are the same each time."""

import csv
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from airlab.errors import UserError
from airlab.reporting.figures import Figure, draw_all, save
from airlab.reporting.figures.canvas import Sheet, printable, shortened, style, text_width
from airlab.reporting.figures.inline import inline
from airlab.reporting.figures.palette import DARK, LIGHT, diverging, sequential
from airlab.reporting.figures.results import ESTIMATES, GATHERED

RESULTS = Path(__file__).parents[3] / "results"
FOLDERS = sorted(path.parent for path in RESULTS.rglob("lock.json"))
MAIN = RESULTS / "attention_influence/main/laptop"
CONTROLS = RESULTS / "attention_influence/controls/laptop"
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '$x_1$ <script>alert("1")</script> & --> ]]> \u202e\x07'


@cache
def drawn(folder: Path) -> dict[str, Figure]:
    return {figure.name: figure for figure in draw_all(folder)}


def titles(figure: Figure) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(figure.svg).iter(f"{SVG}title")]


def texts(figure: Figure) -> str:
    root = ElementTree.fromstring(figure.svg)
    return "\n".join("".join(element.itertext()) for element in root.iter(f"{SVG}text"))


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The main table's folder, to be changed."""
    return Path(shutil.copytree(MAIN, tmp_path / "laptop"))


def changed(folder: Path, name: str, change: Any) -> Path:
    data = json.loads((folder / name).read_text())
    change(data)
    (folder / name).write_text(json.dumps(data))
    return folder


def test_every_results_folder_has_figures_of_its_own_and_of_its_cost() -> None:
    assert len(FOLDERS) >= 8
    for folder in FOLDERS:
        assert {"cost"} <= drawn(folder).keys() and len(drawn(folder)) > 1, folder


def test_every_kind_that_is_promised_is_drawn() -> None:
    names = {name for folder in FOLDERS for name in drawn(folder)}
    assert names >= {
        "effects",
        "effects-baseline",
        "head-map",
        "score-distributions",
        "confounds",
        "audit-within",
        "audit-all",
        "overlap",
        "training",
        "held-out",
        "masking-lost",
        "masking-tasks",
        "masking-draws",
        "checkpoint-maps",
        "probe-variants",
        "variant-effects",
        "step-evidence",
        "coverage",
        "cost",
    }


@pytest.mark.parametrize("folder", [f for f in FOLDERS if (f / ESTIMATES).exists()], ids=str)
def test_every_variant_is_in_the_forest_plots(folder: Path) -> None:
    found = json.loads((folder / ESTIMATES).read_text())
    for name, key in (("effects", "verdicts"), ("effects-baseline", "against_baseline")):
        said = titles(drawn(folder)[name])
        for variant, given in found[key].items():
            told = [text for text in said if text.startswith(variant.replace("_", " ") + ":")]
            # An interval, a point, and what would have been missed.
            assert len(told) == 3, variant
            assert f"{abs(given['composite']['value']):.2f}" in told[-1]


def test_the_ends_of_intervals_are_where_the_numbers_say() -> None:
    found = json.loads((MAIN / ESTIMATES).read_text())["verdicts"]
    lines = {
        tuple(float(x) for x in line.get_xdata())
        for axes in drawn(MAIN)["effects"].drawing.axes
        for line in axes.lines
    }
    ends = [(given["composite"]["low"], given["composite"]["high"]) for given in found.values()]
    assert lines.issuperset(ends)


def test_intervals_lie_in_the_picture_in_proportion() -> None:
    """Through matplotlib and our rewriting: the path under a title ends where its numbers are."""
    found = json.loads((MAIN / ESTIMATES).read_text())["verdicts"]
    root = ElementTree.fromstring(drawn(MAIN)["effects"].svg)
    scale = set()
    for group in root.iter(f"{SVG}g"):
        title, path = group.find(f"{SVG}title"), group.find(f"{SVG}path")
        if title is None or path is None or "would" in str(title.text):
            continue
        variant = str(title.text).partition(":")[0].replace(" ", "_")
        left, right = (float(x) for x in re.findall(r"[ML]([\d.]+) [\d.]+", path.get("d", "")))
        ends = found[variant]["composite"]
        scale.add(round((right - left) / (ends["high"] - ends["low"]), -1))
    assert len(scale) == 1


@pytest.mark.parametrize("folder", [MAIN, CONTROLS], ids=str)
def test_figures_are_the_same_each_time(folder: Path) -> None:
    assert [figure.svg for figure in draw_all(folder)] == [figure.svg for figure in drawn(folder).values()]


def test_ids_are_unique_over_all_figures_of_a_page() -> None:
    ids = [
        element.get("id")
        for folder in FOLDERS
        for figure in drawn(folder).values()
        for element in ElementTree.fromstring(figure.svg).iter()
        if element.get("id")
    ]
    assert len(ids) > 100
    assert len(set(ids)) == len(ids)


def every() -> Iterator[Figure]:
    for folder in FOLDERS:
        yield from drawn(folder).values()


def test_links_lead_to_the_figure_itself() -> None:
    for figure in every():
        root = ElementTree.fromstring(figure.svg)
        own = {element.get("id") for element in root.iter()}
        links = [element.get("href") for element in root.iter() if element.get("href")]
        links += re.findall(r"url\(([^)]*)\)", figure.svg)
        assert all(link.startswith("#") and link[1:] in own for link in links if link)


def test_nothing_is_fetched_run_or_styled_beyond_the_figure() -> None:
    allowed = {"svg", "g", "defs", "path", "use", "text", "title", "clipPath", "rect", "pattern", "tspan"}
    for figure in every():
        assert figure.svg.replace('xmlns="http://www.w3.org/2000/svg"', "", 1).count("http") == 0
        tags = {element.tag for element in ElementTree.fromstring(figure.svg).iter()}
        assert {tag.removeprefix(SVG) for tag in tags} <= allowed


def test_colours_are_variables_of_the_style_sheet() -> None:
    assert LIGHT.keys() == DARK.keys()
    for figure in every():
        assert set(re.findall(r"var\(--fig-([a-z0-9-]+)\)", figure.svg)) <= LIGHT.keys()
        loose = re.sub(r"#[\w-]+-\d+", "", figure.svg)
        assert re.findall(r"#[0-9a-fA-F]{3,8}\b(?![^<]*</title>)", loose) == []


def contrast(one: str, other: str) -> float:
    """As WCAG 2 counts it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read_on_every_ground(colours: dict[str, str]) -> None:
    for name in colours:
        if name in ("paper", "band") or name.startswith(("up-", "down-")):
            assert contrast(colours["ink"], colours[name]) >= 4.5, name
    assert contrast(colours["muted"], colours["paper"]) >= 4.5
    for name in ("blue", "orange", "green", "purple", "yellow", "sky"):
        assert contrast(colours[name], colours["paper"]) >= 3, name


def boxes(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Every text that is drawn with the room it takes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    shown: list[Text] = []
    draw = Text.draw

    def drawing(self: Text, renderer: Any) -> None:
        shown.append(self)
        draw(self, renderer)

    canvas = FigureCanvasAgg(figure.drawing)
    with monkeypatch.context() as patched:
        patched.setattr(Text, "draw", drawing)
        canvas.draw()
    renderer = canvas.get_renderer()
    return [
        (text.get_text(), text.get_window_extent(renderer))
        for text in shown
        if text.get_visible() and text.get_text().strip()
    ]


def badly_placed(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found = boxes(figure, monkeypatch)
    width, height = figure.drawing.bbox.width, figure.drawing.bbox.height
    wrong = [
        f"{words} is cut off"
        for words, box in found
        if box.x0 < -0.5 or box.y0 < -0.5 or box.x1 > width + 0.5 or box.y1 > height + 0.5
    ]
    for number, (words, box) in enumerate(found):
        for other_words, other in found[:number]:
            across = min(box.x1, other.x1) - max(box.x0, other.x0)
            down = min(box.y1, other.y1) - max(box.y0, other.y0)
            if across > 1 and down > 2.5:
                wrong.append(f"{words} lies on {other_words}")
    return wrong


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_no_text_is_cut_off_or_lies_on_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for figure in drawn(folder).values():
        assert badly_placed(figure, monkeypatch) == [], figure.name


def test_text_on_text_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with style():
        sheet = Sheet(60)
        sheet.text(20, 20, "one thing")
        sheet.text(30, 24, "another thing")
        sheet.text(360, 50, "beyond the edge")
        figure = sheet.finish("0", "x", "x", "x", ())
    assert badly_placed(figure, monkeypatch) == [
        "beyond the edge is cut off",
        "another thing lies on one thing",
    ]


def test_no_text_is_smaller_than_a_phone_can_show() -> None:
    for figure in every():
        assert ' width="400"' in figure.svg
        sizes = re.findall(r"font:\s*(?:\w+ )*([\d.]+)px|font-size:\s*([\d.]+)px", figure.svg)
        assert sizes
        assert min(float(one or other) for one, other in sizes) >= 10


def test_captions_say_how_many() -> None:
    for figure in every():
        assert re.search(r"\d", figure.caption), figure.name
        assert figure.sources


def test_an_unknown_value_is_drawn_as_unknown_and_never_as_nothing(copied: Path) -> None:
    def forget(data: dict[str, Any]) -> None:
        data["verdicts"]["entropy"] = None
        composite = data["verdicts"]["length"]["composite"]
        composite["low"] = composite["high"] = data["verdicts"]["length"]["p_holm"] = None

    figure = {f.name: f for f in draw_all(changed(copied, ESTIMATES, forget))}["effects"]
    said = titles(figure)
    assert "entropy: unknown" in said
    assert any("[unknown]" in text and "p unknown" in text for text in said if text.startswith("length"))
    assert "?" in texts(figure)
    assert not any("+0.00" in text for text in said if text.startswith("entropy"))


def test_a_stage_that_took_no_time_is_unknown(copied: Path) -> None:
    figure = {
        f.name: f for f in draw_all(changed(copied, "lock.json", lambda d: d["wall_s"].update(pretrain=0.0)))
    }["cost"]
    assert "unknown" in texts(figure)
    assert "Unknown: pretrain" in figure.caption


def test_a_hostile_name_is_a_name(copied: Path) -> None:
    def rename(data: dict[str, Any]) -> None:
        data["verdicts"][HOSTILE] = data["verdicts"].pop("entropy")
        for cell in data["cells"]:
            if cell["variant"] == "entropy":
                cell["variant"] = HOSTILE

    def rename_domain(data: dict[str, Any]) -> None:
        data["scores"]["domains"][0]["domain"] = data["confounds"]["domains"][0] = HOSTILE

    changed(changed(copied, ESTIMATES, rename), GATHERED, rename_domain)
    figures = {figure.name: figure for figure in draw_all(copied)}
    for name in ("effects", "score-distributions", "confounds", "held-out"):
        svg = figures[name].svg
        assert "<script" not in svg
        assert "\u202e" not in svg and "\x07" not in svg
        said = "\n".join(titles(figures[name]))
        assert 'alert("1")</script> & --> ]]>' in said


def test_a_long_name_is_shortened_and_not_cut_off(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "a_selector_with_a_name_that_nobody_would_want_to_type_twice_in_a_day" * 3

    def rename(data: dict[str, Any]) -> None:
        data["verdicts"][name] = data["verdicts"].pop("entropy")
        data["against_baseline"][name] = data["against_baseline"].pop("entropy")
        for cell in data["cells"]:
            if cell["variant"] == "entropy":
                cell["variant"] = name

    for figure in draw_all(changed(copied, ESTIMATES, rename)):
        assert badly_placed(figure, monkeypatch) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (ESTIMATES, "{"),
        (ESTIMATES, "[]"),
        (ESTIMATES, '{"title": "x"}'),
        (GATHERED, '{"format": "airlab-figures/0"}'),
        (GATHERED, '{"format": "airlab-figures/1", "scores": {"edges": "x"}}'),
        ("lock.json", "{}"),
        ("maps.csv", "seed,tokens\r\nx,y\r\n"),
    ],
)
def test_a_file_that_is_not_airlabs_is_named_in_a_sentence(copied: Path, name: str, content: str) -> None:
    (copied / name).write_text(content)
    with pytest.raises(UserError, match="restore"):
        draw_all(copied)


def test_saved_files_are_whole_and_the_same_each_time(tmp_path: Path) -> None:
    figures = [drawn(MAIN)["effects"], drawn(MAIN)["cost"]]
    save(figures, tmp_path / "a")
    save(figures, tmp_path / "b")
    for name in ("effects.svg", "effects.png", "cost.svg", "cost.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    root = ElementTree.parse(tmp_path / "a" / "effects.svg").getroot()
    style_sheet = root.findtext(f"{SVG}style") or ""
    assert "prefers-color-scheme:dark" in style_sheet
    assert root.findtext(f"{SVG}desc") == figures[0].caption
    assert (tmp_path / "a" / "effects.png").read_bytes().startswith(b"\x89PNG")


def test_matplotlib_is_imported_by_the_first_figure_alone() -> None:
    import subprocess
    import sys

    code = "import sys, airlab.reporting.figures; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=RESULTS.parent)


def test_the_users_own_matplotlib_settings_change_nothing() -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        again = {figure.name: figure for figure in draw_all(MAIN)}
    assert again["cost"].svg == drawn(MAIN)["cost"].svg


def test_shades_grow_with_the_value_and_stop_at_the_ends() -> None:
    up = [sequential(value, 1.0) for value in (0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    assert up == [LIGHT[f"up-{step}"] for step in range(6)]
    assert sequential(7, 1.0) == LIGHT["up-5"] and sequential(0.5, 0.0) == LIGHT["up-0"]
    assert diverging(-1) == LIGHT["down-5"] and diverging(1) == LIGHT["up-5"]
    assert diverging(-0.01) == diverging(0.01) == LIGHT["up-0"]


def test_shortened_words_fit() -> None:
    assert shortened("short", 100) == "short"
    words = shortened("a very long name indeed", 60)
    assert words.endswith("…") and text_width(words) <= 60
    assert printable("a\nb\x00c\u202ed") == "a b c d"


def test_titles_without_marks_are_a_mistake() -> None:
    svg = f'<svg xmlns="{SVG[1:-1]}" viewBox="0 0 1 1"><g id="m"><path d=""/></g></svg>'
    with pytest.raises(RuntimeError, match="2 titles for 1 marks"):
        inline(svg, "x", "x", {"m": ("one", "two")})
    with pytest.raises(RuntimeError, match="nothing was drawn"):
        inline(svg, "x", "x", {"n": ("one",)})


def test_every_arm_of_the_coverage_audit_stands_where_its_numbers_say_in_every_domain() -> None:
    folder = next(folder for folder in FOLDERS if folder.parent.name == "coverage_audit")
    with (folder / "coverage.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    figure = drawn(folder)["coverage"]
    points = [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for axes in figure.drawing.axes
        for line in axes.lines
    ]
    assert points == [(float(row["covered"]), float(row["bits_per_byte"])) for row in rows]
    said = titles(figure)
    assert all(any(t.startswith(f"{r['arm'].replace('_', ' ')}, {r['domain']}:") for t in said) for r in rows)
    marks = {
        (line.get_color(), line.get_marker(), line.get_markerfacecolor())
        for axes in figure.drawing.axes
        for line in axes.lines
    }
    assert len(marks) == len({row["arm"] for row in rows})
