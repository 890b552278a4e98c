"""A beginning-of-sequence token goes in front exactly where the tokenizer puts one by itself."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from airlab.text.tokens import encode_documents


def tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "a": 2, "b": 3, "[UNK]": 4}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    if template:
        inner.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize(
    ("template", "ids"),
    [(None, [2, 3]), ("<s> $A", [0, 2, 3]), ("<s> $A </s>", [0, 2, 3]), ("$A </s>", [2, 3])],
)
def test_the_template_decides(template: str | None, ids: list[int]) -> None:
    assert encode_documents(tokenizer(template), ["a b"])[0].tolist() == ids
