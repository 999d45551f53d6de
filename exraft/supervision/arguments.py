"""The arguments of a child's start, kept as they were at the beginning (S12).

Knows which containers are copied, so that no life of a child finds what an earlier one, or the
maker of its spec, has changed. Must not know what the arguments mean.

Python's own mutable containers are copied, and what they hold likewise; anything else is passed on
as it is, for it may be a lock, a connection or a store that is meant to be shared. Subclasses are
such others too: how they are copied is theirs to say. On the BEAM all data is immutable, and the
question does not arise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from exraft.child_spec import ChildSpec, Start


def own_start(start: Start) -> Start:
    """Return `start` with arguments of its own.

    To be used when a spec is taken, and at each start again: the first keeps the arguments from
    whoever made the spec, the second from the child.
    """
    function, args, kwargs = start
    copies: dict[int, Any] = {}
    # Plain ones, whatever was given: only their items may be of other kinds.
    return (
        function,
        tuple([_own(value, copies) for value in args]),
        {key: _own(value, copies) for key, value in kwargs.items()},
    )


def _own(value: Any, copies: dict[int, Any]) -> Any:
    """Copy `value` if it is one of Python's containers.

    `copies` has those that were made, by the id of the original: so that what was one object
    remains one, and what holds itself comes to an end.
    """
    kind = type(value)
    if kind not in _COPIED:
        return value
    if id(value) in copies:
        return copies[id(value)]
    copy: Any
    if kind is list:
        copies[id(value)] = copy = []
        copy.extend([_own(item, copies) for item in value])
    elif kind is dict:
        copies[id(value)] = copy = {}
        # Keys are hashable, and so are a set's items: what is in them does not change.
        copy.update([(key, _own(item, copies)) for key, item in value.items()])
    elif kind is tuple:
        items = tuple([_own(item, copies) for item in value])
        # One of them may have held this tuple, and brought it back.
        copy = copies.setdefault(id(value), items)
    elif kind is ChildSpec:
        # A nested tree is restarted as it was at the beginning too.
        copies[id(value)] = copy = replace(value, start=_own(value.start, copies))
    else:
        copies[id(value)] = copy = value.copy()
    return copy


_COPIED = frozenset((list, dict, tuple, set, bytearray, ChildSpec))
