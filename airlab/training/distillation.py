"""Learning from a teacher's distributions, of which only the most likely tokens are kept.

At a predicted token let P be the teacher's distribution over the vocabulary, Q the student's, and K the k
tokens that the teacher finds most likely. Both are seen as distributions over k + 1 buckets: each token of K
is one, and all other tokens together are the last, so that both sum to one whatever k is. At temperature T
both are softened there: p_i is P(i)^(1/T) divided by the sum of that over the buckets, and so is q_i of Q.

    forward_kl  D = T^2 * sum_i p_i * (log p_i - log q_i)
    reverse_kl  D = T^2 * sum_i q_i * (log q_i - log p_i)

T^2 keeps the gradient's scale (Hinton et al., 1503.02531). At T = 1 merging tokens into a bucket can only
lower a divergence: D is at most that over the whole vocabulary, and 0 for a student equal to its teacher.
The token's loss is (1 - share) * cross-entropy + share * D, and its step's weight multiplies all of it.
"""

from dataclasses import dataclass

import torch

from airlab.schema.fine_tuning import Distillation
from airlab.training.weighted_loss import cross_entropies


def buckets(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of some tokens, and of all others together.

    Args:
        logits: [n, vocabulary].
        tokens: int64 [n, k], different ones in each row, fewer than the vocabulary has.

    Returns:
        [n, k + 1], in the logits' type; the others come last. Not their difference from one: that would be
        lost to rounding where the teacher is sure.
    """
    others = logits.scatter(1, tokens, -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([logits.gather(1, tokens), others], dim=1) - logits.logsumexp(1, keepdim=True)


@dataclass(frozen=True)
class DistilledLosses:
    """The loss of each token, for `weighted_loss`; see the module's docstring."""

    spec: Distillation

    def __call__(
        self, logits: torch.Tensor, labels: torch.Tensor, tokens: torch.Tensor, log_probs: torch.Tensor
    ) -> torch.Tensor:
        """[n], nats.

        Args:
            logits: [n, vocabulary], the student's.
            labels: int64 [n].
            tokens: int64 [n, k], the teacher's most likely ones.
            log_probs: [n, k + 1], the teacher's of these, and of all others together.
        """
        softer = 1.0 / self.spec.temperature
        student = (buckets(logits, tokens) * softer).log_softmax(1)
        teacher = (log_probs.to(logits.dtype) * softer).log_softmax(1)
        of, against = (teacher, student) if self.spec.divergence == "forward_kl" else (student, teacher)
        divergence = (of.exp() * (of - against)).sum(1) * self.spec.temperature**2
        share = self.spec.share
        return (1.0 - share) * cross_entropies(logits, labels) + share * divergence
