"""Scores of sequence-classification models; loaded as carefully as language models are."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from airlab.errors import UserError
from airlab.models.load import from_safetensors, load_tokenizer


@dataclass(frozen=True)
class LoadedClassifier:
    """A classifier in evaluation mode.

    Attributes:
        output: the output that is the score; None where the model has one, which is taken as it is.
        max_tokens: what is read of a text, special tokens included.
    """

    model: Any
    tokenizer: Any
    output: int | None
    max_tokens: int


def load_classifier(
    folder: Path, *, output: int | None, max_tokens: int, device: str = "cpu"
) -> LoadedClassifier:
    """Load a folder in the Hugging Face format: safetensors only, float32, never remote code.

    Raises:
        UserError: the folder cannot be loaded safely, is no trained classifier, has no such output, or
            cannot read so many tokens.
    """
    model, missing = from_safetensors(
        AutoModelForSequenceClassification, folder, "classifier", dtype=torch.float32
    )
    if missing:
        raise UserError(
            f"the model in {folder} is no trained classifier: its files lack {missing[0]}, "
            "which would be made up at random; give a sequence-classification model."
        )
    outputs = model.config.num_labels
    if output is None and outputs > 1:
        raise UserError(
            f"the classifier in {folder} has {outputs} outputs; say which is the score with output=0, say."
        )
    if output is not None and output >= outputs:
        raise UserError(
            f"the classifier in {folder} has outputs 0 to {outputs - 1} and output={output} was asked for."
        )
    longest = getattr(model.config, "max_position_embeddings", max_tokens)
    if max_tokens > longest:
        raise UserError(
            f"max_tokens={max_tokens} exceeds what the classifier in {folder} reads, {longest} tokens; "
            "set it to that or less."
        )
    model = model.to(device).eval().requires_grad_(False)
    return LoadedClassifier(model, load_tokenizer(folder), output if outputs > 1 else None, max_tokens)


@torch.inference_mode()
def classifier_scores(
    classifier: LoadedClassifier,
    texts: Sequence[str],
    tokens_per_batch: int,
    advance: Callable[[float], None] = lambda documents: None,
) -> np.ndarray:
    """The score of each text's beginning, float64 [texts].

    Args:
        tokens_per_batch: padded tokens of one forward pass; affects results by rounding only.
        advance: told of texts as they are done.

    Raises:
        UserError: a score that is no finite number.
    """
    model = classifier.model
    encoded = [
        classifier.tokenizer(text, truncation=True, max_length=classifier.max_tokens) for text in texts
    ]
    scores = np.empty(len(texts), dtype=np.float64)
    padded = model.config.pad_token_id is not None and classifier.tokenizer.pad_token_id is not None
    for batch in _batches([len(e["input_ids"]) for e in encoded], tokens_per_batch if padded else 1):
        inputs = classifier.tokenizer.pad([encoded[i] for i in batch], return_tensors="pt", padding=padded)
        logits = model(**inputs.to(model.device)).logits.double().cpu()
        if classifier.output is None:
            scores[batch] = logits[:, 0].numpy()
        else:
            scores[batch] = logits.log_softmax(dim=-1)[:, classifier.output].numpy()
        advance(len(batch))
    if not np.isfinite(scores).all():
        raise UserError("the classifier gave a score that is not a finite number; use another one.")
    return scores


def _batches(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[list[int]]:
    """Texts of similar length together, longest first, at most `tokens_per_batch` with padding."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and lengths[batch[0]] * (len(batch) + 1) > tokens_per_batch:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
