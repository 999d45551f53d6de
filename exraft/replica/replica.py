"""One life of a user's state machine, and what its callbacks may do to the server: nothing.

Knows how each callback is called, what it may return, and what its failures become for a caller.
Must not know why an entry is committed, nor whose call waits for it.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from typing import Any, BinaryIO, cast

from exraft.codec import copy_exception, copy_reply, encode
from exraft.errors import CommandRejected, MachineError, NotSerialisable, StorageError
from exraft.machine import NOREPLY, RELEASE_CURSOR, SideEffect, StateMachine, Writer
from exraft.names import Peer, Role
from exraft.raft import Config
from exraft.replica.caller import Caller

logger = logging.getLogger("exraft.actors")


class ApplyFailed(Exception):
    """A callback failed in a way that may differ between replicas, so this one must not go on."""


class Replica:
    """A machine and its state.

    Attributes:
        released: set by a command after which the machine takes a snapshot to be worthwhile; to be
            taken back by who has looked.
    """

    def __init__(self, machine: StateMachine, init_arg: Any, me: Peer, *, debug: bool) -> None:
        self._machine = machine
        self._me = me
        self._debug = debug
        kind = type(machine)
        self.filters = kind.is_command is not StateMachine.is_command
        """Whether the machine looks at commands before they are logged."""
        self._hears_config = kind.handle_system_write is not StateMachine.handle_system_write
        self.captures = kind.snapshot is not StateMachine.snapshot
        """Whether the machine has its own way to capture its state."""
        self.released = False
        self.state = machine.init(init_arg)

    def check(self, command: Any) -> CommandRejected | None:
        """Why the machine does not let the command into the log; None if it does."""
        try:
            accepted = self._machine.is_command(command, self.state)
        except BaseException as error:
            logger.exception("is_command of %s raised, which refuses the command", self._me)
            return CommandRejected(
                f"is_command of the state machine raised {type(error).__name__}, which refuses the"
                " command: the log has the traceback"
            )
        return None if accepted else CommandRejected()

    def write(self, index: int, command: Any, call: Caller | None) -> Sequence[SideEffect]:
        """Apply the command at `index`, answer the caller, return the side effects."""
        before = self._look() if self._debug else None
        try:
            result = self._machine.handle_write(command, self.state)
        except (MemoryError, RecursionError) as error:
            raise ApplyFailed(
                f"handle_write of {self._me} could not apply the command {_short(command)} at"
                f" index {index}: {type(error).__name__}"
            ) from error
        except BaseException as error:
            self._check_unchanged(before, f"handle_write raised at index {index}, but")
            if call is not None:
                note = f"raised by handle_write of {self._me} at index {index}"
                call.reply.fail(copy_exception(error, note, maybe_applied=True))
            return ()
        effects: Sequence[SideEffect] = ()
        if isinstance(result, tuple) and len(result) == 2:
            reply, self.state = result
        elif isinstance(result, tuple) and len(result) == 3 and _are_effects(result[2]):
            reply, self.state, effects = result
        else:
            if call is not None:
                call.reply.fail(_malformed("handle_write", result, index))
            return ()
        if call is not None:
            self._reply(call, reply)
        return self._without_release(effects) if effects else effects

    def configure(self, config: Config) -> Sequence[SideEffect]:
        """Tell the machine of a committed configuration."""
        if not self._hears_config:
            return ()
        try:
            result = self._machine.handle_system_write("config", config, self.state)
        except (MemoryError, RecursionError) as error:
            raise ApplyFailed(f"handle_system_write of {self._me} failed") from error
        except BaseException:
            logger.exception("handle_system_write of %s raised; its state stays", self._me)
            return ()
        if result is self.state:
            # Even if it is a pair that looks like a state and its effects.
            return ()
        if isinstance(result, tuple) and len(result) == 2 and _are_effects(result[1]):
            self.state = result[0]
            return self._without_release(result[1])
        self.state = result
        return ()

    def read(self, query: Any, call: Caller) -> None:
        """Answer a query; `NOREPLY` leaves the caller to time out."""
        before = self._look() if self._debug else None
        try:
            reply = self._machine.handle_read(query, self.state)
        except BaseException as error:
            note = f"raised by handle_read of {self._me}"
            call.reply.fail(copy_exception(error, note, maybe_applied=False))
            return
        finally:
            if before is not None:
                self._check_unchanged(before, "a read must not change the state, but")
        if reply is not NOREPLY:
            self._reply(call, reply)

    def _without_release(self, effects: Sequence[SideEffect]) -> Sequence[SideEffect]:
        """On every server, and in a replay too: what it says is about the state, not the world."""
        if not any(effect is RELEASE_CURSOR for effect in effects):
            return effects
        self.released = True
        return [effect for effect in effects if effect is not RELEASE_CURSOR]

    def capture(self) -> Writer:
        """Capture the state; what is returned may be called in any thread, once.

        Raises:
            BaseException: what the machine raised.
            MachineError: it returned no function.
        """
        writer: object = self._machine.snapshot(self.state)
        if not callable(writer):
            raise MachineError(
                "malformed return",
                f"snapshot returned {_short(writer)}, where a function is wanted that writes the"
                " captured state into a file",
            )
        return writer

    def restored(self, file: io.BufferedIOBase) -> Any:
        """The state that a snapshot holds; in any thread, as it changes nothing here.

        Raises:
            ApplyFailed: the machine raised.
            StorageError: the snapshot can't be read.
        """
        try:
            return self._machine.restore(cast(BinaryIO, file))
        except StorageError:
            raise
        except BaseException as error:
            raise ApplyFailed(
                f"restore of {self._me} failed: {type(error).__name__}: {error}"
            ) from error

    def transition(self, role: Role) -> None:
        self._machine.transition(role, self.state)

    def terminate(self, reason: object) -> None:
        """Tell the machine that its life ends; what it raises is logged."""
        try:
            self._machine.terminate(reason, self.state)
        except BaseException:
            logger.exception("terminate of %s raised", self._me)

    def _reply(self, call: Caller, reply: Any) -> None:
        try:
            call.reply.set(copy_reply(reply, maybe_applied=call.reply.may_apply))
        except NotSerialisable as error:
            call.reply.fail(
                NotSerialisable(
                    f"the reply of {self._me}'s machine: {error}",
                    maybe_applied=call.reply.may_apply,
                )
            )

    def _look(self) -> bytes | None:
        if not self._debug:
            return None
        try:
            return encode(self.state)
        except NotSerialisable as error:
            logger.warning("whether the state of %s changes can't be checked: %s", self._me, error)
            return None

    def _check_unchanged(self, before: bytes | None, what: str) -> None:
        if before is not None and self._look() != before:
            logger.error(
                "%s the state of %s has changed in place: check first, then change", what, self._me
            )


def _are_effects(value: object) -> bool:
    return isinstance(value, list | tuple) and all(callable(effect) for effect in value)


def _malformed(callback: str, result: object, index: int) -> MachineError:
    return MachineError(
        "malformed return",
        f"{callback} returned {_short(result)} at index {index}, where (reply, state) or"
        " (reply, state, [side effects]) is wanted; the state stays as it was",
        maybe_applied=True,
    )


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        return f"a {type(value).__name__} that has no repr"
    return text if len(text) <= 200 else text[:197] + "..."
