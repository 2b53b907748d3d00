"""Group membership: SWIM with Lifeguard as memberlist speaks it, and Serf's layer on top.

Pure: time, chance and bytes are handed in; packets, streams and events come out.
"""
