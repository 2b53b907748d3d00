"""Real programs of others in one pool with ours."""
