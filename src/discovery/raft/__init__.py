"""Raft consensus as a pure state machine: messages, time and finished writes go in, one bundle of effects comes out.

The protocol stands in `core`, its vocabulary in `messages`; nothing here knows a socket, a file, a clock or a thread.
"""
