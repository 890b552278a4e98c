"""AIR: attention influence per reasoning step (arXiv 2512.13279)."""
