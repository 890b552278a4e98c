"""Worked problems: every recorded kind is true, splits share nothing, one spec gives one text."""

import itertools
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError
from scipy.stats import rankdata

pytest.importorskip("engram_generator")

from airlab.errors import UserError
from airlab.evaluation.tasks.worked import likelihood_items, worked_items
from airlab.schema.machine import Machine
from airlab.schema.traces import Segmentation
from airlab.schema.worked_problems import SPLITS, VARIANTS, Level, Shares, WorkedProblems
from airlab.stages.build_traces import BuildTraces
from airlab.store.plan import Plan
from airlab.store.store import Store
from airlab.text.reasoning import Chain, Drawer
from airlab.text.steps import cut
from airlab.text.traces import Trace, read_traces
from airlab.text.worked.answers import is_right, number_in
from airlab.text.worked.corpus import Corpus, Origin, build_corpus
from airlab.text.worked.equations import equations, evaluate, holds, last_result, mentions, shown
from airlab.text.worked.givens import unexplained
from airlab.text.worked.phrases import LEAD_INS, padding, repetition
from airlab.text.worked.problem import Problem, Refused, carry, feeds, problem
from airlab.text.worked.variants import solution

SPEC = WorkedProblems(
    levels=(Level(name="school", tiers=(0, 1, 2, 3)), Level(name="formulas", tiers=(4,))),
    traces_per_level=140,
    heldout_per_level=20,
    harder_per_level=20,
    unseen_per_level=20,
)
SMALL = SPEC.model_copy(
    update={
        "levels": (Level(name="middle", tiers=(2, 3)),),
        "traces_per_level": 20,
        "heldout_per_level": 3,
        "harder_per_level": 3,
        "unseen_per_level": 3,
    }
)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return build_corpus(SPEC)


def lines(trace: Trace) -> list[tuple[str, str]]:
    """(kind, text) of each step by the recorded ends."""
    assert trace.step_kinds and trace.step_ends
    borders = [0, *trace.step_ends]
    texts = [trace.response[a:b] for a, b in itertools.pairwise(borders)]
    return [(kind, text.removesuffix("\n")) for kind, text in zip(trace.step_kinds, texts, strict=True)]


def of(corpus: Corpus, variant: str) -> list[Trace]:
    """The pool's traces of a variant."""
    ids = {row.unit_id for row in corpus.origins if row.split == "traces" and row.variant == variant}
    return [trace for trace in corpus.traces["traces"] if trace.unit_id in ids]


def bare(text: str) -> str:
    """A step without its lead-in."""
    return next((text[len(words) + 1 :] for words in LEAD_INS if text.startswith(f"{words} ")), text)


def numbers(*texts: str) -> set[float]:
    return {float(number) for text in texts for number in mentions(text)}


def everything(corpus: Corpus) -> list[Trace]:
    return [trace for split in SPLITS for trace in corpus.traces[split]]


# --- what a trace is


def test_lines_are_exactly_the_recorded_steps(corpus: Corpus) -> None:
    for trace in everything(corpus):
        assert cut(trace.response, Segmentation(rule="newline")) == cut(
            trace.response, Segmentation(rule="given"), step_ends=trace.step_ends
        )
        assert trace.step_ends and trace.step_ends[-1] == len(trace.response)
        assert len(trace.step_kinds or ()) == len(trace.response.split("\n"))


def test_the_last_step_and_no_other_is_the_answer(corpus: Corpus) -> None:
    for trace in everything(corpus):
        kinds = trace.step_kinds or ()
        assert kinds[-1] == "answer" and "answer" not in kinds[:-1]
        assert trace.response.count("Answer:") == 1


def test_ids_are_unique_and_follow_the_text(corpus: Corpus) -> None:
    traces = everything(corpus)
    assert len({trace.unit_id for trace in traces}) == len(traces)
    assert len({(trace.prompt, trace.response) for trace in traces}) == len(traces)
    assert all(trace.unit_id.startswith(f"{trace.domain}-") for trace in traces)
    assert {trace.source for trace in traces} == {"engram-generator==0.3.0"}


# --- every kind is true


def test_only_a_carried_error_ends_in_a_wrong_answer(corpus: Corpus) -> None:
    for variant in VARIANTS:
        for trace in of(corpus, variant):
            assert is_right(trace.response, trace.answer or "") == (variant != "wrong_carried")


def test_a_clean_solution_has_clean_steps_whose_equations_hold(corpus: Corpus) -> None:
    checked = 0
    for trace in everything(corpus):
        for kind, text in lines(trace):
            if kind in ("clean", "carried"):
                assert holds(bare(text)), text
                checked += len(equations(bare(text)))
    assert checked > 500
    for trace in of(corpus, "clean"):
        assert {kind for kind, _ in lines(trace)} == {"clean", "answer"}


def test_a_wrong_step_is_false_or_says_another_value_than_its_correction(corpus: Corpus) -> None:
    false = 0
    for trace in of(corpus, "wrong_carried") + of(corpus, "wrong_corrected"):
        wrong = [bare(text) for kind, text in lines(trace) if kind == "wrong"]
        assert len(wrong) == 1
        false += not holds(wrong[0])
    for trace in of(corpus, "wrong_corrected"):
        kinds = [kind for kind, _ in lines(trace)]
        text = dict(lines(trace))
        assert kinds.index("wrong") < kinds.index("correction") and kinds.count("correction") == 1
        before = bare(text["wrong"])[: last_result(bare(text["wrong"]))[0]].rstrip("-")  # type: ignore[index]
        assert before in text["correction"]
        right = text["correction"][text["correction"].index(before) :]
        assert holds(right) and last_result(right) is not None
        assert right.split()[-1] != bare(text["wrong"]).split()[-1] or right != bare(text["wrong"])
    assert false > 30


def test_an_error_is_carried_on_by_at_least_one_true_step(corpus: Corpus) -> None:
    for trace in of(corpus, "wrong_carried"):
        kinds = [kind for kind, _ in lines(trace)]
        assert kinds.count("carried") >= 1 and kinds.index("carried") > kinds.index("wrong")
        value = numbers(dict(lines(trace))["wrong"]) - numbers(trace.prompt)
        assert any(value & numbers(text) for kind, text in lines(trace) if kind == "carried")


def test_nothing_is_made_of_an_error_before_it_is_corrected(corpus: Corpus) -> None:
    for trace in of(corpus, "wrong_corrected"):
        kinds = [kind for kind, _ in lines(trace)]
        texts = [bare(text) for _, text in lines(trace)]
        wrong = texts[kinds.index("wrong")]
        begin, end = last_result(wrong) or (0, 0)
        value = float(wrong[begin:end].lstrip("-"))
        assert value not in numbers(*texts[kinds.index("wrong") + 1 : -1])
        correction = texts[kinds.index("correction")]
        begin, end = last_result(correction) or (0, 0)
        right = float(correction[begin:end].lstrip("-"))
        assert right not in numbers(*texts[kinds.index("wrong") + 1 : kinds.index("correction")])


def test_padding_says_nothing_that_the_question_does_not(corpus: Corpus) -> None:
    count = 0
    for trace in of(corpus, "padded"):
        for kind, text in lines(trace):
            if kind == "padded":
                count += 1
                assert numbers(text) <= numbers(trace.prompt) | {0.0, 1.0}, text
                assert holds(text)
    assert count > 50


def test_a_redundant_step_says_what_an_earlier_step_said(corpus: Corpus) -> None:
    forms: Counter[str] = Counter()
    for trace in of(corpus, "redundant"):
        steps = lines(trace)
        assert "redundant" in dict(steps)
        for index, (kind, text) in enumerate(steps):
            if kind != "redundant":
                continue
            earlier = [bare(said) for _, said in steps[:index]]
            assert earlier and any(numbers(text) <= numbers(said) for said in earlier), text
            forms[
                "word for word"
                if text in earlier
                else "inside"
                if any(s in text for s in earlier)
                else "derived"
            ] += 1
    assert min(forms["word for word"], forms["inside"], forms["derived"]) >= 4


def test_shuffled_steps_are_the_clean_ones_in_another_order() -> None:
    for found in problems():
        steps = solution(found, "shuffled", inserted=0.5, lead_ins=0.0, rng=random.Random(1)).steps
        texts = tuple(step.text for step in steps[:-1])
        assert sorted(texts) == sorted(found.steps) and texts != found.steps


def test_an_answer_alone_is_one_step(corpus: Corpus) -> None:
    for trace in of(corpus, "answer_only"):
        assert trace.response == f"Answer: {trace.answer}" and trace.step_kinds == ("answer",)


def test_the_same_problem_keeps_its_own_steps_in_every_variant() -> None:
    for found in problems():
        clean, padded, redundant = (
            solution(found, variant, inserted=0.5, lead_ins=0.4, rng=random.Random(3))
            for variant in ("clean", "padded", "redundant")
        )
        own = [step for step in clean.steps if step.kind == "clean"]
        assert [step for step in padded.steps if step.kind == "clean"] == own
        assert [step for step in redundant.steps if step.kind == "clean"] == own


def problems() -> list[Problem]:
    """A few by hand, so that what happens to them can be read."""
    chains = [
        Chain("sum", 0, "Add: 17 + 25, then double", ("17+25=42", "42*2=84"), "84", 1),
        Chain("mean", 1, "Mean of: 12, 15, 30", ("12+15+30=57", "57/3=19", "check 19*3"), "19", 1),
        Chain("side", 1, "Side of: a=6 c=10", ("c^2 - a^2 = 100 - 36 = 64", "b = sqrt(64)"), "b = 8 cm", 1),
    ]
    found = [problem(chain, 2, 12, random.Random(5)) for chain in chains if chain.task != "mean"]
    assert all(isinstance(item, Problem) for item in found)
    return [item for item in found if isinstance(item, Problem)]


def test_hand_made_errors_are_carried_to_the_answer() -> None:
    chain = Chain("sum", 0, "Add: 17 + 25, then double", ("17+25=42", "42*2=84"), "total = 84 m", 1)
    error = carry(chain, 0, "43")
    assert error is not None
    assert error.steps == ("17+25=43", "43*2=86") and error.answer == "total = 86 m" and error.first_use == 1
    root = Chain("side", 1, "a=6 c=10", ("100 - 36 = 64", "b = sqrt(64)"), "b = 8 cm", 1)
    found = carry(root, 0, "49")
    assert found is not None and found.steps[1] == "b = sqrt(49)" and found.answer == "b = 7 cm"


@pytest.mark.parametrize(
    ("steps", "answer", "prompt"),
    [
        (("17+25=42", "42*2=84"), "84", "Add 17 + 25 to 42"),  # the question has the number too
        (("17+25=42", "so 42 it is", "42*2=84"), "84", "Add 17 + 25"),  # said where nothing is computed
        (("17+25=42", "50-42=8"), "9", "Add 17 + 25"),  # the answer does not follow
        (("17+25=42", "17*2=34"), "34", "Add 17 + 25"),  # nothing follows
        (("17+25=42", "42-42.5=-0.5", "-0.5*2=-1"), "-1", "Add 17 + 25"),  # a sign would turn
        (("17+25=42", "42*2=84"), "f(42) = 84", "Add 17 + 25"),  # the answer's name would have to change
        (("40+2=42", "21+21=42", "42*2=84"), "84", "Add 40 + 2"),  # which 42?
    ],
)
def test_an_error_with_doubtful_consequences_is_not_made(
    steps: tuple[str, ...], answer: str, prompt: str
) -> None:
    assert carry(Chain("sum", 0, prompt, steps, answer, 1), 0, "43") is None


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        (Chain("t", 0, "q 1", ("1+1=2",), "2", 1), "too few"),
        (Chain("t", 0, "q 1", ("1+1=2", "2*3=7"), "7", 1), "does not hold"),
        (Chain("t", 0, "q 1", ("11+1=12", "12*3=36"), "x=36, y=12", 1), "not one number"),
        (Chain("t", 0, "q 1", ("11+1=12", "12*3=36"), "yes", 1), "not one number"),
        (Chain("t", 0, "costs $5", ("11+1=12", "12*3=36"), "36", 1), "characters"),
        (Chain("t", 0, "q", ("11+1=12", "11+1=12"), "12", 1), "repeats"),
        (Chain("t", 0, "q", ("begin", "end"), "12", 1), "no error"),
    ],
)
def test_chains_of_no_use_are_refused_with_the_reason(chain: Chain, reason: str) -> None:
    found = problem(chain, 2, 12, random.Random(0))
    assert isinstance(found, Refused) and reason in found.reason


# --- the parts


@pytest.mark.parametrize(
    ("step", "values"),
    [
        ("17+25=42", [42]),
        ("minutes: 59 + 31 = 90 (carry 1h)", [90]),
        ("a.b = 4*11 + 8*3 = 68", [68]),
        ("v = 2 \\cdot 3 = 6 m, w = 3 \\times 4 = 12 m", [6, 12]),
        ("c = sqrt(16) = 4", [4]),
        ("theta = 45 * pi/180 = 0.7854 rad", [0.7853981633974483]),
        ("x = y = z", []),
        ("n = 5", []),
        ("f(2) = 8", []),
        ("|3*1 - 4| = 1", []),
        ("44/534=0r44", []),
    ],
)
def test_equations_are_found_and_evaluated(step: str, values: list[float]) -> None:
    assert [equation.value for equation in equations(step)] == pytest.approx(values)


def test_numbers_are_written_as_the_package_writes_them() -> None:
    assert [shown(2.0, "5"), shown(2.5, "5"), shown(-2.0, "5.0"), shown(1 / 3, "0.5")] == [
        "2",
        "2.5",
        "2.0",
        "0.3333",
    ]
    assert evaluate("2+") is None and evaluate("5") is None and evaluate("(1+2)*3") == 9


def test_a_missing_given_is_noticed_and_what_follows_from_others_is_not() -> None:
    assert unexplained("c = sqrt(g h)", ("g*h = 9.81 * 7 = 68.67", "c = sqrt(68.67) = 8.2867")) == {9.81, 7.0}
    assert unexplained("h=7", ("g*h = 9.81 * 7 = 68.67",)) == {9.81}
    assert unexplained("a=33 c=183", ("b^2 = 33489 - 1089 = 32400", "b = sqrt(32400)")) == set()
    assert unexplained("20%, 46", ("20/100=0.2", "0.2*46=9.2", "left: 46-9.2")) == set()
    assert unexplained("v=3", ("k = 5.5", "v*k = 3*5.5 = 16.5")) == {5.5}


def test_feeding_steps_are_those_the_answer_needs() -> None:
    steps = ("17+25=42", "n=3", "17*25=425", "42*2=84")
    assert feeds("Add 17 + 25", steps, "84") == (True, False, False, True)
    squares = ("c^2 = a^2 + b^2", "c^2 = 1600 + 5625 = 7225", "c = sqrt(7225)")
    assert feeds("a=40 b=75", squares, "85") == (False, True, True)
    assert feeds("12 and 5", ("12*5=60", "left = 100 - 60"), "40") == (True, True)


def test_padding_fits_the_wanted_length_without_repeating_itself() -> None:
    rng, used = random.Random(0), []
    for _ in range(30):
        used.append(padding("Compute Reynolds number: v=4.65, L=0.126, mu=0.0326", 30, used, rng))
    assert len(set(used)) == 30 and all(abs(len(text) - 30) < 25 for text in used)
    assert padding("Do it", 10, [], rng)


def test_derived_repetitions_hold() -> None:
    found = {
        repetition(step, random.Random(seed)) for seed in range(60) for step in ("f: 3+5=8", "3 * 5 = 15")
    }
    assert {"f: 5+3=8", "8-5=3", "15 / 5 = 3", "5 * 3 = 15"} <= found
    assert all(holds(text) for text in found)


# --- counts and splits


def test_counts_are_what_was_asked_and_add_up(corpus: Corpus) -> None:
    for split in SPLITS:
        per_level = Counter(trace.domain for trace in corpus.traces[split])
        assert per_level == {level.name: SPEC.asked(split) for level in SPEC.levels}
    assert corpus.drawn == len(everything(corpus)) + len(corpus.skipped)
    assert len({row.unit_id for row in corpus.skipped}) == len(corpus.skipped)
    for level in SPEC.levels:
        for variant in VARIANTS:
            found = sum(trace.domain == level.name for trace in of(corpus, variant))
            assert abs(found - SPEC.shares.of(variant) * SPEC.traces_per_level) < 1
    assert corpus.manifest["written"] == {split: len(corpus.traces[split]) for split in SPLITS}
    assert sum(corpus.manifest["skipped"].values()) == len(corpus.skipped)  # type: ignore[attr-defined]
    kinds = Counter(kind for trace in corpus.traces["traces"] for kind in trace.step_kinds or ())
    assert corpus.manifest["steps"] == kinds


def test_no_question_is_in_two_splits_or_twice_in_one(corpus: Corpus) -> None:
    prompts = [" ".join(trace.prompt.split()) for trace in everything(corpus)]
    assert len(set(prompts)) == len(prompts)


def test_unseen_generators_are_in_no_other_split(corpus: Corpus) -> None:
    tasks: dict[str, set[str]] = {split: set() for split in SPLITS}
    for row in corpus.origins:
        tasks[row.split].add(row.task)
    assert tasks["unseen"] and not tasks["unseen"] & (tasks["traces"] | tasks["heldout"] | tasks["harder"])
    assert tasks["heldout"] <= tasks["traces"] and tasks["harder"] <= tasks["traces"]


def test_harder_problems_are_beyond_the_pool_and_longer(corpus: Corpus) -> None:
    rows: dict[str, list[Origin]] = {
        split: [r for r in corpus.origins if r.split == split] for split in SPLITS
    }
    assert all(row.difficulty >= SPEC.harder.lowest for row in rows["harder"])
    for split in ("traces", "heldout", "unseen"):
        assert all(row.difficulty <= SPEC.difficulty.highest for row in rows[split])
    text = {trace.unit_id: trace.prompt + trace.response for trace in everything(corpus)}
    heeding = {row.task for row in rows["harder"]}
    longer = [len(text[row.unit_id]) for row in rows["harder"]]
    plain = [len(text[row.unit_id]) for row in rows["heldout"] if row.task in heeding]
    assert sum(longer) / len(longer) > 1.1 * sum(plain) / len(plain)


def test_a_problem_made_easier_than_asked_is_not_among_the_harder(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = Drawer.draw

    def easy(self: Drawer) -> Chain | None:
        chain = draw(self)
        return chain and chain._replace(difficulty=1)

    monkeypatch.setattr(Drawer, "draw", easy)
    with pytest.raises(UserError, match=r"0 problems for harder\.parquet"):
        build_corpus(SMALL)


def test_all_but_the_pool_is_clean(corpus: Corpus) -> None:
    assert {row.variant for row in corpus.origins if row.split != "traces"} == {"clean"}


def test_a_variant_says_nothing_about_the_generator(corpus: Corpus) -> None:
    tasks = Counter(row.task for row in corpus.origins if row.split == "traces")
    clean = Counter(row.task for row in corpus.origins if row.split == "traces" and row.variant == "clean")
    for task, count in tasks.items():
        assert abs(clean[task] - 0.3 * count) < 4 * (0.21 * count) ** 0.5 + 1


def test_length_does_not_tell_padding_from_clean_steps(corpus: Corpus) -> None:
    padded, clean = ([], [])
    for trace in of(corpus, "padded"):
        for kind, text in lines(trace):
            if kind != "answer":
                (padded if kind == "padded" else clean).append(len(text))
    ranks = rankdata(padded + clean)
    auc = (ranks[: len(padded)].mean() - (len(padded) + 1) / 2) / len(clean)
    assert 0.35 < auc < 0.65


def test_step_feeds_belong_to_the_steps(corpus: Corpus) -> None:
    kinds = {trace.unit_id: trace.step_kinds for trace in everything(corpus)}
    fed: Counter[tuple[str, bool]] = Counter()
    for row in corpus.origins:
        assert len(row.step_feeds) == len(kinds[row.unit_id] or ())
        fed.update(zip(kinds[row.unit_id] or (), row.step_feeds, strict=True))
    for kind in ("padded", "redundant"):
        assert fed[kind, True] == 0 < fed[kind, False]
    assert fed["answer", False] == 0 and fed["clean", True] > fed["clean", False] > 0


# --- the stage


def test_the_stage_writes_what_was_built_and_nothing_is_lost(tmp_path: Path) -> None:
    stage, store, corpus = BuildTraces(SMALL), Store(tmp_path / "store"), build_corpus(SMALL)
    Plan(store, [stage]).run(Machine())
    folder = store.find(stage)
    assert folder is not None
    for split in SPLITS:
        assert list(read_traces(folder / f"{split}.parquet")) == corpus.traces[split]
    assert json.loads((folder / "manifest.json").read_text()) == corpus.manifest
    import pyarrow.parquet as pq

    assert pq.read_table(folder / "problems.parquet").num_rows == len(corpus.origins)
    assert pq.read_table(folder / "skipped.parquet").num_rows == len(corpus.skipped)


def test_another_process_with_other_string_hashes_writes_the_same() -> None:
    code = (
        "import random, sys, hashlib\n"
        "random.seed(sys.argv[1])\n"
        "from airlab.schema.worked_problems import WorkedProblems\n"
        "from airlab.text.worked.corpus import build_corpus\n"
        "found = build_corpus(WorkedProblems.model_validate_json(sys.argv[2]))\n"
        "print(hashlib.sha256(repr((found.traces, found.origins, found.skipped)).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code, seed, SMALL.model_dump_json()],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_another_seed_gives_other_problems() -> None:
    first, second = (build_corpus(SMALL.model_copy(update={"seed": seed})).traces for seed in (0, 1))
    prompts = [{trace.prompt for trace in traces["traces"]} for traces in (first, second)]
    assert len(prompts[0] & prompts[1]) < 10


def test_more_problems_than_there_are_is_refused() -> None:
    plain = SMALL.model_copy(update={"levels": (Level(name="few", tiers=(1,)),)})  # none gets harder
    with pytest.raises(UserError, match=r"'few' has 0 problems for harder\.parquet and 3 were asked for"):
        build_corpus(plain)


def test_a_level_without_enough_generators_is_refused() -> None:
    lonely = SMALL.model_copy(update={"levels": (Level(name="tiny", tiers=(0,)),)})
    with pytest.raises(UserError, match="'tiny' has 1 generators that fit and needs 2"):
        build_corpus(lonely)


def test_so_many_generators_a_level_and_no_more() -> None:
    few = build_corpus(SMALL.model_copy(update={"generators_per_level": 3}))
    assert len({row.task for row in few.origins}) == 3


@pytest.mark.parametrize(
    "update",
    [
        {"shares": {"clean": 0.5}},
        {"shares": {"clean": 1.3, "padded": -0.0}},
        {"levels": []},
        {"levels": [{"name": "a", "tiers": [1]}, {"name": "a", "tiers": [2]}]},
        {"levels": [{"name": "a", "tiers": [1]}, {"name": "b", "tiers": [1]}]},
        {"levels": [{"name": "a", "tiers": [8]}]},
        {"levels": [{"name": "a", "tiers": []}]},
        {"min_steps": 5, "max_steps": 4},
        {"min_steps": 1},
        {"difficulty": {"lowest": 4, "highest": 2}},
        {"harder": {"lowest": 5, "highest": 8}},
        {"generators_per_level": 1},
        {"inserted": 0.0},
        {"lead_ins": 1.5},
        {"traces_per_level": 0},
        {"colour": "red"},
    ],
)
def test_bad_specifications_are_refused(update: dict) -> None:
    with pytest.raises(ValidationError):
        WorkedProblems.model_validate_json(json.dumps(update))


def test_shares_are_kept_when_they_are_whole() -> None:
    only = Shares(
        clean=0.5,
        padded=0.5,
        redundant=0,
        wrong_carried=0,
        wrong_corrected=0,
        shuffled=0,
        answer_only=0,
    )
    found = build_corpus(SMALL.model_copy(update={"shares": only}))
    assert Counter(row.variant for row in found.origins if row.split == "traces") == {
        "clean": 10,
        "padded": 10,
    }


# --- tasks


def test_items_are_the_heldout_problems_evenly_by_generator(corpus: Corpus) -> None:
    tasks = {row.unit_id: row.task for row in corpus.origins}
    found = worked_items(corpus.traces["heldout"], tasks, 8)
    assert list(found) == ["formulas", "school"] and all(len(items) == 8 for items in found.values())
    for items in found.values():
        assert len({item.task for item in items}) == 8
        for item in items:
            assert is_right(item.worked, item.answer) and number_in(item.answer) is not None
    worked, final = likelihood_items(found["school"])
    for item, whole, last in zip(found["school"], worked, final, strict=True):
        assert whole.prompt == last.prompt == item.prompt
        assert whole.given + whole.choices[0] == last.given + last.choices[0] == item.worked
        assert whole.cluster == last.cluster == item.task and last.choices[0].strip() == item.answer


def test_spoilt_or_unknown_traces_are_no_tasks(corpus: Corpus) -> None:
    tasks = {row.unit_id: row.task for row in corpus.origins}
    with pytest.raises(UserError, match="not a clean solution"):
        worked_items(of(corpus, "padded"), tasks, 5)
    with pytest.raises(UserError, match="no final answer or generator"):
        worked_items(corpus.traces["heldout"], {}, 5)


def test_skipped_reasons_are_sentences_by_level(corpus: Corpus) -> None:
    assert {row.domain for row in corpus.skipped} == {"school", "formulas"}
    assert all(" " in row.reason and row.unit_id.split("/")[0] in SPLITS for row in corpus.skipped)
