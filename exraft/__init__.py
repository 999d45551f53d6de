"""Raft consensus for Python, as named actors under supervision.

```python
from exraft import ExRaft, StateMachine
```

See `ExRaft` for what can be called, and `StateMachine` for what is to be implemented.
"""

from exraft.actors.registry import ActorRegistry
from exraft.actors.status import PeerStatus, Status
from exraft.api import ExRaft
from exraft.child_spec import ChildSpec
from exraft.client import Client
from exraft.distribution import connect, node_status, start_node, stop_node
from exraft.errors import ExRaftError, maybe_applied
from exraft.machine import NOREPLY, RELEASE_CURSOR, StateMachine
from exraft.names import Peer, Role, node
from exraft.raft import Config

__all__ = [
    "NOREPLY",
    "RELEASE_CURSOR",
    "ActorRegistry",
    "ChildSpec",
    "Client",
    "Config",
    "ExRaft",
    "ExRaftError",
    "Peer",
    "PeerStatus",
    "Role",
    "StateMachine",
    "Status",
    "connect",
    "maybe_applied",
    "node",
    "node_status",
    "start_node",
    "stop_node",
]


def __getattr__(name: str) -> str:
    # Looked up when somebody asks: importlib.metadata would take a quarter of the import's time.
    if name == "__version__":
        from importlib.metadata import version

        return version("exraft")
    raise AttributeError(f"module 'exraft' has no attribute {name!r}")
