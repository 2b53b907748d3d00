"""Raft consensus as a pure state machine: messages, time and finished writes go in, one bundle of effects comes out.

To be read beside the paper: `core` holds the rules for all servers, followers and candidates, `leader` those for leaders. What
they stand on: `messages` (the vocabulary), `log` with its `membership`, `persistence` (what waits for the disk), `progress` (what
a leader knows of a follower), `rounds` (reads and the lease), `election_timer`, `quorum`. `configuration` computes changes of the
members, `restart` the log a server begins with, `ready` tells what has to be done and in which order. Nothing here knows a
socket, a file, a clock or a thread.
"""
