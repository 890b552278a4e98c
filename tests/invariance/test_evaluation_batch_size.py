"""Batch size is machinery: it must not move a result by more than 1e-4."""

from pathlib import Path

import pytest

from airlab.evaluation.client import evaluate
from airlab.evaluation.records import read_records
from airlab.evaluation.tasks.files import write_tasks
from airlab.evaluation.tasks.items import BuiltTask, Item


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("checkpoint")
    words = [f"w{number}" for number in range(40)]
    tokenizer = Tokenizer(models.WordLevel({"<end>": 0} | {w: i for i, w in enumerate(words, 1)}, "<end>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", bos_token="<end>").save_pretrained(
        folder
    )
    torch.manual_seed(1)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=41,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=32,
            initializer_range=0.3,
            bos_token_id=0,
            eos_token_id=0,
        )
    ).save_pretrained(folder)
    return folder


def test_batch_size_does_not_change_records(checkpoint: Path, tmp_path: Path) -> None:
    # Lengths differ within every batch, and the longest text needs two windows of the context.
    texts = [" ".join(f"w{(7 * n + k * k) % 40}" for k in range(3 + 4 * n)) for n in range(11)]
    rolling = tuple(Item("", (text,), 0, None) for text in texts)
    choices = tuple(
        Item(f"w{n}" + " w3" * n, (" w1 w2", f" w{n} w5 w6", " w7"), n % 3, None) for n in range(11)
    )
    write_tasks(
        tmp_path,
        [
            BuiltTask("text", "rolling", ("bits_per_byte",), rolling, None),
            BuiltTask("choice", "choice", ("acc", "acc_norm", "answer_nats", "margin"), choices, 1 / 3),
        ],
    )
    results = []
    for batch_size in (1, 3, 16):
        output = tmp_path / f"records-{batch_size}"
        evaluate(checkpoint, tmp_path, output, batch_size=batch_size, device="cpu", seed=0)
        results.append(read_records(output))
    one, *others = results
    assert len(one) == 11 + 4 * 11 and len({record.value for record in one}) > 20
    for other in others:
        assert [(r.task, r.item_hash, r.metric) for r in other] == [
            (r.task, r.item_hash, r.metric) for r in one
        ]
        assert [r.value for r in other] == pytest.approx([r.value for r in one], abs=1e-4)
