"""A key-value store on three servers: start, write, read, redirect, lose the leader, go on.

Run it: python examples/kv_store.py
"""

from __future__ import annotations

from typing import Any

from exraft import ExRaft, StateMachine
from exraft.errors import CommandRejected, Redirect

SERVERS = [":store1", ":store2", ":store3"]


class KeyValueStore(StateMachine):
    """Commands: `("put", key, value)` and `("delete", key)`. A query is a key."""

    def init(self, init_arg: Any) -> dict[str, Any]:
        return dict(init_arg)

    def is_command(self, command: Any, state: dict[str, Any]) -> bool:
        return isinstance(command, tuple) and command[:1] in {("put",), ("delete",)}

    def handle_write(self, command: Any, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        match command:
            case ("put", key, value):
                state[key] = value
                return "ok", state
            case ("delete", key):
                return state.pop(key, None), state
            case _:
                # Raising is an answer as well: the caller gets it, and the state stays as it is.
                raise ValueError(f"{command!r} is no command of a key-value store")

    def handle_read(self, query: Any, state: dict[str, Any]) -> Any:
        return state.get(query)


def main() -> None:
    for name in SERVERS:
        ExRaft.start_server(KeyValueStore, {"motto": "more"}, name=name, initial_config=SERVERS)
    leader = ExRaft.await_leader(SERVERS[0])
    print(f"{leader} leads {len(SERVERS)} servers")

    assert ExRaft.write(leader, ("put", "fruit", "apple")) == "ok"
    assert ExRaft.read(leader, "fruit") == "apple"
    assert ExRaft.read(leader, "motto") == "more"
    print("wrote an apple, and read it from a majority")

    follower = next(name for name in SERVERS if name != leader.name)
    try:
        ExRaft.write(follower, ("put", "fruit", "pear"))
    except Redirect as error:
        assert error.leader == leader
        print(f"{follower} takes no writes: {error}")
    else:
        raise AssertionError("a follower took a write")

    try:
        ExRaft.write(leader, ["drop", "everything"])
    except CommandRejected as error:
        print(f"not every command is one: {error}")
    else:
        raise AssertionError("is_command refused nothing")

    # A client finds the leader by itself, also the next one.
    client = ExRaft.client(SERVERS)
    ExRaft.stop_server(leader)
    client.write(("put", "fruit", "cherry"))
    assert client.read("fruit") == "cherry"
    print(f"{leader} was stopped; {ExRaft.await_leader(follower)} leads, and has a cherry now")

    assert client.write(("delete", "fruit")) == "cherry"
    assert client.read("fruit") is None
    for name in SERVERS:
        if name != leader.name:
            ExRaft.stop_server(name)
    print("all servers are stopped")


if __name__ == "__main__":
    main()
