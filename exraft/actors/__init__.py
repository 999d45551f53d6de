"""Actors on Pykka: mailbox, future, process, monitors, names, and the server actor.

Knows threads and mailboxes; must not know users, or how processes are supervised.
"""
