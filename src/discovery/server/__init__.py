"""A server's share: the replica that drives Raft, the endpoints it answers, what only a leader does."""
