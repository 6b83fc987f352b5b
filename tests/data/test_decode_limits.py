"""Room for decoded images, shared among threads."""

import os
import threading
import time
from collections.abc import Callable

import pytest

from vggspec.data.decode_limits import SMALL_BYTES, Room

MB = 1 << 20


def together(*works: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "they wait for each other"


def test_threads_never_hold_more_than_there_is() -> None:
    room, lock, held, most = Room(100 * MB), threading.Lock(), 0, 0

    def work(size: int) -> None:
        nonlocal held, most
        for _ in range(40):
            with room.of(size):
                with lock:
                    held += size
                    most = max(most, held)
                time.sleep(0)
                with lock:
                    held -= size

    together(*(lambda size=size: work(size * MB) for size in (10, 20, 30, 40, 50, 60, 70, 100)))
    assert 50 * MB < most <= 100 * MB


def test_one_always_fits_alone() -> None:
    room = Room(100 * MB)
    order = []

    def large() -> None:
        with room.of(900 * MB):
            order.append("in")
            time.sleep(0.01)
            order.append("out")

    together(large, large, large)
    assert order == ["in", "out"] * 3


def test_who_holds_some_is_given_more_at_once() -> None:
    room = Room(100 * MB)
    barrier = threading.Barrier(2)

    def work() -> None:
        with room.of(50 * MB):
            barrier.wait(20)
            with room.of(60 * MB):
                pass

    together(work, work)
    with room.of(100 * MB):  # everything was given back
        pass


def test_a_large_one_is_not_passed_by_small_ones_for_ever() -> None:
    room, stop, passed = Room(100 * MB), threading.Event(), 0

    def small() -> None:
        nonlocal passed
        while not stop.is_set():
            with room.of(30 * MB):
                time.sleep(0.0005)

    def large() -> None:
        time.sleep(0.01)
        with room.of(100 * MB):
            stop.set()

    together(*[small] * 6, large)


def test_small_images_do_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(0)
    monkeypatch.setattr(room, "_changed", None)
    with room.of(SMALL_BYTES):
        pass


def test_who_is_interrupted_while_he_waits_leaves_the_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = Room(10 * MB)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with room.of(10 * MB):
        me = threading.get_ident()
        monkeypatch.setattr(threading, "get_ident", lambda: me + 1)  # as another thread
        with monkeypatch.context() as patch:
            patch.setattr(room._changed, "wait_for", interrupt)
            with pytest.raises(KeyboardInterrupt), room.of(10 * MB):
                pass
        monkeypatch.undo()
    with room.of(10 * MB):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_has_room_of_its_own() -> None:
    from vggspec.data.decode_limits import room

    with room.of(1 << 40):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                thread = threading.Thread(target=lambda: room.of(1 << 40).__enter__(), daemon=True)
                thread.start()
                thread.join(20)
                code = int(thread.is_alive())
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
