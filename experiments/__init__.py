"""One module a published table: its hypothesis, its plan and its table."""
