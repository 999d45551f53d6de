"""Calls to servers of other nodes: how they are asked, served and answered.

Knows how a call and its answer cross between two processes, so that they look as at home. Must not
know how bytes get from one to the other: `exraft.nodes` carries them.
"""
