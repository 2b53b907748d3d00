"""Codecs of the server port: Go's MessagePack dialect, its RPC messages, and yamux. Pure: bytes in, values out."""
