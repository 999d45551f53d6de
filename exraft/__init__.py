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
from exraft.errors import ExRaftError, maybe_applied
from exraft.machine import NOREPLY, StateMachine
from exraft.names import Peer, Role, node
from exraft.raft import Config

__all__ = [
    "NOREPLY",
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
    "maybe_applied",
    "node",
]
