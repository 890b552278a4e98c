"""Model folders as users have them on their disks, small enough to make in a moment."""

import string
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.unit.heads import test_planted_head as small

_CHARACTERS = "\n" + string.printable[:95]
VOCABULARY = 112
"""Two special tokens, a character each, and some ids that no text uses."""


def save_tokenizer(folder: Path) -> None:
    """One token a printable ASCII character; all other characters are unknown."""
    vocabulary = {"<unk>": 0, "<eos>": 1} | {c: i for i, c in enumerate(_CHARACTERS, 2)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<unk>")
    fast.save_pretrained(folder)


def random_folder(folder: Path, *, seed: int = 0, context: int = 2048, layers: int = 3) -> Path:
    """A random Llama of layers of four heads that share two key/value heads."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=context,
        tie_word_embeddings=True, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def planted_folder(folder: Path, *, planted: bool = True) -> Path:
    """A model of which one head copies what followed the current character earlier, or none does."""
    before = small.TOKENS, small.HEAD_SIZE, small.SLOW
    small.TOKENS, small.HEAD_SIZE, small.SLOW = VOCABULARY, 4 * VOCABULARY, VOCABULARY
    try:
        model = small.planted_model(planted).model
    finally:
        small.TOKENS, small.HEAD_SIZE, small.SLOW = before
    model.config.max_position_embeddings = 2048
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder
