"""Locks, and what becomes of them when a process forks: its child has none of the
threads that hold them.
"""

import os
import threading
from weakref import WeakSet


class ForkLock:
    """Holds a reentrant lock that is free in a forked child.

    Taken with ``with this.lock:``. Ctrl-C cannot come between that and its block,
    as it could with an ``__enter__`` of our own, and leave the lock taken for good.

    :param forks_wait: nobody forks while it is held: what a thread has begun
        would never end in the child. Not for what takes longer than a blink.
    """

    def __init__(self, *, forks_wait: bool = False) -> None:
        self.lock = threading.RLock()
        _locks.add(self)
        if forks_wait:
            _awaited.append(self)


_locks: "WeakSet[ForkLock]" = WeakSet()
_awaited: list[ForkLock] = []

#: Held around each import inside a function: a module that another thread is
#: importing stays locked in a forked child for ever.
LATE = ForkLock(forks_wait=True)

#: Held while OpenSSL works: it has locks of its own, and a child forked during a
#: key derivation could make none, since the lanes' threads count as running.
OPENSSL = ForkLock(forks_wait=True)


def _before() -> None:
    for each in _awaited:
        each.lock.acquire()


def _in_parent() -> None:
    for each in _awaited:
        each.lock.release()


def _in_child() -> None:
    for each in _locks:
        each.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    # The last to be registered is called first: before logging takes its lock, which
    # a module that is being imported may want. boto3 has imported that.
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
