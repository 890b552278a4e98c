"""A Llama forward pass in float64 NumPy, written from the architecture's formulas.

It shares nothing with the package: attention is an explicit matrix per head, and a masked head's
attention row t is 1/t everywhere it can look. Good for a few dozen tokens.
"""

import numpy as np


def _norm(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight


def _rotate(x: np.ndarray, base: float) -> np.ndarray:
    positions, size = x.shape
    angle = np.arange(positions)[:, None] * base ** (-np.arange(0, size, 2) / size)[None, :]
    cos, sin = np.cos(angle), np.sin(angle)
    a, b = x[:, : size // 2], x[:, size // 2 :]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=1)


def token_losses(
    weights: dict[str, np.ndarray], config: object, tokens: np.ndarray, masked: set[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Negative log-likelihood of tokens 1..n-1 and the entropies of their predictions, nats, float64."""
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    size, epsilon = config.head_dim, config.rms_norm_eps
    base = config.rope_parameters["rope_theta"]
    n = len(tokens)
    hidden = weights["model.embed_tokens.weight"][tokens]
    for layer in range(config.num_hidden_layers):
        w = {k.split(f"layers.{layer}.")[1]: v for k, v in weights.items() if f"layers.{layer}." in k}
        x = _norm(hidden, w["input_layernorm.weight"], epsilon)
        mixed = np.zeros((n, heads * size))
        for head in range(heads):
            shared = head // (heads // groups)
            q = _rotate(x @ w["self_attn.q_proj.weight"][head * size : (head + 1) * size].T, base)
            k = _rotate(x @ w["self_attn.k_proj.weight"][shared * size : (shared + 1) * size].T, base)
            v = x @ w["self_attn.v_proj.weight"][shared * size : (shared + 1) * size].T
            attention = np.zeros((n, n))
            for t in range(n):
                if (layer, head) in masked:
                    attention[t, : t + 1] = 1 / (t + 1)
                else:
                    scores = k[: t + 1] @ q[t] / np.sqrt(size)
                    shares = np.exp(scores - scores.max())
                    attention[t, : t + 1] = shares / shares.sum()
            mixed[:, head * size : (head + 1) * size] = attention @ v
        hidden = hidden + mixed @ w["self_attn.o_proj.weight"].T
        x = _norm(hidden, w["post_attention_layernorm.weight"], epsilon)
        gate = x @ w["mlp.gate_proj.weight"].T
        hidden = (
            hidden
            + (gate / (1 + np.exp(-gate)) * (x @ w["mlp.up_proj.weight"].T)) @ w["mlp.down_proj.weight"].T
        )
    output = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    logits = _norm(hidden, weights["model.norm.weight"], epsilon) @ output.T
    log_p = logits - logits.max(-1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(-1, keepdims=True))
    losses = -log_p[np.arange(n - 1), tokens[1:]]
    return losses, -(np.exp(log_p) * log_p).sum(-1)[: n - 1]
