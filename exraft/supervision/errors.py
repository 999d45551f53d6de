"""Every failure of a call to a supervisor.

Knows the words of a refusal, its reason in OTP's words and what a caller should do next.
Must not know who raises it or when: the checks and the supervisors decide that.
"""

from __future__ import annotations

from typing import Any

import pykka

from exraft.errors import AlreadyStarted, ExRaftError


class SpecError(ExRaftError, ValueError):
    """A child spec makes no sense; nothing was started (reason `"bad_child_spec"`).

    Attributes:
        child: the id in the spec; where there is none, the place in the list, from 1, or `None`.
        field: the field of `ChildSpec` that is wrong; `None`: it is no `ChildSpec` at all.
    """

    word = "bad_child_spec"
    child: str | int | None
    field: str | None

    def __init__(
        self,
        child: str | int | None,
        field: str | None,
        fault: str,
        *,
        maybe_applied: bool | None = None,
    ) -> None:
        if child is None:
            whose = "the child"
        else:
            whose = f"child {child!r}" if isinstance(child, str) else f"child number {child}"
        where = whose if field is None else f"{whose}, {field}"
        super().__init__(f"{where}: {fault}", maybe_applied=maybe_applied)
        self.child = child
        self.field = field


class _ChildError(ExRaftError):
    """A call about one child; `says` is filled in with what was given for it."""

    child: Any

    def __init__(self, child: Any, *, maybe_applied: bool | None = None) -> None:
        shown = repr(child) if isinstance(child, str) else str(child)
        super().__init__(self.says.format(child=shown), maybe_applied=maybe_applied)
        self.child = child

    # A reference means nothing elsewhere, and can't be pickled.
    def _portable(self) -> dict[str, Any]:
        return super()._portable() | {"child": self.child if isinstance(self.child, str) else None}


class ChildAlreadyStarted(AlreadyStarted):
    """A child with that id runs, or is to be started again.

    Attributes:
        child: the id.
        ref: the `pykka.ActorRef` of the one that runs; `None` after pickling, or if it is to be
            started again.
    """

    child: str

    def __init__(self, ref: Any, child: str, *, maybe_applied: bool | None = None) -> None:
        super().__init__(ref, maybe_applied=maybe_applied)
        what = "is to be started again" if ref is None else f"runs already, as {ref}"
        self.args = (f"child {child!r} {what}: use another id, or terminate and delete it first",)
        self.child = child


class AlreadyPresent(_ChildError):
    """A child with that id is there, but does not run (reason `"already_present"`).

    Attributes:
        child: the id.
    """

    word = "already_present"
    says = (
        "there is a child {child} already, which does not run:"
        " start it with Supervisor.restart_child, or delete it with Supervisor.delete_child first"
    )


class ChildNotFound(_ChildError, LookupError):
    """The supervisor has no such child (reason `"not_found"`).

    Attributes:
        child: the id or the `pykka.ActorRef` that was given; a reference is `None` after pickling.
    """

    word = "not_found"
    says = "the supervisor has no child {child}: see which_children for those it has"


class ChildRunning(_ChildError):
    """The child must be stopped first (reason `"running"`).

    Attributes:
        child: the id.
    """

    word = "running"
    says = "child {child} is running: stop it with Supervisor.terminate_child first"


class ChildRestarting(_ChildError):
    """The supervisor is about to start the child again (reason `"restarting"`).

    Attributes:
        child: the id.
    """

    word = "restarting"
    says = (
        "child {child} is being started again by its supervisor:"
        " wait until it runs, or stop the attempts with Supervisor.terminate_child first"
    )


class TooManyChildren(ExRaftError):
    """The supervisor has all the children that it may have (reason `"max_children"`).

    Attributes:
        max_children: how many that are.
    """

    word = "max_children"
    max_children: int

    def __init__(self, max_children: int, *, maybe_applied: bool | None = None) -> None:
        super().__init__(
            f"the supervisor has as many children as it may have, {max_children}: wait until one"
            " has ended, or start the supervisor with a larger max_children",
            maybe_applied=maybe_applied,
        )
        self.max_children = max_children


class SupervisorNotFound(ExRaftError, LookupError, pykka.ActorDeadError):
    """Nobody has that name, or the supervisor has ended (reason `"noproc"`).

    Attributes:
        supervisor: the name or the `pykka.ActorRef` that was called; a reference is `None` after
            pickling.
    """

    word = "noproc"
    supervisor: Any

    def __init__(self, supervisor: Any, *, maybe_applied: bool | None = None) -> None:
        super().__init__(
            f"there is no supervisor {supervisor}: start it first, or mend the name",
            maybe_applied=maybe_applied,
        )
        self.supervisor = supervisor

    def _portable(self) -> dict[str, Any]:
        name = self.supervisor if isinstance(self.supervisor, str) else None
        return super()._portable() | {"supervisor": name}


class SupervisorDown(ExRaftError, pykka.ActorDeadError):
    """The supervisor ended while the call waited (reason `("down", why)`).

    Its children have ended with it (S34). Whether it did before what was asked of it is unknown, so
    `maybe_applied` is `True`.

    Attributes:
        why: its exit reason.
    """

    word = "down"
    usually_applied = True
    why: object

    def __init__(self, why: object, *, maybe_applied: bool | None = None) -> None:
        super().__init__(
            f"the supervisor ended ({why if isinstance(why, str) else repr(why)}) while the call"
            " waited, and its children with it: call again when it has been started again",
            reason=(self.word, why),
            maybe_applied=maybe_applied,
        )
        self.why = why
