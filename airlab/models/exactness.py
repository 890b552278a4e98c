"""Whether a packed pass is exact for a model, found by measuring it."""

import torch

from airlab.errors import UserError
from airlab.models.attention import Layout, attention_layout
from airlab.models.load import CausalLM
from airlab.models.packed import hidden_states


@torch.inference_mode()
def check_exactness(lm: CausalLM) -> None:
    """Refuse a model whose logits are not its output projection applied to its last hidden states.

    Scoring applies the projection itself, in chunks, so that `[tokens, vocabulary]` logits never
    exist. Models that scale, cap or shift logits afterwards would be scored wrongly; comparing
    one short sequence finds all of them, named or not.

    Raises:
        UserError: the model family is not computed exactly.
    """
    family = type(lm.model).__name__
    tokens = torch.arange(1, 9, device=lm.device) % lm.geometry.vocabulary
    seen: set[int] = set()
    try:
        states = hidden_states(lm, tokens, [8], observer=lambda layer, *_: seen.add(layer))
        ours = lm.model.get_output_embeddings()(states)
        layout = Layout((8,), {})
        with attention_layout(layout):
            theirs = lm.model(
                input_ids=tokens[None],
                position_ids=torch.arange(8, device=lm.device)[None],
                attention_mask=None,
                use_cache=False,
            ).logits
    except (RuntimeError, AttributeError, TypeError) as error:
        raise UserError(
            f"models of type {family} cannot be scored exactly ({error}); use another model family."
        ) from error
    if seen != set(range(lm.geometry.layers)):
        raise UserError(
            f"models of type {family} compute attention in {len(seen)} of {lm.geometry.layers} layers "
            "through transformers' attention interface; heads of the other layers cannot be masked, "
            "use another model family."
        )
    if not torch.allclose(ours.float(), theirs.float(), rtol=1e-3, atol=1e-3):
        raise UserError(
            f"models of type {family} change their logits after the output projection, "
            "which scoring does not model; use another model family."
        )
