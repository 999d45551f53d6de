from __future__ import annotations

import queue
import threading
from typing import Any

import pykka
import pytest

from exraft.actors.ending import send_exit
from exraft.actors.exits import Exit
from exraft.actors.process import Process
from exraft.actors.watching import Down, monitor

LIMIT = 30.0


class Quiet(Process):
    def __init__(self, news: queue.SimpleQueue[Any] | None = None) -> None:
        super().__init__()
        self.news = news

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, Down):
            assert self.news is not None
            self.news.put((message, threading.current_thread().name))
            return None
        return message(self)


def test_each_monitor_is_told_once_with_the_reason() -> None:
    ref = Quiet.start()
    downs: queue.SimpleQueue[Down] = queue.SimpleQueue()
    monitors = [monitor(ref, downs.put) for _ in range(3)]
    assert not any(watch.fired for watch in monitors)
    send_exit(ref, ("shutdown", "over"))
    for _ in range(3):
        assert downs.get(timeout=LIMIT) == Down(ref, ("shutdown", "over"))
    assert ref.stop(timeout=LIMIT) is False
    assert all(watch.cancel() for watch in monitors)
    assert downs.empty()


def test_a_monitor_on_the_dead_fires_at_once() -> None:
    ref = Quiet.start()
    over = threading.Event()
    monitor(ref, lambda _: over.set())
    ref.stop(timeout=LIMIT)
    assert over.wait(LIMIT)
    downs: list[Down] = []
    watch = monitor(ref, downs.append)
    assert downs == [Down(ref, "noproc")]
    assert watch.cancel() is True


def test_a_cancelled_monitor_does_not_fire() -> None:
    ref = Quiet.start()
    downs: queue.SimpleQueue[Down] = queue.SimpleQueue()
    cancelled, other = monitor(ref, downs.put), monitor(ref, downs.put)
    assert cancelled.cancel() is False
    assert cancelled.cancel() is False
    ref.stop(timeout=LIMIT)
    assert downs.get(timeout=LIMIT).reason == "normal"
    assert other.cancel() is True
    assert cancelled.cancel() is False
    assert downs.empty()


def test_a_watcher_that_fails_does_not_keep_the_news_from_the_next() -> None:
    ref = Quiet.start()
    downs: queue.SimpleQueue[Down] = queue.SimpleQueue()

    def fail(_: Down) -> None:
        raise RuntimeError("not interested")

    monitor(ref, fail)
    monitor(ref, downs.put)
    ref.stop(timeout=LIMIT)
    assert downs.get(timeout=LIMIT).reason == "normal"


def test_a_plain_pykka_actor_cannot_be_monitored() -> None:
    ref = pykka.ThreadingActor.start()
    try:
        with pytest.raises(TypeError):
            monitor(ref, lambda _: None)
    finally:
        ref.stop(timeout=LIMIT)


def test_a_process_is_told_in_its_own_thread() -> None:
    news: queue.SimpleQueue[Any] = queue.SimpleQueue()
    watcher, watched = Quiet.start(news), Quiet.start()
    watcher.ask(lambda process: process.monitor(watched), timeout=LIMIT)
    error = ValueError("v")

    def fail(_: Any) -> None:
        raise error

    watched.tell(fail)
    down, thread = news.get(timeout=LIMIT)
    assert down == Down(watched, error)
    assert thread == watcher.ask(lambda _: threading.current_thread().name, timeout=LIMIT)
    assert watcher.ask(lambda process: len(process._monitors), timeout=LIMIT) == 0
    watcher.stop(timeout=LIMIT)


def test_a_process_that_watches_the_dead_is_told() -> None:
    news: queue.SimpleQueue[Any] = queue.SimpleQueue()
    watcher, watched = Quiet.start(news), Quiet.start()
    over = threading.Event()
    monitor(watched, lambda _: over.set())
    watched.stop(timeout=LIMIT)
    assert over.wait(LIMIT)
    watch: Any = watcher.ask(lambda process: process.monitor(watched), timeout=LIMIT)
    assert news.get(timeout=LIMIT)[0] == Down(watched, "noproc")
    assert watch.cancel() is True
    assert watcher.ask(lambda process: len(process._monitors), timeout=LIMIT) == 0
    watcher.stop(timeout=LIMIT)


def test_a_process_that_ends_watches_nobody_any_more() -> None:
    watcher, watched = Quiet.start(), Quiet.start()
    watcher.ask(lambda process: process.monitor(watched), timeout=LIMIT)
    watcher.stop(timeout=LIMIT)
    assert not watched.watchers._monitors  # type: ignore[attr-defined]
    watched.stop(timeout=LIMIT)


def test_a_monitor_that_races_the_end_fires_exactly_once() -> None:
    for number in range(200):
        ref = Quiet.start()
        start = threading.Barrier(2)
        downs: queue.SimpleQueue[Down] = queue.SimpleQueue()

        def leave(_: Any, start: threading.Barrier = start) -> None:
            start.wait(LIMIT)
            raise Exit("shutdown")

        ref.tell(leave)
        start.wait(LIMIT)
        watch = monitor(ref, downs.put)
        if number % 2:
            assert downs.get(timeout=LIMIT).reason in ("shutdown", "noproc")
            assert watch.cancel() is True
        elif watch.cancel():
            assert downs.get(timeout=LIMIT).reason in ("shutdown", "noproc")
        else:
            over: queue.SimpleQueue[Down] = queue.SimpleQueue()
            monitor(ref, over.put)
            over.get(timeout=LIMIT)
        assert downs.empty()
