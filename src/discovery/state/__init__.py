"""The replicated state: a deterministic function of the log. No clocks, no chance, no I/O."""
