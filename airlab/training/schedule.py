"""The learning rate of a step: warm-up, stable, decay (WSD; AttentionInfluence, section 4)."""

import math

from airlab.schema.training import Training


def learning_rate(step: int, n_steps: int, training: Training) -> float:
    """The learning rate of update `step` (0-based) out of `n_steps`.

    A pure function of the step, set by hand before every update: nothing to save or restore, and
    no engine's own scheduler that could step at another moment. The warm-up takes at least one
    step and reaches the peak in its last; the decay would reach 0 one step after the end, so that
    no update is wasted.
    """
    if not 0 <= step < n_steps:
        raise ValueError(f"step {step} is outside 0..{n_steps - 1}")
    n_warmup = max(1, round(training.warmup_fraction * n_steps))
    n_decay = min(round(training.decay_fraction * n_steps), n_steps - n_warmup)
    if step < n_warmup:
        return training.learning_rate * (step + 1) / n_warmup
    first_decay_step = n_steps - n_decay
    if step < first_decay_step:
        return training.learning_rate
    progress = (step - first_decay_step + 1) / (n_decay + 1)
    if training.decay_shape == "linear":
        return training.learning_rate * (1.0 - progress)
    if training.decay_shape == "cosine":
        return training.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))
    return training.learning_rate * (1.0 - math.sqrt(progress))
