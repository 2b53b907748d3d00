"""The words everyone shares: records, RPC requests and replies, errors, durations. Imports nothing else of the project."""
