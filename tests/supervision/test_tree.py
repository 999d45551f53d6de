"""A tree can be looked at: what `tree` tells of it, and how `print_tree` draws it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
from pykka.messages import ProxyCall
from rich.console import Console

from exraft.actors import Ignore, Process, kill
from exraft.supervision import (
    ChildSpec,
    DynamicSupervisor,
    Node,
    Supervisor,
    SupervisorNotFound,
    print_tree,
    tree,
)
from tests.helpers import LIMIT, RAFT, Gate, KeyValueStore, in_thread, run_script, wait_until
from tests.helpers import PATIENT as CALM
from tests.supervision.family import (
    BRIEF,
    PATIENT,
    Family,
    Plain,
    Ref,
    Worker,
    a_family_of,
    await_message,
    child,
    crash,
    raising,
)

family = a_family_of(Worker)
any_family = a_family_of(Worker, Plain)


def look(sup: Ref | str) -> Node:
    return tree(sup, timeout=LIMIT)


def ids(node: Node) -> list[str]:
    return [child.id for child in node.children]


def called(node: Node, *way: str) -> Node:
    """The node to which this way of ids leads."""
    for id in way:
        node = next(child for child in node.children if child.id == id)
    return node


def nest(family: Family, children: str, id: str, **options: Any) -> ChildSpec:
    return Supervisor.child_spec(family.specs(children), id=id, **options)


# What is told


def test_a_child_is_told_with_all_that_is_known_of_it(any_family: Family) -> None:
    sup = any_family.start([any_family.spec("a", restart="transient")])
    node = called(look(sup), "a")
    assert node.uptime is not None
    assert node == Node(
        id="a",
        name=None,
        kind="worker",
        actor_class=any_family.kind.__name__,
        ref=child(sup, "a"),
        state="running",
        restarts=0,
        uptime=node.uptime,
        restart="transient",
        strategy=None,
        children=(),
    )


def test_the_supervisor_itself_is_on_top(family: Family) -> None:
    sup = family.start("a", strategy="rest_for_one", name=":shop")
    node = look(":shop")
    assert (node.id, node.name, node.kind) == (":shop", ":shop", "supervisor")
    assert (node.ref, node.state, node.strategy) == (sup, "running", "rest_for_one")
    assert (node.restarts, node.restart) == (0, None)
    assert node.uptime is not None


def test_a_supervisor_without_a_name_is_called_what_it_is(family: Family) -> None:
    assert (look(family.start()).id, look(family.start_dynamic()).id) == (
        "Supervisor",
        "DynamicSupervisor",
    )
    assert look(family.start()).name is None


def test_children_come_in_start_order_restarted_or_not(any_family: Family) -> None:
    sup = any_family.start("cab", **PATIENT)
    crash(sup, "c")
    Supervisor.start_child(sup, any_family.spec("A"), timeout=LIMIT)
    assert ids(look(sup)) == ["c", "a", "b", "A"]


def test_what_hangs_below_supervisors_is_seen_to_the_bottom(family: Family) -> None:
    inner = Supervisor.child_spec([nest(family, "ab", "inner"), family.spec("c")], id="outer")
    sup = family.start([inner, family.spec("d")])
    node = look(sup)
    assert ids(node) == ["outer", "d"]
    assert ids(called(node, "outer")) == ["inner", "c"]
    assert ids(called(node, "outer", "inner")) == ["a", "b"]
    assert called(node, "outer", "inner").kind == "supervisor"


def test_the_children_of_a_dynamic_supervisor_are_seen(any_family: Family) -> None:
    sup = any_family.start([DynamicSupervisor.child_spec(name=":pool")])
    refs = [DynamicSupervisor.start_child(":pool", any_family.spec("a")) for _ in range(3)]
    pool = called(look(sup), ":pool")
    assert (pool.actor_class, pool.strategy) == ("DynamicSupervisorProcess", "one_for_one")
    assert [(node.id, node.ref) for node in pool.children] == [("a", ref) for ref in refs]


def test_a_supervisor_is_seen_whatever_its_spec_calls_it(family: Family) -> None:
    spec = ChildSpec(id="sub", start=(Supervisor.start, (family.specs("a"),), {}))
    node = called(look(family.start([spec])), "sub")
    assert node.kind == "supervisor"
    assert ids(node) == ["a"]


def test_a_raft_server_hangs_under_its_own_supervisor(family: Family) -> None:
    sup = family.start([KeyValueStore.child_spec(name=RAFT[0], **CALM), family.spec("a")])
    node = called(look(sup), RAFT[0])
    assert (node.kind, node.name) == ("supervisor", ":ExRaft.Supervisor.raft1")
    server = called(node, RAFT[0])
    assert (server.kind, server.name, server.actor_class) == ("worker", RAFT[0], "RaftServer")


class Named(Process):
    def on_start(self) -> None:
        self.register(":second")
        self.register(":first")


def test_a_worker_is_told_with_the_first_of_its_names(family: Family) -> None:
    sup = family.start([ChildSpec("a", (Named, (), {})), family.spec("b")])
    assert [node.name for node in look(sup).children] == [":first", None]


def test_restarts_are_counted_for_who_was_restarted(any_family: Family) -> None:
    sup = any_family.start("abc", strategy="rest_for_one", **PATIENT)
    crash(sup, "b")
    crash(sup, "c")
    assert [node.restarts for node in look(sup).children] == [0, 1, 2]


def test_uptime_begins_anew_with_each_life_and_is_at_most_that_of_the_supervisor(
    any_family: Family,
) -> None:
    sup = any_family.start("ab", **PATIENT)
    crash(sup, "a")
    node = look(sup)
    new, old, all_ = called(node, "a").uptime, called(node, "b").uptime, node.uptime
    assert new is not None
    assert old is not None
    assert all_ is not None
    assert 0 <= new <= old <= all_


def test_a_child_that_fails_to_start_again_is_restarting(any_family: Family) -> None:
    sup = any_family.start("ab", **PATIENT)
    any_family.fails_to_start("a")
    crash(sup, "a")
    node = called(look(sup), "a")
    assert (node.state, node.ref, node.uptime) == ("restarting", None, None)
    assert node.actor_class == any_family.kind.__name__
    assert node.restarts >= 1


def test_a_child_that_was_stopped_or_has_declined_is_stopped(family: Family) -> None:
    family.script("b").at("start", raising(Ignore()))
    sup = family.start([*family.specs("ab"), nest(family, "d", "c")])
    Supervisor.terminate_child(sup, "a", timeout=LIMIT)
    Supervisor.terminate_child(sup, "c", timeout=LIMIT)
    nodes = look(sup).children
    assert [(node.id, node.state, node.kind) for node in nodes] == [
        ("a", "stopped", "worker"),
        ("b", "stopped", "worker"),
        ("c", "stopped", "supervisor"),
    ]
    assert [node.children for node in nodes] == [(), (), ()]
    assert [node.strategy for node in nodes] == [None, None, None]


def test_who_hangs_in_two_places_is_looked_into_once(family: Family) -> None:
    sup = family.start([nest(family, "a", "x")])
    same = child(sup, "x")
    Supervisor.start_child(
        sup, Supervisor.child_spec([ChildSpec("again", (lambda: same, (), {}))], id="y")
    )
    node = look(sup)
    assert ids(called(node, "x")) == ["a"]
    assert called(node, "y", "again").state == "running"
    assert called(node, "y", "again").children == ()


def test_what_was_seen_can_not_be_changed(family: Family) -> None:
    node = look(family.start("a"))
    with pytest.raises(FrozenInstanceError):
        node.state = "busy"  # type: ignore[misc]
    assert isinstance(node.children, tuple)


# Who does not answer, and who dies meanwhile


class Held:
    """A tree of a, x and y, where x, a supervisor of b and c, is held up: c does not get on."""

    def __init__(self, family: Family) -> None:
        self.gate: Gate = family.gate()
        self.sup = family.start(
            [family.spec("a"), nest(family, "b", "x"), nest(family, "d", "y")], **PATIENT
        )
        self.x = child(self.sup, "x")
        family.script("c").at("start", self.gate.pass_through)
        self.x.tell(_start_child(family.spec("c")))
        self.gate.await_someone()

    def look(self, sup: Ref, meanwhile: Callable[[], object]) -> Node:
        """Look; do something as soon as all have been asked and only x has not answered."""
        found: list[Node] = []
        with in_thread(lambda: found.append(look(sup))):
            await_message(self.x)
            meanwhile()
            self.gate.open()
        return found[0]


def _start_child(spec: ChildSpec) -> ProxyCall:
    return ProxyCall(attr_path=("start_child",), args=(spec,), kwargs={})


@pytest.fixture
def held(family: Family) -> Iterator[Held]:
    held = Held(family)
    yield held
    held.gate.open()


def test_a_supervisor_that_does_not_answer_in_time_is_busy(held: Held) -> None:
    node = tree(held.x, timeout=BRIEF)
    assert (node.state, node.ref, node.children) == ("busy", held.x, ())
    assert (node.kind, node.strategy) == ("supervisor", "one_for_one")
    assert node.uptime is not None


def test_a_busy_supervisor_keeps_no_other_from_being_seen(held: Held) -> None:
    def only_one_is_busy() -> bool:
        node = tree(held.sup, timeout=BRIEF)
        seen = [(child.id, child.state, ids(child)) for child in node.children]
        return seen == [("a", "running", []), ("x", "busy", []), ("y", "running", ["d"])]

    wait_until(only_one_is_busy, "all but x answer")


def test_who_looks_from_a_start_sees_all_but_the_supervisor_that_waits_for_it(
    family: Family,
) -> None:
    sup = family.start([nest(family, "a", "x"), nest(family, "b", "y")])
    found: list[Node] = []
    family.script("c").at("start", lambda: found.append(tree(sup, timeout=None)))
    Supervisor.start_child(child(sup, "x"), family.spec("c"), timeout=LIMIT)
    assert [(node.id, node.state, ids(node)) for node in found[0].children] == [
        ("x", "busy", []),
        ("y", "running", ["b"]),
    ]


def test_who_looks_while_the_whole_tree_starts_sees_that_it_is_busy(family: Family) -> None:
    found: list[Node] = []
    family.script("a").at("start", lambda: found.append(tree(":shop", timeout=None)))
    family.start("a", name=":shop")
    assert (found[0].id, found[0].state) == (":shop", "busy")


def test_a_worker_that_runs_can_look_at_its_own_tree(family: Family) -> None:
    sup = family.start("ab")
    node: Any = child(sup, "a").ask(lambda actor: look(sup), timeout=LIMIT)
    assert ids(node) == ["a", "b"]


def test_a_worker_that_dies_meanwhile_is_stopped(held: Held) -> None:
    node = called(held.look(held.sup, lambda: crash(held.sup, "a")), "a")
    assert (node.kind, node.state, node.ref, node.uptime) == ("worker", "stopped", None, None)


def test_a_supervisor_that_has_answered_and_dies_meanwhile_is_stopped(held: Held) -> None:
    y = child(held.sup, "y")
    node = called(held.look(held.sup, lambda: Supervisor.stop(y, timeout=LIMIT)), "y")
    assert (node.kind, node.state, node.ref, node.children) == ("supervisor", "stopped", None, ())


def test_a_supervisor_that_dies_instead_of_answering_is_stopped(held: Held) -> None:
    node = called(held.look(held.sup, lambda: kill(held.x)), "x")
    assert (node.kind, node.state, node.ref, node.children) == ("supervisor", "stopped", None, ())


def test_the_topmost_may_die_meanwhile_too(held: Held) -> None:
    node = held.look(held.x, lambda: kill(held.x))
    assert (node.id, node.kind, node.state) == ("Supervisor", "supervisor", "stopped")
    assert node.children == ()


# What can't be looked at


def test_there_must_be_a_supervisor(family: Family) -> None:
    sup = family.start(name=":shop")
    Supervisor.stop(sup, timeout=LIMIT)
    for gone in (sup, ":shop"):
        with pytest.raises(SupervisorNotFound, match="there is no supervisor"):
            tree(gone)


def test_it_must_be_a_supervisor(family: Family) -> None:
    sup = family.start("a")
    with pytest.raises(TypeError, match="Worker"):
        tree(child(sup, "a"))
    with pytest.raises(TypeError, match="is no supervisor"):
        tree(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="such as"):
        tree("shop")


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5"])
def test_a_timeout_is_a_number_of_seconds(family: Family, timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout"):
        tree(family.start(), timeout=timeout)


# How it is drawn

WORKER = Node(
    id="a",
    name=None,
    kind="worker",
    actor_class="Mailer",
    ref=None,
    state="running",
    restarts=0,
    uptime=1.5,
    restart="permanent",
    strategy=None,
    children=(),
)
SUPERVISOR = replace(
    WORKER,
    id=":shop",
    name=":shop",
    kind="supervisor",
    actor_class="SupervisorProcess",
    strategy="one_for_one",
)
POOL = replace(SUPERVISOR, id=":pool", actor_class="DynamicSupervisorProcess")


def over(node: Node, *children: Node) -> Node:
    return replace(node, children=children)


def drawn(node: Node, **options: Any) -> list[str]:
    text = io.StringIO()
    print_tree(node, Console(file=text, width=40), **options)
    return text.getvalue().splitlines()


def test_each_actor_has_a_line_below_its_supervisor() -> None:
    inner = over(replace(SUPERVISOR, id="x", strategy="rest_for_one"), WORKER)
    assert drawn(over(SUPERVISOR, inner, over(SUPERVISOR, WORKER), WORKER)) == [
        ":shop  Supervisor one_for_one  running 1.5 s",
        "├── x (:shop)  Supervisor rest_for_one  running 1.5 s",
        "│   └── a  Mailer  running 1.5 s",
        "├── :shop  Supervisor one_for_one  running 1.5 s",
        "│   └── a  Mailer  running 1.5 s",
        "└── a  Mailer  running 1.5 s",
    ]


def test_a_line_tells_state_name_and_restarts() -> None:
    again = replace(WORKER, name=":post", restarts=1)
    often = replace(WORKER, state="restarting", uptime=None, restarts=1234, actor_class=None)
    stopped = replace(WORKER, state="stopped", uptime=None)
    assert drawn(over(POOL, again, often, stopped))[1:] == [
        "├── a (:post)  Mailer  running 1.5 s, 1 restart",
        "├── a  restarting, 1,234 restarts",
        "└── a  Mailer  stopped",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0 ms"),
        (0.0129, "12 ms"),
        (0.9999, "999 ms"),
        (1.0, "1.0 s"),
        (59.99, "59.9 s"),
        (60.0, "1 min 0 s"),
        (3599.9, "59 min 59 s"),
        (3600.0, "1 h 0 min"),
        (86399.0, "23 h 59 min"),
        (100 * 86400.0 + 7200.0, "100 d 2 h"),
    ],
)
def test_uptime_is_told_in_units_that_can_be_read(seconds: float, shown: str) -> None:
    assert drawn(replace(WORKER, uptime=seconds)) == [f"a  Mailer  running {shown}"]


def test_what_looks_like_markup_is_shown_as_it_is() -> None:
    line = drawn(replace(WORKER, id="[bold]a[/] :smile:", name=":[red]"))[0]
    assert line.startswith("[bold]a[/] :smile: (:[red])  Mailer")


def test_an_id_can_neither_break_the_line_nor_steer_the_terminal() -> None:
    (line,) = drawn(replace(WORKER, id="a\nb\x1b[31m\ud800"))
    assert line.startswith(r"a\nb\x1b[31m\ud800  Mailer")


def test_a_line_longer_than_the_console_is_not_cut() -> None:
    (_, line) = drawn(over(SUPERVISOR, replace(WORKER, id="a long id " * 20)))
    assert line == f"└── {'a long id ' * 20}  Mailer  running 1.5 s"


def test_where_there_is_only_ascii_it_is_drawn_in_ascii() -> None:
    raw = io.BytesIO()
    text = io.TextIOWrapper(raw, encoding="ascii")
    node = over(SUPERVISOR, over(POOL, WORKER), replace(WORKER, id="café"))
    print_tree(node, Console(file=text))
    text.flush()
    assert raw.getvalue().decode("ascii").splitlines() == [
        ":shop  Supervisor one_for_one  running 1.5 s",
        "+-- :pool (:shop)  DynamicSupervisor one_for_one  running 1.5 s",
        "|   `-- a  Mailer  running 1.5 s",
        r"`-- caf\xe9  Mailer  running 1.5 s",
    ]


def test_of_a_pool_the_first_are_shown_and_how_many_more_there_are() -> None:
    node = over(SUPERVISOR, over(POOL, *[WORKER] * 5000), WORKER)
    lines = drawn(node)
    assert len(lines) == 1 + 1 + 10 + 1 + 1
    assert lines[12] == "│   └── ... and 4,990 more"
    assert drawn(node, most=2)[2:5] == [
        "│   ├── a  Mailer  running 1.5 s",
        "│   ├── a  Mailer  running 1.5 s",
        "│   └── ... and 4,998 more",
    ]
    assert len(drawn(node, most=None)) == 5003


def test_who_does_not_run_among_the_hidden_is_counted() -> None:
    ailing = [replace(WORKER, state="restarting")] * 2 + [replace(WORKER, state="stopped")]
    assert drawn(over(POOL, *[WORKER] * 20, *ailing))[-1] == (
        "└── ... and 13 more, 2 restarting, 1 stopped"
    )


def test_children_with_ids_of_their_own_are_all_shown() -> None:
    assert len(drawn(over(SUPERVISOR, *[WORKER] * 50))) == 51


def test_on_a_terminal_the_state_is_coloured() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, color_system="standard")
    print_tree(WORKER, console)
    print_tree(replace(WORKER, state="restarting", uptime=None), console)
    assert "\x1b[32m  running\x1b[0m" in text.getvalue()
    assert "\x1b[33m  restarting\x1b[0m" in text.getvalue()


def test_a_living_tree_is_drawn_on_standard_output(
    family: Family, capsys: pytest.CaptureFixture[str]
) -> None:
    family.start("ab", name=":shop")
    assert print_tree(":shop", timeout=LIMIT) is None  # type: ignore[func-returns-value]
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("  ")[0] for line in lines] == [":shop", "├── a", "└── b"]


def test_a_supervisor_that_is_not_there_can_not_be_drawn() -> None:
    with pytest.raises(SupervisorNotFound):
        print_tree(":shop")


def test_rich_is_imported_when_something_is_drawn_and_not_before(tmp_path: Path) -> None:
    script = """
import sys
from exraft.supervision import Supervisor, print_tree, tree
sup = Supervisor.start(name=":shop")
tree(sup)
print("rich" in sys.modules)
print_tree(sup)
Supervisor.stop(sup)
"""
    result = run_script(script, tmp_path)
    assert result.stderr == ""
    assert result.stdout.startswith("False\n:shop  Supervisor one_for_one  running")
