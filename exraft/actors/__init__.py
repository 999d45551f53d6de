"""Actors on Pykka: mailbox, future, process, links, monitors, timers, names, and the server actor.

Knows threads and mailboxes; must not know users, or how processes are supervised.

What is named here is for users' own actors too; docs/processes.md has an example of each.
"""

from exraft.actors.ending import kill, send, send_exit
from exraft.actors.exits import Exit, ExitSignal, Ignore, is_orderly
from exraft.actors.mailbox import ProcessDown
from exraft.actors.process import DEFERRED, Process
from exraft.actors.starting import start
from exraft.actors.timers import Timer
from exraft.actors.watching import Down, Monitor, monitor

__all__ = [
    "DEFERRED",
    "Down",
    "Exit",
    "ExitSignal",
    "Ignore",
    "Monitor",
    "Process",
    "ProcessDown",
    "Timer",
    "is_orderly",
    "kill",
    "monitor",
    "send",
    "send_exit",
    "start",
]
