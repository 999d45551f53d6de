"""A page counter in a threaded service: many threads count, a replicated counter adds up.

The service owns its servers: it starts them, writes through one client from several worker
threads, and stops everything in order when it is left.

Run it: python examples/counter_service.py
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from exraft import ExRaft, StateMachine

SERVERS = [":counter1", ":counter2", ":counter3"]
PAGES = ["/", "/about", "/prices"]
VISITORS = 6
VISITS = 200


class Counter(StateMachine):
    """The command is `(page, visits)`, answered with the new count; the query is a page."""

    def init(self, init_arg: Any) -> dict[str, int]:
        return {}

    def handle_write(
        self, command: tuple[str, int], state: dict[str, int]
    ) -> tuple[int, dict[str, int]]:
        page, visits = command
        state[page] = state.get(page, 0) + visits
        return state[page], state

    def handle_read(self, query: str, state: dict[str, int]) -> int:
        return state.get(query, 0)


class CounterService:
    """Takes visits from any thread and counts them on worker threads of its own."""

    def __init__(self, workers: int = 4) -> None:
        self._visits: SimpleQueue[str | None] = SimpleQueue()
        self._client = ExRaft.client(SERVERS)
        self._workers = [
            threading.Thread(target=self._work, name=f"worker {number}")
            for number in range(workers)
        ]

    def __enter__(self) -> CounterService:
        for name in SERVERS:
            ExRaft.start_server(Counter, name=name, initial_config=SERVERS)
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.drain()
        for name in SERVERS:
            ExRaft.stop_server(name)

    def visit(self, page: str) -> None:
        """Count a visit, soon; never waits."""
        self._visits.put(page)

    def count(self, page: str) -> int:
        """The visits that were counted so far."""
        count: int = self._client.read(page)
        return count

    def drain(self) -> None:
        """Count what is still queued, and let the workers go."""
        for _ in self._workers:
            self._visits.put(None)
        for worker in self._workers:
            worker.join()
        self._workers.clear()

    def _work(self) -> None:
        # The client waits for the first election, and follows the leader from then on.
        while (page := self._visits.get()) is not None:
            self._client.write((page, 1))


def main() -> None:
    with CounterService() as service:

        def visitor() -> None:
            for number in range(VISITS):
                service.visit(PAGES[number % len(PAGES)])

        visitors = [threading.Thread(target=visitor) for _ in range(VISITORS)]
        for thread in visitors:
            thread.start()
        for thread in visitors:
            thread.join()
        service.drain()

        counts = {page: service.count(page) for page in PAGES}
        print(f"{VISITORS} visitors, {VISITS} visits each: {counts}")
        assert sum(counts.values()) == VISITORS * VISITS
        assert counts["/"] == VISITORS * len(range(0, VISITS, len(PAGES)))
    print("the service is stopped")


if __name__ == "__main__":
    main()
