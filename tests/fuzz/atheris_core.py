"""The same search, led by coverage: `python -m tests.fuzz.atheris_core [-max_total_time=SECONDS]`.

Knows how atheris (libFuzzer for Python; the extra `fuzz`) hands bytes to Hypothesis, which turns
them into what happens to servers. The arguments are libFuzzer's: a folder keeps the corpus, a file
is tried again, and `-help=1` lists the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable


def main(arguments: list[str]) -> None:
    try:
        import atheris  # type: ignore[import-untyped]
    except ImportError:
        sys.exit("atheris is not installed: pip install 'exraft[fuzz]' (Linux, macOS)")
    # What is imported here is watched for new branches: the core, and nothing else.
    with atheris.instrument_imports(include=["exraft.raft", "exraft.storage"]):
        from tests.fuzz import test_core
    searches: list[Callable[[bytes], bytes | None]] = [
        test.hypothesis.fuzz_one_input  # type: ignore[attr-defined]
        for test in (
            test_core.test_a_server_keeps_its_promises_whatever_it_is_told,
            test_core.test_servers_keep_their_promises_though_messages_are_altered,
        )
    ]

    def search(data: bytes) -> None:
        # The first byte says whether one server is played to, or a network altered.
        if data:
            searches[data[0] % len(searches)](data[1:])

    atheris.Setup([sys.argv[0], *arguments], search)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
