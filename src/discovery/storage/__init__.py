"""What a server keeps on disk: its Raft log and vote (`log`), snapshots (`snapshots`), and how a start puts them together
(`recovery`).

Assumed of the disk: fsync is honest, and a write that was torn by a crash damages nothing but itself.
"""
