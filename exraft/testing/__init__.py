"""Simulated clusters, and a checker of linearizability: for your machines as for ours.

It knows a virtual world (time, network, disks, clients, chance) and what must hold in it. It must
not know actors and supervisors: what it runs is the core, the stores and the machine themselves.

`Simulation` lets a cluster live through everything at once, from a seed. `linearizable` says if
what clients were told, in a simulation or by a real cluster, is what one machine could have told
them. `exraft.testing.strategies` has strategies for Hypothesis (extra `exraft[testing]`).
"""

from exraft.testing.campaign import Total, run_campaign, run_seeds
from exraft.testing.drawing import draw
from exraft.testing.faults import Faults
from exraft.testing.history import History, Operation, Raised
from exraft.testing.invariants import INVARIANTS, Violation
from exraft.testing.linearizability import Contradiction, Placed, Verdict, linearizable
from exraft.testing.models import Counter, KeyValue, MachineModel, Model, Register
from exraft.testing.plan import Happening, Plan
from exraft.testing.simulation import Report, Simulation, SimulationFailed

__all__ = [
    "INVARIANTS",
    "Contradiction",
    "Counter",
    "Faults",
    "Happening",
    "History",
    "KeyValue",
    "MachineModel",
    "Model",
    "Operation",
    "Placed",
    "Plan",
    "Raised",
    "Register",
    "Report",
    "Simulation",
    "SimulationFailed",
    "Total",
    "Verdict",
    "Violation",
    "draw",
    "linearizable",
    "run_campaign",
    "run_seeds",
]
