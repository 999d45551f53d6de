"""How things start, stop, and start again: OTP's supervisors over threads.

It knows lives and their exit reasons. It must not know what a child does while it lives.
"""

from exraft.actors.exits import Ignore
from exraft.child_spec import ChildSpec
from exraft.supervision.dynamic import DynamicSupervisor
from exraft.supervision.errors import (
    AlreadyPresent,
    ChildAlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    SpecError,
    SupervisorDown,
    SupervisorNotFound,
    TooManyChildren,
)
from exraft.supervision.supervising import Counts, Listed
from exraft.supervision.supervisor import Supervisor
from exraft.supervision.tree import Node, State, print_tree, tree

__all__ = [
    "AlreadyPresent",
    "ChildAlreadyStarted",
    "ChildNotFound",
    "ChildRestarting",
    "ChildRunning",
    "ChildSpec",
    "Counts",
    "DynamicSupervisor",
    "Ignore",
    "Listed",
    "Node",
    "SpecError",
    "State",
    "Supervisor",
    "SupervisorDown",
    "SupervisorNotFound",
    "TooManyChildren",
    "print_tree",
    "tree",
]
