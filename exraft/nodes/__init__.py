"""Between processes and hosts: what carries messages and calls from node to node, and who may in.

Knows addresses, keys, sockets and frames. Must not know what a server does with what arrives, nor
how it is found in its process: what delivers there is passed in.
"""
