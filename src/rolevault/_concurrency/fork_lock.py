"""Locks that a forked child finds free. A fork copies a lock's state, but only the
thread that forks: a lock that another thread holds would stay taken for ever.
"""

import os
import threading
from weakref import WeakSet


class ForkLock:
    """Holds a reentrant lock, and replaces the lock with a free one in a forked child.

    Take it with ``with this.lock:``. The lock is an attribute, and this class has no
    ``__enter__`` of its own, because Ctrl-C could arrive between the end of such a
    method and the ``with`` block, and leave the lock taken.

    :param forks_wait: no thread can fork while the lock is held. For work that a child
        could never finish, such as an import; only for work that takes milliseconds.
    """

    def __init__(self, *, forks_wait: bool = False) -> None:
        self.lock = threading.RLock()
        _all_locks.add(self)
        if forks_wait:
            _held_across_forks.append(self)


_all_locks: "WeakSet[ForkLock]" = WeakSet()
_held_across_forks: list[ForkLock] = []

#: Held around each import inside a function. In a child that is forked during an
#: import, the module stays locked by the import system, and importing it hangs.
IMPORT_LOCK = ForkLock(forks_wait=True)

#: Held while OpenSSL works. OpenSSL has locks of its own, and a child that is forked
#: during a key derivation could derive no key: the derivation's threads count as running.
OPENSSL_LOCK = ForkLock(forks_wait=True)


def _before_fork() -> None:
    for each in _held_across_forks:
        each.lock.acquire()


def _after_fork_in_parent() -> None:
    for each in _held_across_forks:
        each.lock.release()


def _after_fork_in_child() -> None:
    for each in _all_locks:
        each.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    # ``before`` hooks run in reverse order of registration. Our hook must wait for imports
    # before logging's hook takes the lock of logging, since a module may log while it is
    # imported. boto3 has imported logging by now, so our hook runs first.
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
