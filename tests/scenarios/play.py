"""Every line of the language, and what it does to the servers or expects of them.

Knows the lines, which `README.md` describes one by one. Must not know what a core ought to do: that
stands in the scripts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from exraft.names import Peer, Role
from exraft.raft import Raft
from tests.scenarios.facts import Unmet, counted, unlike
from tests.scenarios.phrases import PHRASES, Phrase, phrase
from tests.scenarios.words import (
    CLUSTER,
    OTHER_CLUSTER,
    Letter,
    Malformed,
    commands,
    entries,
    kind_of,
    message_of,
    name_of,
    peer_of,
    selection,
    show_letter,
)
from tests.scenarios.world import Given, Server, World

PATIENCE = 60.0
"""Seconds of virtual time that `run until` takes at most."""


class Play:
    """One run of a script; its methods are the lines."""

    def __init__(self, seed: str) -> None:
        self.world = World(seed)
        self._begun = False

    def do(self, line: str) -> None:
        phrase, arguments = self._understand(line)
        if phrase.when == "setup" and self._begun:
            raise Malformed("this has to be said before anything happens")
        if phrase.when != "setup" and not self._begun:
            if not self.world.servers:
                raise Malformed("first say which servers there are: servers a b c")
            self._begun = True
            self.world.begin()
        phrase.says(self, *arguments)

    @phrase("{n} times: {line}")
    def repeat(self, times: str, lines: str) -> None:
        """`3 times: wait 1 s; deliver`."""
        for _ in range(int(times)):
            for line in lines.split("; "):
                self.do(line)

    def _understand(self, line: str) -> tuple[Phrase, tuple[str, ...]]:
        found = [
            (phrase, match.groups())
            for phrase in PHRASES
            if (match := phrase.pattern.fullmatch(line)) is not None
        ]
        if not found:
            word = re.sub(r"^(the leader|[a-z])\b:?", "", line).split()
            near = [each.form for each in PHRASES if word and f" {word[0]}" in f" {each.form}"]
            hint = "; did you mean one of these?" if near else ""
            raise Malformed("\n  ".join([f"there is no such line{hint}", *near]))
        if len(found) > 1:
            forms = ", ".join(phrase.form for phrase, _ in found)
            raise Malformed(f"this may be read in more than one way: {forms}")
        return found[0]

    def _server(self, name: str) -> Server:
        if name == "the leader":
            leader = self.world.leader()
            if leader is None:
                raise Unmet("a leader", "nobody leads")
            return leader
        if name not in self.world.servers:
            raise Malformed(f"there is no server {name}")
        return self.world.servers[name]

    def _running(self, name: str) -> Server:
        server = self._server(name)
        if server.raft is None:
            raise Malformed(f"{name} is down")
        return server

    def _raft(self, name: str) -> Raft:
        raft = self._running(name).raft
        assert raft is not None
        return raft

    def _servers(self, names: str) -> list[Server]:
        if names == "all":
            return [s for s in self.world.servers.values() if s.raft is not None]
        if names == "the leader":
            return [self._server(names)]
        return [self._server(name) for name in names.split()]

    def _way(self, text: str) -> list[Letter]:
        """What is meant among the messages on their way; it must be something."""
        letters = selection(text).of(self.world.way)
        if not letters:
            raise Unmet(f"{text} on the way", "nothing of the kind")
        return letters

    def _new_ticket(self, ticket: str) -> str:
        if ticket in self.world.answers:
            raise Malformed(f"{ticket} was asked for already: call this one otherwise")
        return ticket

    # Before the servers start.

    @phrase("servers {names}", "setup")
    def servers(self, names: str) -> None:
        self._declare(names, fresh=False)

    @phrase("fresh servers {names}", "setup")
    def fresh_servers(self, names: str) -> None:
        self._declare(names, fresh=True)

    def _declare(self, names: str, *, fresh: bool) -> None:
        if self.world.founders:
            raise Malformed("the servers were named already")
        self.world.found(names.split(), fresh=fresh)

    @phrase("another cluster {names}", "setup")
    def another_cluster(self, names: str) -> None:
        if not self.world.founders or set(names.split()) & set(self.world.founders):
            raise Malformed("first name the servers that it is about, and other ones here")
        self.world.found_other(names.split())

    @phrase("options{fields}", "setup")
    def options(self, fields: str) -> None:
        if self.world.founders:
            raise Malformed("options come before the servers")
        for word in fields.split():
            name, _, text = word.partition("=")
            if not hasattr(self.world.options, name):
                raise Malformed(f"there is no option {name}")
            kind = type(getattr(self.world.options, name))
            self.world.options = replace(self.world.options, **{name: kind(text)})

    @phrase("log of {names}: {facts}", "setup")
    def given_log(self, names: str, facts: str) -> None:
        text, *more = facts.split(", ")
        server = self._server(names[0])
        log = entries(
            "" if text == "nothing" else text,
            founders=[name_of(peer) for peer in server.founders],
            cluster=CLUSTER if server.watch is self.world.watch else OTHER_CLUSTER,
        )
        given = Given(log, log[-1].term if log else 0)
        for fact in more:
            word, _, value = fact.partition(" ")
            if word == "vote" and re.fullmatch(r"[a-z]", value):
                given.vote = peer_of(value)
            elif word in ("term", "commit") and value.isdigit():
                setattr(given, word, int(value))
            else:
                raise Malformed(f"{fact!r} is none of: term 3, vote b, commit 2")
        for name in names.split():
            self._server(name)
            self.world.give(name, given)

    # Messages.

    @phrase("deliver")
    def deliver(self) -> None:
        self.world.deliver_all()

    @phrase("deliver {selection}")
    def deliver_some(self, text: str) -> None:
        ways = {" together": "", " in reverse": ""}
        how = next((way for way in ways if text.endswith(way)), "")
        letters = self._way(text.removesuffix(how))
        self.world.take(letters)
        self._arrive(letters, how.strip())

    @phrase("deliver {kept}")
    def deliver_kept(self, kept: str) -> None:
        letters = self._kept(kept)
        del self.world.kept[kept]
        self.world.held.pop(kept, None)
        self._arrive(letters, "")

    @phrase("deliver a copy of {kept}")
    def deliver_copy(self, kept: str) -> None:
        self._arrive(self._kept(kept), "")

    def _kept(self, kept: str) -> list[Letter]:
        if not self.world.kept.get(kept):
            raise Unmet(f"messages kept as {kept}", "none")
        return self.world.kept[kept]

    def _arrive(self, letters: Sequence[Letter], how: str) -> None:
        if how == "together":
            batches: dict[Peer, list[Letter]] = {}
            for letter in letters:
                batches.setdefault(letter.to, []).append(letter)
            for batch in batches.values():
                self.world.arrive(batch)
            return
        for letter in reversed(letters) if how else letters:
            self.world.arrive([letter])

    @phrase("drop {selection}")
    def drop(self, text: str) -> None:
        self.world.take(self._way(text))

    @phrase("double {selection}")
    def double(self, text: str) -> None:
        self.world.way += [Letter(*letter) for letter in self._way(text)]

    @phrase("damage {selection}")
    def damage(self, text: str) -> None:
        letters = self._way(text)
        if any(kind_of(letter.message) != "piece" for letter in letters):
            raise Malformed("only pieces of snapshots can be damaged")
        hurt = set(map(id, letters))
        way = self.world.way
        self.world.way = [self.world.damage(one) if id(one) in hurt else one for one in way]

    @phrase("keep {selection} as {kept}")
    def keep(self, text: str, kept: str) -> None:
        letters = self._way(text)
        self.world.take(letters)
        self.world.kept.setdefault(kept, []).extend(letters)

    @phrase("hold {selection} as {kept}")
    def hold(self, text: str, kept: str) -> None:
        self.world.held[kept] = selection(text)
        letters = self.world.held[kept].of(self.world.way)
        self.world.take(letters)
        self.world.kept.setdefault(kept, []).extend(letters)

    @phrase("lose {selection}")
    def lose(self, text: str) -> None:
        rule = selection(text)
        self.world.take(rule.of(self.world.way))
        self.world.lost.append(rule)

    @phrase("cut {names} | {names}")
    def cut_between(self, some: str, others: str) -> None:
        self._cut(some.split(), others.split())
        self._cut(others.split(), some.split())

    @phrase("cut {names} -> {names}")
    def cut_one_way(self, some: str, others: str) -> None:
        self._cut(some.split(), others.split())

    def _cut(self, senders: Sequence[str], receivers: Sequence[str]) -> None:
        for sender in senders:
            for receiver in receivers:
                self._server(sender)
                self._server(receiver)
                self.world.cut[sender, receiver] = None
        self.world.take(
            [
                letter
                for letter in self.world.way
                if (name_of(letter.sender), name_of(letter.to)) in self.world.cut
            ]
        )

    @phrase("heal")
    def heal(self) -> None:
        self.world.cut.clear()
        self.world.lost.clear()

    @phrase("heal {names} | {names}")
    def heal_between(self, some: str, others: str) -> None:
        for one in some.split():
            for other in others.split():
                if (one, other) not in self.world.cut and (other, one) not in self.world.cut:
                    raise Malformed(f"{one} and {other} are not cut off from each other")
                self.world.cut.pop((one, other), None)
                self.world.cut.pop((other, one), None)

    @phrase("{server} hears {kind} from {server}:{fields}")
    def hears(self, to: str, kind: str, sender: str, fields: str) -> None:
        server = self._running(to)
        found = dict(field.split("=", 1) for field in fields.split())
        cluster = self._raft(to).cluster
        message = message_of(kind, peer_of(sender), found, cluster, self.world.founders)
        self.world.arrive([Letter(peer_of(sender), server.peer, message)])

    # Time.

    @phrase("wait {seconds} s")
    def wait(self, seconds: str) -> None:
        self.world.advance(float(seconds), list(self.world.servers.values()))

    @phrase("{server} waits {seconds} s")
    def waits(self, name: str, seconds: str) -> None:
        self.world.advance(float(seconds), [self._running(name)])

    @phrase("{server} stalls for {seconds} s")
    def stalls(self, name: str, seconds: str) -> None:
        server = self._running(name)
        server.now += float(seconds)
        self.world.wake(server)

    @phrase("{server} times out")
    def times_out(self, name: str) -> None:
        self._must_be(name, Role.FOLLOWER, Role.CANDIDATE)
        self.world.look(self._running(name))

    @phrase("{server} beats")
    def beats(self, name: str) -> None:
        self._must_be(name, Role.LEADER)
        self.world.look(self._running(name))

    def _must_be(self, name: str, *roles: Role) -> None:
        raft = self._raft(name)
        if raft.state not in roles:
            raise Unmet(f"{name} is a {' or a '.join(roles)}", f"it is a {raft.state}")
        if raft.deadline == float("inf"):
            raise Unmet(f"{name} waits for something", "it will not look at the time any more")

    @phrase("the clock of {server} runs {factor} times as fast")
    def rate(self, name: str, factor: str) -> None:
        self._server(name).rate = float(factor)

    @phrase("run {seconds} s")
    def run(self, seconds: str) -> None:
        self._run(float(seconds), lambda: False)

    @phrase("run {seconds} s while {line}")
    def run_while(self, seconds: str, line: str) -> None:
        look = self._expectation(line)
        look()

        def still() -> bool:
            look()
            return False

        self._run(float(seconds), still)

    @phrase("run until {line}")
    def run_until(self, line: str) -> None:
        look = self._expectation(line)
        last: list[Unmet] = []

        def met() -> bool:
            try:
                look()
            except Unmet as unmet:
                last[:] = [unmet]
                return False
            last.clear()
            return True

        if not met():
            self._run(PATIENCE, met)
        if last:
            raise last[0]

    def _run(self, seconds: float, then: Callable[[], bool]) -> None:
        """Whatever is sent arrives at once, and clocks go on."""

        def settle() -> bool:
            self.world.deliver_all()
            return then()

        self.world.deliver_all()
        self.world.advance(seconds, list(self.world.servers.values()), settle)

    def _expectation(self, line: str) -> Callable[[], None]:
        phrase, arguments = self._understand(line)
        if phrase.when != "expect":
            raise Malformed(f"{line!r} expects nothing")
        return lambda: phrase.says(self, *arguments)

    # Lives and stores.

    @phrase("{server} crashes")
    def crashes(self, name: str) -> None:
        self.world.crash(self._running(name))

    @phrase("{server} crashes as soon as it is elected")
    def crashes_when_elected(self, name: str) -> None:
        self.world.doom(self._running(name))

    @phrase("{server} loses power")
    def loses_power(self, name: str) -> None:
        self.world.crash(self._running(name), lossy=True)

    @phrase("{server} restarts")
    def restarts(self, name: str) -> None:
        self._start(name, resume=False)

    @phrase("{server} resumes")
    def resumes(self, name: str) -> None:
        self._start(name, resume=True)

    def _start(self, name: str, *, resume: bool) -> None:
        server = self._server(name)
        if server.raft is not None:
            self.world.crash(server)
        self.world.start(server, resume=resume)

    @phrase("{server} resumes while its old life goes on as {names}")
    def superseded(self, name: str, ghost: str) -> None:
        if len(ghost) != 1 or ghost in self.world.servers:
            raise Malformed(f"{ghost} is not free")
        self.world.supersede(self._running(name), ghost)

    @phrase("{server} comes back with a new store")
    def back_with_new_store(self, name: str) -> None:
        self.world.new_store(self._server(name), standby=True)

    @phrase("{server} comes back with a new store and says nothing of it")
    def back_unnoticed(self, name: str) -> None:
        self.world.new_store(self._server(name), standby=False)

    @phrase("newcomer {names}")
    def newcomer(self, names: str) -> None:
        for name in names.split():
            if name in self.world.servers:
                raise Malformed(f"there is a server {name}")
            self.world.newcomer(name)

    @phrase("{server} pauses")
    def pauses(self, name: str) -> None:
        self._running(name).paused = True

    @phrase("{server} wakes")
    def wakes(self, name: str) -> None:
        server = self._running(name)
        if not server.paused:
            raise Malformed(f"{name} does not pause")
        self.world.wake(server)

    @phrase("{server} syncs slowly")
    def syncs_slowly(self, name: str) -> None:
        self._running(name).slow = True

    @phrase("{server} syncs")
    def syncs(self, name: str) -> None:
        server = self._running(name)
        if not server.syncing:
            raise Unmet(f"{name} has something to sync", "nothing")
        while server.syncing:
            self.world.sync(server)

    @phrase("{server} syncs once")
    def syncs_once(self, name: str) -> None:
        server = self._running(name)
        if not server.syncing:
            raise Unmet(f"{name} has something to sync", "nothing")
        self.world.sync(server)

    # Requests.

    @phrase("{server} campaigns")
    def campaigns(self, name: str) -> None:
        self.world.act(self._running(name), lambda raft, now: raft.campaign(now))

    @phrase("{server} takes the lead")
    def takes_the_lead(self, name: str) -> None:
        """It campaigns, and everybody whom it reaches hears that it has committed."""
        self.campaigns(name)
        self.world.deliver_all()
        for _ in range(2):
            self.beats(name)
            self.world.deliver_all()

    @phrase("{server} writes {commands}")
    def writes(self, name: str, text: str) -> None:
        self._write(name, text, 0)

    @phrase("{server} writes {commands} of {n} bytes")
    def writes_bytes(self, name: str, text: str, size: str) -> None:
        self._write(name, text, int(size))

    @phrase("{server} writes one by one: {commands}")
    def writes_one_by_one(self, name: str, text: str) -> None:
        for command in commands(text):
            self._write(name, command, 0)

    @phrase("{server} writes one by one: {commands} of {n} bytes")
    def writes_bytes_one_by_one(self, name: str, text: str, size: str) -> None:
        for command in commands(text):
            self._write(name, command, int(size))

    def _write(self, name: str, text: str, size: int) -> None:
        known = [self._new_ticket(command) for command in commands(text)]
        self.world.write(self._running(name), known, size)

    @phrase("{server} reads as {tickets}")
    def reads(self, name: str, text: str) -> None:
        tickets = [self._new_ticket(ticket) for ticket in text.split()]
        self.world.read(self._running(name), tickets)

    @phrase("{server} adds {names} as {ticket}")
    def adds(self, name: str, peer: str, ticket: str) -> None:
        self._change(name, peer, ticket, add=True)

    @phrase("{server} removes {names} as {ticket}")
    def removes(self, name: str, peer: str, ticket: str) -> None:
        self._change(name, peer, ticket, add=False)

    def _change(self, name: str, peer: str, ticket: str, *, add: bool) -> None:
        self._new_ticket(ticket)
        self.world.act(
            self._running(name),
            lambda raft, now: raft.change(ticket, peer_of(peer), add=add, patience=5.0, now=now),
        )

    @phrase("{server} hands over to {names} as {ticket}")
    def hands_over_to(self, name: str, peer: str, ticket: str) -> None:
        self._transfer(name, ticket, peer_of(peer))

    @phrase("{server} hands over as {ticket}")
    def hands_over(self, name: str, ticket: str) -> None:
        self._transfer(name, ticket, None)

    def _transfer(self, name: str, ticket: str, to: Peer | None) -> None:
        self._new_ticket(ticket)
        self.world.act(self._running(name), lambda raft, now: raft.transfer(ticket, to, now))

    @phrase("{server} learns that {server} is gone")
    def gone(self, name: str, peer: str) -> None:
        self.world.act(self._running(name), lambda raft, now: raft.leader_gone(peer_of(peer), now))

    @phrase("{server} loses its connection to {server}")
    def loses(self, name: str, peer: str) -> None:
        self.world.act(self._running(name), lambda raft, now: raft.leader_lost(peer_of(peer), now))

    @phrase("{server} takes a snapshot")
    def takes_snapshot(self, name: str) -> None:
        self.begins_snapshot(name)
        self.finishes_snapshot(name)

    @phrase("{server} takes a snapshot in other bytes")
    def takes_other_snapshot(self, name: str) -> None:
        """Of the same state, as another server might write it."""
        self._begin_snapshot(name, "likewise")
        self.finishes_snapshot(name)

    @phrase("{server} begins a snapshot")
    def begins_snapshot(self, name: str) -> None:
        self._begin_snapshot(name, "")

    def _begin_snapshot(self, name: str, before: str) -> None:
        server = self._running(name)
        store = server.store
        newest = 0 if store.snapshot is None else store.snapshot.index
        if server.taking is not None or store.commit_index <= newest:
            raise Malformed(f"{name} takes one already, or has nothing new to take one of")
        self.world.begin_snapshot(server, before)

    @phrase("{server} finishes its snapshot")
    def finishes_snapshot(self, name: str) -> None:
        server = self._running(name)
        if server.taking is None:
            raise Malformed(f"{name} has begun no snapshot")
        self.world.finish_snapshot(server)

    @phrase("{server} can not apply its log")
    def halts(self, name: str) -> None:
        self.world.act(self._running(name), lambda raft, now: raft.halt(now))

    # What is expected.

    @phrase("{servers}: {facts}", "expect")
    def state(self, names: str, facts: str) -> None:
        for server in self._servers(names):
            for fact in facts.split(", "):
                found = unlike(server, fact)
                if found is not None:
                    raise Unmet(f"{server.name}: {fact}", found)

    @phrase("nobody leads", "expect")
    def nobody_leads(self) -> None:
        leader = self.world.leader()
        if leader is not None:
            raise Unmet("nobody leads", f"{leader.name} leads term {leader.store.term}")

    @phrase("someone leads", "expect")
    def someone_leads(self) -> None:
        if self.world.leader() is None:
            raise Unmet("someone leads", "nobody does")

    @phrase("led so far: {facts}", "expect")
    def led(self, wanted: str) -> None:
        leaders = self.world.watch.leaders
        found = " ".join(
            f"{term}:{name_of(leaders[term])}"
            for term in sorted(leaders)
            if leaders[term].name != ":before"
        )
        if (found or "nobody") != wanted:
            raise Unmet(wanted, found or "nobody")

    @phrase("committed: {facts}", "expect")
    def committed(self, wanted: str) -> None:
        found = self.world.committed()
        if found != ([] if wanted == "nothing" else commands(wanted)):
            raise Unmet(wanted, " ".join(found) or "nothing")

    @phrase("answer {ticket}: {facts}", "expect")
    def answer(self, ticket: str, wanted: str) -> None:
        found = self.world.answers.get(ticket, "none")
        if found != wanted:
            raise Unmet(wanted, found)

    @phrase("{server} reports {text}", "expect")
    def reports(self, name: str, text: str) -> None:
        found = self._server(name).reports
        if not any(text.strip('"') in report for report in found):
            raise Unmet(f"a report with {text}", "\n          ".join(found) or "none")

    @phrase("{server} reports nothing", "expect")
    def reports_nothing(self, name: str) -> None:
        found = self._server(name).reports
        if found:
            raise Unmet("no report", "\n          ".join(found))

    @phrase("on the way: {selection}", "expect")
    def on_the_way(self, text: str) -> None:
        self._count(text, self.world.way)

    @phrase("count from here")
    def count_from_here(self) -> None:
        self.world.sent.clear()

    @phrase("sent: {selection}", "expect")
    def sent(self, text: str) -> None:
        self._count(text, self.world.sent)

    def _count(self, text: str, letters: Sequence[Letter]) -> None:
        fits, wanted, rest = counted(text)
        chosen = selection(rest)
        found = chosen.of(letters)
        if not fits(len(found)):
            near = replace(chosen, fields={}).of(letters)
            shown = "\n          ".join(map(show_letter, found or near)) or "nothing like it"
            raise Unmet(f"{wanted} {rest}", f"{len(found)}, of these:\n          {shown}")
