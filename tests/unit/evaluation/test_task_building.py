import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airlab.errors import UserError
from airlab.evaluation.tasks.build import build_tasks, frequent_words
from airlab.evaluation.tasks.choices import docstring, next_passage, next_step, retrieval_items, title
from airlab.evaluation.tasks.cutting import cut_bytes, cut_words, split_passage
from airlab.evaluation.tasks.files import read_tasks, write_tasks
from airlab.evaluation.tasks.items import Document
from airlab.evaluation.tasks.likelihood import copying_items, pieces, problems
from airlab.evaluation.tasks.turns import in_turn
from airlab.randomness import generator
from airlab.schema.evaluation import (
    BitsPerByte,
    Choices,
    Copying,
    KeyRetrieval,
    Reasoning,
    TaskSpec,
)

SPEC = TaskSpec(
    minimum_items=5,
    tasks=(
        BitsPerByte(items=20, domains=("prose", "code"), max_bytes=120, min_bytes=60),
        KeyRetrieval(items=15, pairs=4),
        Copying(items=15, words=6),
        Reasoning(items=30, max_bytes=300),
        Choices(kind="next_passage", items=12, domains=("prose", "howto"), prompt_bytes=60, choice_bytes=40),
        Choices(kind="next_step", items=12, domains=("howto",), prompt_bytes=120),
        Choices(kind="title", items=12, domains=("prose",)),
        Choices(kind="definition", items=12, domains=("reference",), sources=("dictionary",)),
        Choices(kind="docstring", items=12, domains=("code", "mathematics")),
    ),
)


@given(st.text(max_size=60), st.integers(1, 40))
def test_cut_is_the_longest_prefix_of_whole_characters(text: str, limit: int) -> None:
    head = cut_bytes(text, limit)
    assert text.startswith(head) and len(head.encode()) <= limit
    if head != text:
        assert len(head.encode()) + len(text[len(head)].encode()) > limit


@given(st.text(max_size=200), st.integers(4, 60))
def test_pieces_are_consecutive_and_lose_nothing(text: str, limit: int) -> None:
    assert "".join(pieces(text, 1, limit)) == text
    assert all(len(piece.encode()) <= limit for piece in pieces(text, 1, limit))
    assert all(len(piece.encode()) >= 10 for piece in pieces(text, 10, limit))


@given(st.text(alphabet="ab .\n", max_size=120), st.integers(4, 60))
def test_passage_separator_and_rest_are_the_text(text: str, limit: int) -> None:
    parts = split_passage(text, limit)
    if parts is not None:
        assert "".join(parts) == text
        assert len(parts[0].encode()) <= limit and parts[1].isspace() and parts[2].strip()


def test_passages_end_at_the_strongest_border() -> None:
    assert split_passage("One two three.\n\nFour five six seven eight", 28) == (
        "One two three.",
        "\n\n",
        "Four five six seven eight",
    )
    assert split_passage("One two. Three four five six", 14) == ("One two.", " ", "Three four five six")
    assert split_passage("unbroken" * 10, 20) is None
    assert cut_words("one two three", 9) == "one two"


def test_in_turn_asks_every_document_before_asking_one_again() -> None:
    assert list(in_turn([[1, 2, 3], [], [4], [5, 6]])) == [1, 4, 5, 2, 6, 3]


def test_reasoning_documents_are_read_as_their_writer_writes_them() -> None:
    from airlab.text.reasoning import Chain

    chains = [
        Chain("sum", 0, "Add: 1 + 2", ("1 + 2 = 3",), "3", 1),
        Chain("list", 1, "Sort:\n3 1 2", ("look", "swap 3\nand 1"), "1 2 3", 1),
    ]
    found = problems("\n\n".join(chain.text() for chain in chains))
    assert [(problem.question, problem.answer) for problem in found] == [
        ("Question: Add: 1 + 2", "3"),
        ("Question: Sort:\n3 1 2", "1 2 3"),
    ]
    assert found[1].steps == "Step 1: look\nStep 2: swap 3\nand 1"
    assert problems("Nothing of the kind.\nAnswer: 3") == []


def test_retrieval_answers_stand_in_the_context_after_their_key() -> None:
    words = [f"{a}{b}{c}d" for a in "abcde" for b in "fghij" for c in "klm"]
    for item in retrieval_items(words, 5, 30, generator(0, "test")):
        *lines, asked = item.prompt.split("\n")
        pairs = dict(line.split(": ") for line in lines)
        assert len(pairs) == 5 and len(set(pairs) | set(pairs.values())) == 10
        assert item.choices == tuple(f" {value}" for value in pairs.values())
        assert item.choices[item.answer] == f" {pairs[asked.removesuffix(':')]}"


def test_the_copy_is_what_came_before() -> None:
    words = [f"{a}{b}cd" for a in "abcdefgh" for b in "ijklm"]
    for item in copying_items(words, 7, 10, generator(0, "test")):
        first, again = item.prompt.split("\n")
        assert again + item.choices[0] == first and len(set(first.split())) == 7


def test_questions_follow_the_documents_structure(documents: list[Document]) -> None:
    texts = {document.unit_id: document.text for document in documents}
    (step_two, step_three) = next_step(texts["howto-03"], 200, 80)
    assert step_two.prompt.startswith("Soup 3\n") and step_two.prompt.endswith("in water.\n2.")
    assert re.fullmatch(r"Boil the \w+ for 3 minutes\.", step_two.answer)
    assert step_three.answer.startswith("Serve with")
    assert [len(q.prompt.encode()) <= 40 for q in next_step(texts["howto-03"], 40, 80)] == [True, True]
    (about,) = title(texts["prose-03"], 80, 80)
    assert about.prompt == "Subject 3" and about.answer.startswith("The subject 3 is")
    (written,) = docstring(texts["code-03"], 120, 80)
    assert written.prompt.endswith('_3(a, b):\n    """') and written.answer.endswith("number 3.")
    (printed,) = docstring(texts["mathematics-03"], 120, 80)
    assert printed.prompt.endswith("(x, y)") and printed.answer.startswith("Compute the")
    for passage in next_passage(texts["prose-03"], 60, 40):
        assert passage.prompt + passage.separator + passage.answer in texts["prose-03"]


def test_right_answers_are_the_documents_own_and_wrong_ones_are_not(documents: list[Document]) -> None:
    texts = {document.unit_id: document.text for document in documents}
    domains = {document.unit_id: document.domain for document in documents}
    choice_tasks = [
        task
        for task in build_tasks(documents, SPEC, 0)
        if task.form == "choice" and task.name != "key_retrieval"
    ]
    assert len(choice_tasks) == 5
    for task in choice_tasks:
        assert task.chance == 0.25
        assert {item.answer for item in task.items} >= {0, 1, 2}  # the right place is not a constant
        for item in task.items:
            assert item.cluster is not None and len(set(item.choices)) == 4
            own = texts[item.cluster]
            assert item.choices[item.answer].strip() in own
            for wrong in set(item.choices) - {item.choices[item.answer]}:
                others = [
                    t for u, t in texts.items() if domains[u] == domains[item.cluster] and u != item.cluster
                ]
                assert any(wrong.strip() in other for other in others)


def test_names_and_metrics_are_known_before_the_text_is_read(documents: list[Document]) -> None:
    built = build_tasks(documents, SPEC, 0)
    assert [(task.name, task.metrics) for task in built] == [(p.name, p.metrics) for p in SPEC.planned()]


def test_order_of_documents_does_not_matter_and_the_seed_does(documents: list[Document]) -> None:
    built = build_tasks(documents, SPEC, 0)
    assert build_tasks(documents[::-1], SPEC, 0) == built
    other = build_tasks(documents, SPEC, 1)
    assert all(mine.items != theirs.items for mine, theirs in zip(built, other, strict=True))


def test_adding_a_task_changes_no_other(documents: list[Document]) -> None:
    alone = build_tasks(documents, TaskSpec(minimum_items=5, tasks=SPEC.tasks[1:2]), 0)
    assert alone[0] in build_tasks(documents, SPEC, 0)


def test_more_items_extend_a_text_task(documents: list[Document]) -> None:
    def items(count: int):
        task = BitsPerByte(items=count, domains=("prose",), max_bytes=120, min_bytes=60)
        return build_tasks(documents, TaskSpec(minimum_items=1, tasks=(task,)), 0)[0].items

    assert items(20)[:8] == items(8) and len({item.cluster for item in items(12)}) == 12


def test_words_are_counted_by_document() -> None:
    texts = ["once " * 50, "twice thrice", "twice don't Upper"]
    documents = [Document(str(index), "d", "s", text) for index, text in enumerate(texts)]
    assert frequent_words(documents) == ["twice", "once", "thrice"]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (BitsPerByte(domains=("prose", "poetry")), "'poetry'.*code, howto"),
        (Reasoning(domain="prose"), "task reasoning_worked finds 0 items .* at least 20"),
        (Copying(words=500), "needs 500 different words"),
        (Choices(kind="title", domains=("prose",), sources=("unknown",)), "task title finds 0 items"),
    ],
)
def test_what_cannot_be_built_is_refused(documents: list[Document], task, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_tasks(documents, TaskSpec(tasks=(task,)), 0)


def test_two_tasks_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name: copying"):
        TaskSpec(tasks=(Copying(), Copying(words=4)))


def test_the_folder_lists_what_it_holds_and_names_no_place(documents: list[Document], tmp_path) -> None:
    built = build_tasks(documents, SPEC, 0)
    listed = write_tasks(tmp_path, built)
    assert read_tasks(tmp_path) == listed
    for task, line in zip(built, listed, strict=True):
        rows = (tmp_path / f"{task.name}.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        assert len(rows) == line.n_items == len(task.items)
        config = json.loads((tmp_path / f"{task.name}.yaml").read_text())
        assert config["dataset_kwargs"]["data_files"]["test"] == f"{task.name}.jsonl"
        assert config["metadata"]["version"] == line.version
    assert str(tmp_path) not in "".join(path.read_text() for path in tmp_path.iterdir())


def test_another_item_gives_another_task_version(documents: list[Document], tmp_path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = write_tasks(tmp_path / "a", build_tasks(documents, SPEC, 0))
    second = write_tasks(tmp_path / "b", build_tasks(documents, SPEC, 1))
    assert not {task.version for task in first} & {task.version for task in second}
