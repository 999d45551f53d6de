"""What every server has, and the one place where it changes.

Knows the record that all roles share (ballot, log, configuration, leader) and passes what arrives
to the role of the moment. Must not know what a role makes of it, nor who drives it.

A driver does, over and over: give what arrived to `step` and the request methods, give the time to
`tick`, then call `flush` and carry out what `take` returns (in the order that `Output` states)
until there is nothing more. Requests take a ticket, which comes back in an `Answer`. Times are
seconds on any clock that never goes back; `deadline` says when the next `tick` is due.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exraft.names import Peer, Role
from exraft.raft.candidate import Candidate
from exraft.raft.config import Config, config_entry, decode_config, quorum
from exraft.raft.follower import Follower, answer_install, refuse_append
from exraft.raft.leader import Leader
from exraft.raft.log import CONFIG, Entry, Mark, Store
from exraft.raft.messages import (
    Append,
    AppendReply,
    Install,
    InstallReply,
    Message,
    PreVote,
    PreVoteReply,
    Reach,
    ReachReply,
    TimeoutNow,
    Vote,
    VoteReply,
)
from exraft.raft.nonsense import Nonsense, check_header, check_install, read_configs
from exraft.raft.outcome import Answer, Outcome, Output, Refusal, Ticket
from exraft.raft.snapshot import Snapshot
from exraft.raft.voting import answer_pre_vote, answer_vote

if TYPE_CHECKING:
    # Chance is handed in; the core makes none.
    import random

NEVER = float("inf")

MOST_KEPT = 16
"""How many times `keep_entries` a leader keeps for those who are there and behind."""


@dataclass(frozen=True, slots=True)
class Options:
    """What can be set on a server; durations in seconds."""

    min_election_timeout: float = 1.0
    max_election_timeout: float = 10.0
    heartbeat_timeout: float = 0.1
    batch_size: int = 100
    """Most entries in one append."""
    max_append_bytes: int = 1024 * 1024
    """Most bytes of entries in one append that holds more than one."""
    min_majority: int = 1
    max_uncommitted_bytes: int = 64 * 1024 * 1024
    keep_entries: int = 10_000
    """Entries that stay in the log although a snapshot holds them, for those who are behind."""
    keep_bytes: int = 128 * 1024 * 1024
    """Most bytes of the log that are kept for that."""
    snapshot_chunk_bytes: int = 256 * 1024
    """The largest piece in which a snapshot is sent."""


class Raft:
    """One server of a cluster, as a pure function of what it is told.

    Args:
        me: this server.
        store: its term, vote and log, as the life before left them.
        options: see `Options`.
        rng: the source of all chance.
        now: the time.
        founders: the voters of a new cluster, the server itself among them; counts only as long as
            the log holds no configuration.
        resume: lead on, if the store says that this server leads its term (rule 27). Only for a
            restart in the same process, with the store of the life before.
        standby: the store is new, but the name is a member's (rule 29): neither vote nor campaign
            until a configuration names this store.
    """

    def __init__(
        self,
        me: Peer,
        store: Store,
        options: Options,
        rng: random.Random,
        now: float,
        founders: Sequence[Peer],
        *,
        resume: bool = False,
        standby: bool = False,
    ) -> None:
        self.me = me
        self.store = store
        self.options = options
        self.rng = rng
        self.now = now
        self.leader: Peer | None = None
        self.leader_heard = -NEVER
        """When a message of a leader that still counts as alive last came."""
        self.ever_led = False
        """Whether this server ever heard of a leader (rule 6)."""
        self._standby = standby
        self.halted = False
        """It can't apply its log (rule 13): it neither campaigns nor leads."""
        self.foreign = 0
        """Messages of other clusters, dropped (rule 17)."""
        self._strangers: dict[Peer, str] = {}
        # Of a store that could not be synced, what is there may be lost yet.
        self.durable_index = 0 if store.dirty else store.last_index
        self.out = Output()
        # The configurations in the log: those in force since, the last of them in force now. Below
        # them the founders', as if it stood at index 0 (rule 15).
        self.configs: list[tuple[int, Config]] = [(0, Config(voters=tuple(founders)))]
        if store.snapshot is not None and store.snapshot.config_index <= store.base_index:
            self.configs = [(store.snapshot.config_index, store.snapshot.config)]
        for index, entry in store.configs():
            self.configs.append((index, decode_config(entry.data)))
        self.cluster = ""
        """The cluster's id once a configuration that names it is committed; else empty."""
        self._settle_configs()
        self.role: Follower | Candidate | Leader
        if resume and store.leads and self.is_voter:
            self.leader = me
            self.ever_led = True
            self.role = Leader(self, resumed=True)
            self.role.begin()
        else:
            if store.leads:
                store.set_ballot(store.term, store.voted_for, leads=False)
            self.role = Follower(self)
            if self.alone:
                self.become_candidate(force=False)

    # What is so at the moment.

    @property
    def term(self) -> int:
        return self.store.term

    @property
    def commit_index(self) -> int:
        return self.store.commit_index

    @property
    def last_index(self) -> int:
        return self.store.last_index

    @property
    def last_term(self) -> int:
        return self.store.term_at(self.store.last_index)

    @property
    def config(self) -> Config:
        return self.configs[-1][1]

    @property
    def config_index(self) -> int:
        """Where the configuration in force stands; 0 for the founders'."""
        return self.configs[-1][0]

    @property
    def config_place(self) -> tuple[int, int]:
        """Term and index of the configuration in force: the greater, the newer."""
        snapshot = self.store.snapshot
        if snapshot is not None and self.config_index < self.store.base_index:
            return snapshot.config_term, self.config_index
        return self.store.term_at(self.config_index), self.config_index

    @property
    def quorum(self) -> int:
        return quorum(self.config, self.options.min_majority)

    @property
    def is_voter(self) -> bool:
        """Whether the configuration in force counts this server, with this store, as a voter."""
        return self._votes_in(self.config)

    @property
    def standby(self) -> bool:
        """Whether this store is new under a member's name, and no configuration names it yet.

        One in force that does is enough: a removal that is not committed makes it no newcomer.
        """
        return self._standby and all(
            config.store_of(self.me) != self.store.store_id for _, config in self.configs
        )

    @property
    def may_campaign(self) -> bool:
        """A server outside its own newest configuration does not campaign (rule 16).

        Unless that configuration may never be committed without it: as long as its removal is not
        known to be committed, its log may be the only up-to-date one that still runs, to which
        nobody else can be elected. It then leads without counting itself (dissertation §4.2.2).
        """
        if self.standby or self.halted:
            return False
        if self.is_voter:
            return len(self.config.voters) > 1 or self.quorum == 1
        removed = self.me not in self.config.members() and self.config_index > self.commit_index
        return removed and self._votes_in(self.configs[0][1])

    @property
    def alone(self) -> bool:
        """Whether this server's own vote is enough."""
        return self.may_campaign and self.config.voters == (self.me,)

    @property
    def committed_in_term(self) -> bool:
        """Whether an entry of this term is committed: changes of members wait for it."""
        return self.store.term_at(self.commit_index) == self.term and self.commit_index > 0

    @property
    def state(self) -> Role:
        return self.role.name

    @property
    def deadline(self) -> float:
        """When `tick` is due at the latest."""
        return self.role.deadline

    def hears_leader(self, besides: Peer) -> bool:
        """Whether a leader counts as alive, so that votes are refused (rule 4).

        Not if it is `besides`, who asks for the vote: it surely leads no more.
        """
        if self.state is Role.LEADER:
            return True
        return (
            self.leader not in (None, besides)
            and self.now - self.leader_heard < self.options.min_election_timeout
        )

    def election_timeout(self) -> float:
        """Drawn anew for each wait (rule 6)."""
        if not self.ever_led:
            return self.retry_timeout()
        return self.rng.uniform(
            self.options.min_election_timeout, self.options.max_election_timeout
        )

    def retry_timeout(self) -> float:
        """Until votes are asked for again."""
        return self.rng.uniform(1, 3) * self.options.heartbeat_timeout

    # What arrives.

    def step(self, message: Message, now: float) -> None:
        """Take a message of another server; drop and report what no correct one sends."""
        self.now = now
        if message.cluster != self.cluster and self._is_foreign(message):
            self.foreign += 1
            return
        try:
            check_header(message, self.me, self.term)
            if isinstance(message, Append):
                self._on_append(message)
            elif isinstance(message, AppendReply):
                self._on_append_reply(message)
            elif isinstance(message, PreVote):
                answer_pre_vote(self, message)
            elif isinstance(message, PreVoteReply):
                self._on_pre_vote_reply(message)
            elif isinstance(message, Vote):
                answer_vote(self, message)
            elif isinstance(message, VoteReply):
                self._on_vote_reply(message)
            elif isinstance(message, TimeoutNow):
                self._on_timeout_now(message)
            elif isinstance(message, Reach):
                self._on_reach(message)
            elif isinstance(message, ReachReply):
                self._on_reach_reply(message)
            elif isinstance(message, Install):
                self._on_install(message)
            else:
                self._on_install_reply(message)
        except Nonsense as nonsense:
            self.report("error", f"{message.sender} sends {nonsense}: dropped")

    def propose(self, data: bytes, now: float) -> int | Refusal:
        """Append a command; returns its index, or why it was not appended."""
        self.now = now
        if type(self.role) is Leader:
            return self.role.propose(data)
        return self.refusal()

    def read(self, ticket: Ticket, now: float) -> None:
        """Ask for a read that is linearizable; ends in `Confirmed` or a refusal."""
        self.now = now
        if type(self.role) is Leader:
            self.role.reads.ask(ticket)
        else:
            self.answer(ticket, self.refusal())

    def change(self, ticket: Ticket, peer: Peer, *, add: bool, patience: float, now: float) -> None:
        """Add or remove a server. `patience`: seconds to wait for the first commit of the term."""
        self.now = now
        if type(self.role) is Leader:
            self.role.membership.ask(ticket, peer, add=add, patience=patience)
        else:
            self.answer(ticket, self.refusal())

    def transfer(self, ticket: Ticket, to: Peer | None, now: float) -> None:
        """Hand leadership over to `to`, or to the most up-to-date voter."""
        self.now = now
        if type(self.role) is Leader:
            self.role.transfer.ask(ticket, to)
        else:
            self.answer(ticket, self.refusal())

    def campaign(self, now: float) -> None:
        """Become candidate, without pre-vote and past stickiness (ExRaft's trigger_election)."""
        self.now = now
        if self.may_campaign and self.state is not Role.CANDIDATE:
            self.become_candidate(force=True)

    def leader_gone(self, peer: Peer, now: float) -> None:
        """`peer` has died for good, as those who watch it learn at once (rule 28)."""
        self.now = now
        if type(self.role) is Follower and self.leader == peer:
            self.leader = None
            self.leader_heard = -NEVER
            self.role.hurry()

    def leader_lost(self, peer: Peer, now: float) -> None:
        """The connection to `peer` was closed: it may have died, and it may be the network.

        So the leader stays known, and votes are refused for its sake as before (rule 4); but for
        no longer than that is waited for it (rule 28).
        """
        self.now = now
        if type(self.role) is Follower and self.leader == peer:
            self.role.doubt()

    def halt(self, now: float) -> None:
        """Stop leading, and never campaign again: this server can't apply its log (rule 13)."""
        self.now = now
        self.halted = True
        self._step_down()

    def pause(self, now: float) -> None:
        """Neither lead nor campaign, and follow nobody: this server can't store anything."""
        self.now = now
        self._step_down()
        self.leader = None

    def _step_down(self) -> None:
        if self.state is not Role.FOLLOWER:
            self.become_follower(self.term, None)

    def tick(self, now: float) -> None:
        """Judge the time. After the messages that already wait, never before them (rule 14)."""
        self.now = now
        if now >= self.role.deadline:
            self.role.tick()

    def stored(self, mark: Mark, now: float) -> None:
        """What the store held when `mark` was taken is durable.

        A mark whose last entry was truncated or replaced since counts for nothing (rule 10).
        """
        self.now = now
        if self.store.base_index <= mark.last_index <= self.last_index and (
            self.store.term_at(mark.last_index) == mark.last_term
        ):
            self.durable_index = max(self.durable_index, mark.last_index)
        self.role.stored(mark)

    def flush(self, now: float) -> None:
        """Pack what this batch of messages brought: one answer or append a peer, if it can be."""
        self.now = now
        self.role.flush()

    def snapshot_at(self, index: int) -> Snapshot:
        """What a snapshot of what was applied up to `index` says; its size is not known yet."""
        store = self.store
        place, term, config = 0, 0, self.configs[0][1]
        if store.snapshot is not None:
            before = store.snapshot
            place, term, config = before.config_index, before.config_term, before.config
        newest: Entry | None = None
        for at, entry in store.configs():
            if place < at <= index:
                place, newest = at, entry
        if newest is not None:
            term, config = newest.term, decode_config(newest.data)
        return Snapshot(index, store.term_at(index), config, place, term)

    def compact(self, now: float) -> None:
        """Cut the log where the newest snapshot holds it (rule 24).

        Some of it is kept for those who are behind, more for those whom this leader hears; bounded
        in entries and bytes.
        """
        self.now = now
        store = self.store
        if store.snapshot is None:
            return
        index = store.snapshot.index
        upto = index - self.options.keep_entries
        if type(self.role) is Leader:
            upto = self.role.spared(upto, index - MOST_KEPT * max(self.options.keep_entries, 1))
        upto = max(upto, store.base_index)
        size = store.size - sum(len(entry.data) for entry in self._kept(upto))
        while upto < index and size > self.options.keep_bytes:
            upto += 1
            size -= len(store.slice(upto, 1)[0].data)
        if upto > store.base_index:
            store.cut(upto)

    def _kept(self, upto: int) -> Sequence[Entry]:
        first = self.store.base_index + 1
        return self.store.slice(first, upto - first + 1)

    def tickets(self) -> list[Ticket]:
        """Who waits for an answer of the core: for a driver that must give up."""
        tickets = self.out.tickets()
        if type(self.role) is Leader:
            tickets += self.role.tickets()
        return tickets

    def take(self) -> Output:
        """What must happen next."""
        out = self.out
        self.out = Output()
        return out

    def _votes_in(self, config: Config) -> bool:
        return self.me in config.voters and config.store_of(self.me) in ("", self.store.store_id)

    def _is_foreign(self, message: Message) -> bool:
        """Whether it comes from another cluster (rule 17); who asks who one is may be anybody.

        A leader always names its cluster. Others do not before they know it for certain.
        """
        if not self.cluster or isinstance(message, Reach | ReachReply):
            return False
        return bool(message.cluster) or isinstance(message, Append | Install)

    def _on_append(self, message: Append) -> None:
        if message.term < self.term:
            # Answered with the higher term: its sender steps down, and nobody is stuck (rule 4).
            self.send(message.sender, refuse_append(self, message))
            return
        configs = read_configs(message)
        if follower := self._follow(message):
            follower.on_append(message, configs)

    def _on_install(self, message: Install) -> None:
        if message.term < self.term:
            self.send(message.sender, answer_install(self, message, 0))
            return
        check_install(message)
        if follower := self._follow(message):
            follower.on_install(message)

    def _follow(self, message: Append | Install) -> Follower | None:
        """Follow who sends it, unless this server itself leads that term."""
        if message.term == self.term and self.state is Role.LEADER:
            self.report(
                "error",
                f"{message.sender} claims to lead term {self.term}, which {self.me} leads: dropped",
            )
            return None
        if message.term > self.term or type(self.role) is not Follower:
            self.become_follower(message.term, message.sender)
        assert type(self.role) is Follower
        return self.role

    def _on_append_reply(self, message: AppendReply) -> None:
        # Answers of servers outside the configuration count for nothing (rule 19).
        if type(self.role) is not Leader or message.sender not in self.role.peers:
            return
        if message.term > self.term:
            self.become_follower(message.term, None)
        elif message.term == self.term:
            self.role.on_append_reply(message)

    def _on_install_reply(self, message: InstallReply) -> None:
        if type(self.role) is not Leader or message.sender not in self.role.peers:
            return
        if message.term > self.term:
            self.become_follower(message.term, None)
        elif message.term == self.term:
            self.role.on_install_reply(message)

    def _on_pre_vote_reply(self, message: PreVoteReply) -> None:
        if not message.granted and message.term > self.term:
            self.become_follower(message.term, None)
        elif type(self.role) is Follower:
            self.role.on_pre_vote_reply(message)

    def _on_vote_reply(self, message: VoteReply) -> None:
        if message.term > self.term:
            self.become_follower(message.term, None)
        elif type(self.role) is Candidate and message.term == self.term:
            self.role.on_vote_reply(message)

    def _on_timeout_now(self, message: TimeoutNow) -> None:
        # Only from the current leader of the current term, and only voters (rule 22).
        if (
            type(self.role) is Follower
            and message.term == self.term
            and message.sender == self.leader
            and self.may_campaign
        ):
            self.become_candidate(force=True)

    def _on_reach(self, message: Reach) -> None:
        # Nobody has counted what a new store took in, unless it knows that to be committed. It may
        # be of a founder that lost: then somebody else must be free to overwrite it (rule 17).
        belongs_to = self.cluster if self.standby else self.config.cluster
        self.send(
            message.sender,
            ReachReply(
                self.cluster, self.me, self.term, self.store.store_id, belongs_to, self.standby
            ),
        )

    def _on_reach_reply(self, message: ReachReply) -> None:
        if type(self.role) is Leader:
            self.role.membership.on_reach_reply(message)

    # The places where state changes.

    def become_follower(self, term: int, leader: Peer | None) -> None:
        if term > self.term:
            self.store.set_ballot(term, None, leads=False)
        elif self.store.leads:
            # The vote of this term stays given (rule 3).
            self.store.set_ballot(term, self.store.voted_for, leads=False)
        self.leader = leader
        left = self.role
        if type(left) is Follower and leader is None:
            # Only a leader's message or a granted vote starts a new wait (Raft §5.2): whoever
            # campaigns in vain must not keep the others from it.
            left.enter_term()
            return
        # Who led or campaigned, and knows nobody who does now, asks around before long: it may be
        # the only one with a log that is good enough.
        self.role = Follower(self, soon=leader is None)
        if type(left) is not Follower:
            self.out.roles.append(Role.FOLLOWER)
        if type(left) is Leader:
            left.abdicate()

    def become_candidate(self, *, force: bool) -> None:
        self.store.set_ballot(self.term + 1, self.me, leads=False)
        self.leader = None
        self.leader_heard = -NEVER
        left = self.role
        self.role = Candidate(self)
        self.out.roles.append(Role.CANDIDATE)
        if type(left) is Leader:
            left.abdicate()
        self.role.begin(force)

    def grant_vote(self, candidate: Peer) -> None:
        """Give the vote of this term, and give the candidate the time to win (rule 3)."""
        assert type(self.role) is Follower
        self.store.set_ballot(self.term, candidate, leads=False)
        self.role.deadline = self.now + self.election_timeout()

    def canvass(self) -> None:
        """Ask for pre-votes now."""
        assert type(self.role) is Follower
        self.role.canvass()

    def become_leader(self, stores: Sequence[tuple[Peer, str]]) -> None:
        """Lead this term. `stores`: the ids under which the votes were given."""
        self.store.set_ballot(self.term, self.store.voted_for, leads=True)
        self.leader = self.me
        self.ever_led = True
        self.role = Leader(self)
        self.out.roles.append(Role.LEADER)
        self.begin_term(stores)
        self.role.begin()

    def begin_term(self, stores: Sequence[tuple[Peer, str]]) -> None:
        """Append the entry that a leader's term begins with, the full configuration (rule 9).

        The first of them all names the cluster (rule 17). `stores`: ids to record in it.
        """
        cluster = self.config.cluster or f"{self.rng.getrandbits(64):016x}"
        named = Config(self.config.voters, self.config.learners, cluster, self.config.stores)
        self.append([config_entry(self.term, named.with_stores(stores))])

    def append(self, entries: Sequence[Entry]) -> None:
        """Append what this server made itself, and let a configuration hold from now on."""
        places = enumerate(entries, self.last_index + 1)
        self.adopt(entries, [(n, decode_config(e.data)) for n, e in places if e.kind == CONFIG])

    def adopt(self, entries: Sequence[Entry], configs: Sequence[tuple[int, Config]]) -> None:
        """Append, and let the configurations among the entries hold from now on (rule 15)."""
        self.store.append(entries)
        self.configs += configs

    def truncate(self, first: int) -> None:
        """Delete from `first` on; a configuration that stood there never was (rule 15)."""
        self.store.truncate(first)
        self.durable_index = min(self.durable_index, first - 1)
        while self.configs[-1][0] >= first:
            self.configs.pop()

    def install(self) -> None:
        """Let the snapshot that was received take the place of the log (rule 23).

        Raises:
            DamagedSnapshot: it is not what it should be.
        """
        committed = self.commit_index
        self.store.install()
        snapshot = self.store.snapshot
        assert snapshot is not None
        # Of what was here, a loss of all that is not synced yet leaves that much alone.
        self.durable_index = min(self.durable_index, committed)
        self.configs = [(snapshot.config_index, snapshot.config)]
        self._settle_configs()

    def set_commit(self, index: int) -> None:
        """Commit up to `index`; never back (rule 8)."""
        if index > self.store.commit_index:
            self.store.set_commit(index)
            self._settle_configs()
            received = self.store.received
            if received is not None and received[0].index <= index:
                # It has been overtaken.
                self.store.forget_received()

    def _settle_configs(self) -> None:
        while len(self.configs) > 1 and self.configs[1][0] <= self.commit_index:
            self.configs.pop(0)
        if 0 < self.configs[0][0] <= self.commit_index:
            self.cluster = self.configs[0][1].cluster

    # What roles say.

    def send(self, peer: Peer, message: Message) -> None:
        """Send after what is written so far is stored (rule 2)."""
        self.out.late.append((peer, message))

    def answer(self, ticket: Ticket, outcome: Outcome) -> None:
        self.out.answers.append(Answer(ticket, outcome))

    def report(self, severity: str, text: str) -> None:
        self.out.reports.append((severity, text))

    def knows_as_member(self, peer: Peer, store: str) -> bool:
        """Whether `store` is not known to be another one than the member's (rule 29)."""
        recorded = self.config.store_of(peer)
        if recorded and recorded != store:
            self.report_stranger(peer, store)
            return False
        return True

    def report_stranger(self, peer: Peer, store: str) -> None:
        if self._strangers.get(peer) != store:
            self._strangers[peer] = store
            self.report(
                "warning",
                f"{peer} has come back with an empty store, so it has forgotten its votes and what"
                f" it acknowledged, and counts for nothing: take it in again with"
                f" ExRaft.add_server(leader, {peer.name!r})",
            )

    def refusal(self) -> Refusal:
        """Why this server does not serve the request; it never redirects to itself."""
        if self.leader is None or self.leader == self.me:
            return Refusal("no_leader")
        return Refusal("redirect", self.leader)
