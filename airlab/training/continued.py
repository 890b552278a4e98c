"""A target that is not drawn afresh: a model that is there already, to be trained further."""

from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from airlab.errors import UserError
from airlab.models.load import load_model, weights_digest


def continued_target(folder: Path, context: int) -> tuple[LlamaForCausalLM, str]:
    """The model in `folder` in float32, all of it to be trained, and the digest of its weights.

    It stays in evaluation mode: dropout, of which today's families have none, would make the weights depend
    on how a batch is cut.

    Args:
        context: tokens of a training sequence.

    Raises:
        UserError: it cannot be loaded, has another architecture than targets have, or a shorter context.
    """
    model, _ = load_model(folder, device="cpu", dtype=torch.float32, attn_implementation="sdpa")
    if not isinstance(model, LlamaForCausalLM):
        raise UserError(
            f"{type(model).__name__} cannot be pretrained further: targets are of the Llama architecture; "
            "choose such a model."
        )
    longest = model.config.max_position_embeddings
    if context > longest:
        raise UserError(
            f"the training sequences have {context} tokens and the model a context of {longest}: "
            "set context to that or less."
        )
    return model.requires_grad_(True), weights_digest(folder)
