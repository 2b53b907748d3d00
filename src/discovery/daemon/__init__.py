"""The running agent: everything is built and wired here, and nowhere else."""
