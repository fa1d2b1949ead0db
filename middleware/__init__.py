"""The chain: one link per file; a link does no I/O of its own, it is handed what it needs."""
