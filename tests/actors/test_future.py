from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pykka
import pytest

from exraft.actors.future import OneLockFuture

LIMIT = 30.0


def later(action: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def new() -> OneLockFuture[Any]:
    return OneLockFuture()


def test_a_value_that_was_set_is_got_again_and_again() -> None:
    future = new()
    assert not future.done()
    assert future.set(7)
    assert future.done()
    assert [future.get(), future.get(timeout=0)] == [7, 7]


def test_several_threads_wait_for_one_value() -> None:
    future = new()
    got: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(4):
        later(lambda: got.put(future.get(timeout=LIMIT)))
    future.set("here")
    assert [got.get(timeout=LIMIT) for _ in range(4)] == ["here"] * 4


def test_waiting_ends_with_pykkas_timeout() -> None:
    for timeout in (0.001, 0, -1):
        with pytest.raises(pykka.Timeout):
            new().get(timeout=timeout)


def test_a_wait_that_timed_out_leaves_nothing_behind() -> None:
    future = new()
    with pytest.raises(pykka.Timeout):
        future.get(timeout=0)
    assert future._waiting == [None]
    future.set(1)
    assert future.get() == 1


def test_a_timeout_may_be_longer_than_the_system_can_wait() -> None:
    future = new()
    later(lambda: future.set(1))
    assert future.get(timeout=1e300) == 1


def test_a_failure_is_raised_every_time_with_its_own_traceback() -> None:
    future = new()
    future.fail(KeyError("k"))
    depths = []
    for _ in range(3):
        with pytest.raises(KeyError) as caught:
            future.get()
        depths.append(len(caught.traceback))
    assert depths[0] == depths[2]


def test_an_exception_is_a_value_like_any_other_when_it_is_set() -> None:
    future = new()
    error = ValueError()
    future.set(error)
    assert future.get() is error


def test_set_exception_takes_what_pykka_gives_it() -> None:
    being_handled, triple, bare = new(), new(), new()
    try:
        raise ValueError("v")
    except ValueError:
        being_handled.set_exception()
        triple.set_exception(sys.exc_info())
    bare.set_exception((ValueError, None, None))
    for future in (being_handled, triple, bare):
        with pytest.raises(ValueError):
            future.get(timeout=0)


def test_set_exception_without_an_exception_is_refused() -> None:
    with pytest.raises(ValueError):
        new().set_exception()


def test_a_late_reply_is_dropped() -> None:
    future = new()
    assert future.set(1) is True
    assert future.set(2) is False
    assert future.fail(KeyError()) is False
    assert future.set_exception((KeyError, KeyError(), None)) is False
    assert future.get() == 1


def test_one_of_two_racing_repliers_wins() -> None:
    for _ in range(300):
        future = new()
        start = threading.Barrier(3)
        told: list[Any] = []
        future.on_done(told.append)
        won: list[int] = []

        def reply(
            value: int,
            start: threading.Barrier = start,
            future: OneLockFuture[Any] = future,
            won: list[int] = won,
        ) -> None:
            start.wait(LIMIT)
            if future.set(value):
                won.append(value)

        threads = [later(partial(reply, n)) for n in range(2)]
        start.wait(LIMIT)
        first = future.get(timeout=LIMIT)
        for thread in threads:
            thread.join(LIMIT)
        assert won == [first]
        assert told == [future]


def test_a_callback_is_called_once_by_whoever_sets() -> None:
    future = new()
    calls: list[Any] = []
    future.on_done(lambda done: calls.append((done.get(), threading.current_thread())))
    setter = later(lambda: (future.set(3), future.set(4)))
    setter.join(LIMIT)
    assert calls == [(3, setter)]


def test_a_callback_on_a_finished_future_is_called_at_once() -> None:
    future = new()
    future.fail(KeyError())
    calls: list[Any] = []
    future.on_done(calls.append)
    assert calls == [future]


def test_callbacks_that_race_the_reply_are_called_once_each() -> None:
    for _ in range(300):
        future = new()
        calls: list[Any] = []
        start = threading.Barrier(2)

        def reply(start: threading.Barrier = start, future: OneLockFuture[Any] = future) -> None:
            start.wait(LIMIT)
            future.set(1)

        thread = later(reply)
        start.wait(LIMIT)
        for _ in range(10):
            future.on_done(calls.append)
        thread.join(LIMIT)
        assert calls == [future] * 10


def test_a_callback_that_fails_does_not_hurt_the_replier_or_the_next() -> None:
    future = new()
    calls: list[Any] = []
    future.on_done(lambda _: 1 / 0)
    future.on_done(calls.append)
    assert future.set(1)
    assert calls == [future]


def test_pykkas_map_filter_join_and_reduce_work() -> None:
    one, many = new(), new()
    mapped = one.map(lambda x: x + 1)
    filtered = many.filter(lambda x: x > 1)
    joined = one.join(many)
    reduced = many.reduce(lambda x, y: x + y)
    one.set(1)
    many.set([1, 2, 3])
    assert mapped.get(timeout=LIMIT) == 2
    assert filtered.get(timeout=LIMIT) == [2, 3]
    assert joined.get(timeout=LIMIT) == [1, [1, 2, 3]]
    assert reduced.get(timeout=LIMIT) == 6
    assert pykka.get_all([one, mapped]) == [1, 2]


def test_a_derived_future_is_computed_once_by_whoever_gets_it() -> None:
    source = new()
    calls: list[int] = []
    derived = source.map(calls.append)
    source.set(1)
    assert calls == []
    for _ in range(3):
        derived.get(timeout=LIMIT)
    assert calls == [1]


def test_a_derived_future_times_out_and_can_be_got_later() -> None:
    source = new()
    derived = source.map(str)
    with pytest.raises(pykka.Timeout):
        derived.get(timeout=0.001)
    source.set(1)
    assert derived.get(timeout=LIMIT) == "1"


def test_a_derived_future_is_done_when_its_sources_are() -> None:
    one, two = new(), new()
    joined = one.join(two).map(lambda pair: len(list(pair)))
    calls: list[Any] = []
    joined.on_done(lambda done: calls.append(done.get()))
    one.set(1)
    assert (joined.done(), calls) == (False, [])
    two.set(2)
    assert (joined.done(), calls) == (True, [2])


def test_joining_futures_of_pykkas_own_works() -> None:
    ours, theirs = new(), pykka.ThreadingFuture[int]()
    called = threading.Event()
    joined = ours.join(theirs)
    joined.on_done(lambda _: called.set())
    ours.set(1)
    theirs.set(2)
    assert joined.get(timeout=LIMIT) == [1, 2]
    assert called.wait(LIMIT)


def test_a_hook_is_refused_on_a_future_that_has_an_outcome_and_the_other_way_round() -> None:
    future = new()
    future.set(1)
    with pytest.raises(queue.Full):
        future.set_get_hook(lambda _: 2)
    hooked = new()
    hooked.set_get_hook(lambda _: 3)
    assert hooked.set(4) is False
    assert hooked.get() == 3


def test_await_gives_the_value_and_raises_the_failure() -> None:
    async def main() -> Any:
        done, waited, failed = new(), new(), new()
        done.set(1)
        later(lambda: waited.set(2))
        later(lambda: failed.fail(KeyError("k")))
        with pytest.raises(KeyError):
            await failed
        return await done, await waited

    assert asyncio.run(asyncio.wait_for(main(), LIMIT)) == (1, 2)


def test_await_does_not_block_the_event_loop() -> None:
    async def main() -> None:
        future = new()

        async def answer() -> None:
            future.set("from the loop itself")

        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(answer()))
        # Were the loop blocked, nobody would ever answer.
        assert await future == "from the loop itself"

    asyncio.run(asyncio.wait_for(main(), LIMIT))


def test_gather_awaits_many_plain_and_derived_futures() -> None:
    async def main() -> list[Any]:
        futures = [new() for _ in range(50)]

        def answer() -> None:
            for n, future in enumerate(futures):
                future.set(n)

        later(answer)
        plain = asyncio.gather(*futures)
        derived = asyncio.gather(*(future.map(lambda n: -n) for future in futures))
        return [*await plain, *await derived]

    result = asyncio.run(asyncio.wait_for(main(), LIMIT))
    assert result == [*range(50), *(-n for n in range(50))]


def test_wait_for_gives_up_and_leaves_nothing_behind() -> None:
    future = new()

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(future, 0.001)

    asyncio.run(main())
    assert future._waiting == [None]
    assert future.set(1)


def test_the_stop_of_a_pykka_actor_can_be_awaited() -> None:
    source = new()
    hooked = new()
    hooked.set_get_hook(lambda timeout: source.get(timeout=timeout))

    async def main() -> Any:
        later(lambda: source.set("stopped"))
        return await hooked

    assert asyncio.run(asyncio.wait_for(main(), LIMIT)) == "stopped"
