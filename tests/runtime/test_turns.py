"""Threads that take turns on a device run one pass at a time, in the order in which they asked."""

from __future__ import annotations

import threading
import time

from multihead.runtime.turns import FairLock


def test_one_thread_at_a_time():
    lock, inside, most, turns = FairLock(), 0, 0, []

    def work(number):
        nonlocal inside, most
        for _ in range(30):
            with lock, lock:  # a pass may call another one
                inside += 1
                most = max(most, inside)
                turns.append(number)
                assert lock.is_own
                time.sleep(0.0002)
                inside -= 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == 1
    assert len(turns) == 120
    assert not lock.is_own


def test_threads_get_the_lock_in_the_order_in_which_they_asked():
    lock, turns = FairLock(), []

    def work(number):
        with lock:
            turns.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    with lock:
        for number, thread in enumerate(threads):
            thread.start()
            while len(lock._waiting) <= number:  # until it has asked
                time.sleep(0.001)
    for thread in threads:
        thread.join(30)
    assert turns == list(range(6))


def test_a_failed_pass_gives_its_turn_back():
    lock = FairLock()
    try:
        with lock:
            raise ValueError
    except ValueError:
        pass
    done = threading.Thread(target=lambda: lock.acquire())
    done.start()
    done.join(10)
    assert not done.is_alive()
