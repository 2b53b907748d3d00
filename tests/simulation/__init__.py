"""A whole cluster in one thread, from one seed: real Raft cores; simulated network, disks, clocks and crashes."""
