"""AttentionInfluence (arXiv 2505.07293)."""
