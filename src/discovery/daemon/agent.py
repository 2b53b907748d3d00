"""A running agent: builds the parts that its mode asks for, starts them in order, steers and stops them.

Order of start: identity, gossip, the server or the way to servers, own services, then the doors. Order of stop: the reverse.
"""
