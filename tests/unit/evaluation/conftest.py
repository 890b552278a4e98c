"""A tiny random Llama over bytes, and held-out documents of every kind the tasks read."""

from pathlib import Path

import pytest

from airlab.evaluation.tasks.items import Document


def byte_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|end|>": 0} | {character: index for index, character in enumerate(alphabet, 1)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", bos_token="<|end|>")


def save_tiny_llama(folder: Path, context: int = 640) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=257,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=context,
            tie_word_embeddings=True,
            initializer_range=0.3,  # far from uniform, so that likelihoods differ
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("checkpoint"))


WORDS = [first + second for first in ("bal", "cor", "dun", "fel", "gim", "hos") for second in
         ("ta", "red", "mis", "lon", "vak")]  # fmt: skip


def held_out_documents() -> list[Document]:
    documents = []
    for number in range(12):
        words = [WORDS[(number * 7 + step * 11) % len(WORDS)] for step in range(60)]
        prose = (
            f"Subject {number}\n\nThe subject {number} is {' '.join(words[:20])}. "
            f"It has {' '.join(words[20:])}."
        )
        recipe = (
            f"Soup {number}\n\nIngredients:\n- {words[0]}\n\nMethod:\n1. Wash the {words[0]} in water."
            f"\n2. Boil the {words[1]} for {number} minutes.\n3. Serve with {words[2]} and {words[3]} on top."
        )
        code = (
            f'def {words[4]}_{number}(a, b):\n    """Return the {words[5]} {words[6]} number {number}."""\n'
            f"    return a + {number} * b\n\n\nclass {words[7].title()}:\n    pass\n"
        )
        manual = (
            f"{words[8]}(x, y)\n\nCompute the {words[9]} of x {words[10]} y, case {number}.\n\n"
            "See also nothing."
        )
        entry = f"{words[11]} {number * 'x'}, n.\n1. A kind of {words[12]} that {words[13]} in {words[14]}."
        problem = "\n\n".join(
            f"Question: Add: {number} + {other} + 1\nStep 1: {number} + {other} = {number + other}\n"
            f"Step 2: {number + other} + 1 = {number + other + 1}\nAnswer: {number + other + 1}"
            for other in range(3)
        )
        for domain, source, text in (
            ("prose", "encyclopedia==1", prose),
            ("howto", "recipes==1", recipe),
            ("code", "package==1", code),
            ("mathematics", "package==1", manual),
            ("reference", "dictionary==1", entry),
            ("reasoning", "generator==1", problem),
        ):
            documents.append(Document(f"{domain}-{number:02d}", domain, source, text))
    return documents


@pytest.fixture(scope="session")
def documents() -> list[Document]:
    return held_out_documents()
