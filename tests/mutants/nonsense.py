"""Rule 30, broken: messages that no correct server sends.

Knows pieces of the source, and the tests that must notice. Must not know how these are run.
"""

from __future__ import annotations

from exraft.raft import Raft
from exraft.raft.follower import Follower
from exraft.raft.leader import Leader
from exraft.raft.nonsense import _check_config, _read_config, check_header, read_configs
from tests.mutants.mutant import Mutant, Test
from tests.raft import test_found_by_fuzzing as fuzzed
from tests.raft.hand import A, append


def dropped(name: str) -> Test:
    """The test that such a message is dropped, in which raising counts as failing."""

    def test() -> None:
        try:
            fuzzed.test_nonsense_is_dropped_and_reported_and_changes_nothing(fuzzed.NONSENSE[name])
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}") from error

    test.__name__ = f"test_nonsense_is_dropped[{name}]"
    return test


def own_name() -> None:
    """An append in the server's own name is dropped."""
    fuzzed.test_a_server_does_not_answer_what_comes_in_its_own_name(append(A, 3, (3, 2)))


MUTANTS = [
    Mutant(
        30,
        "a server answers what comes in its own name",
        check_header,
        "if message.sender == me:",
        "if False:",
        (own_name,),
    ),
    Mutant(
        30,
        "any term is taken over",
        check_header,
        "if not 0 <= message.term <= latest:",
        "if False:",
        (dropped("a term that the wire cannot count on from"), dropped("a vote in such a term")),
    ),
    Mutant(
        30,
        "the last term of all is taken over",
        check_header,
        "min(term + MAX_LEAP, MAX_TERM) if term else MAX_TERM // 2",
        "MAX_TERM",
        (
            dropped("a vote in the last term of all"),
            dropped("a leader too far ahead"),
            fuzzed.test_whoever_took_over_a_term_can_be_elected_in_the_next_ones,
        ),
    ),
    Mutant(
        30,
        "who joins a cluster takes over no late term",
        check_header,
        "min(term + MAX_LEAP, MAX_TERM) if term else MAX_TERM // 2",
        "min(term + MAX_LEAP, MAX_TERM)",
        (fuzzed.test_who_joins_a_cluster_takes_over_its_term_however_late_that_is,),
    ),
    Mutant(
        30,
        "a configuration may take the cluster its name",
        _check_config,
        "if cluster and config.cluster != cluster:",
        'if cluster and config.cluster not in ("", cluster):',
        (dropped("a configuration that takes the cluster its name"),),
    ),
    Mutant(
        30,
        "an append may come after an index below 0",
        read_configs,
        "or prev < 0",
        "",
        (
            dropped("an append after an index below 0"),
            dropped("entries after an index below 0"),
        ),
    ),
    Mutant(
        30,
        "somebody leads term 0",
        read_configs,
        "term == 0 or",
        "",
        (fuzzed.test_nobody_leads_term_0,),
    ),
    Mutant(
        30,
        "terms may fall along a log",
        read_configs,
        "if not before < entry.term <= term:",
        "if not 0 < entry.term <= term:",
        (
            dropped("an entry of an earlier term than the one before"),
            dropped("entries whose terms fall"),
        ),
    ),
    Mutant(
        30,
        "an entry may be of a later term than its leader",
        read_configs,
        "if not before < entry.term <= term:",
        "if not before < entry.term:",
        (dropped("an entry of a later term than the message"),),
    ),
    Mutant(
        30,
        "an entry may be of no term",
        read_configs,
        "message.prev_term or 1",
        "message.prev_term",
        (dropped("an entry of no term"),),
    ),
    Mutant(
        30,
        "an entry of an unknown kind is stored",
        _read_config,
        "if entry.kind != CONFIG:",
        "if False:",
        (dropped("an entry of an unknown kind"),),
    ),
    Mutant(
        30,
        "a configuration that can't be decoded is stored",
        _read_config,
        "except UNDECODABLE as error:",
        "except ZeroDivisionError as error:",
        (
            dropped("bytes that are no configuration"),
            dropped("a configuration with text that is none"),
            dropped("a configuration nested without end"),
        ),
    ),
    Mutant(
        30,
        "a configuration may have no voters",
        _check_config,
        "not config.voters or",
        "",
        (dropped("a configuration without voters"),),
    ),
    Mutant(
        30,
        "a configuration may name somebody twice",
        _check_config,
        "or len(set(members)) < len(members)",
        "",
        (
            dropped("a configuration that names a voter twice"),
            dropped("a configuration with a voter who learns"),
        ),
    ),
    Mutant(
        30,
        "a leader brings the configuration of another cluster",
        _check_config,
        "if cluster and config.cluster != cluster:",
        "if False:",
        (dropped("a configuration of another cluster"),),
    ),
    Mutant(
        30,
        "an answer to a round that never began confirms reads",
        Leader.on_append_reply,
        "message.round > self.reads.round or (",
        "False or (",
        (fuzzed.test_a_read_is_not_confirmed_by_an_answer_to_a_round_that_never_began,),
    ),
    Mutant(
        30,
        "entries that are not there are acknowledged",
        Leader.on_append_reply,
        "message.accepted and message.index > raft.last_index",
        "False",
        (fuzzed.test_an_acknowledgement_of_entries_that_are_not_there_does_not_count,),
    ),
    Mutant(
        30,
        "what was cut off again in the same batch is acknowledged",
        Follower.on_append,
        "self._verified = min(self._verified, new - 1)",
        "pass",
        (fuzzed.test_a_server_acknowledges_no_more_than_it_has_if_two_claim_one_term,),
    ),
    Mutant(
        30,
        "nonsense is dropped without a word",
        Raft.step,
        'self.report("error", f"{message.sender} sends {nonsense}: dropped")',
        "pass",
        (dropped("an entry of no term"),),
    ),
]
