"""Locks that are free in a forked child.

A fork copies the state of every lock, but only the thread that forks. A lock that another
thread holds at that moment would stay locked in the child for ever.
"""

import logging  # noqa: F401  its fork hook is to be registered before ours: see below
import os
import threading
from weakref import WeakSet


class ForkLock:
    """A reentrant lock, which is replaced by a free one in a forked child.

    Use it as ``with fork_lock.lock:``. This class has no ``__enter__``, because Ctrl-C could
    arrive after ``__enter__`` has locked and before the ``with`` block begins. The lock would
    then stay locked. With the lock itself, Python leaves no such gap.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        _all_fork_locks.add(self)


_all_fork_locks: "WeakSet[ForkLock]" = WeakSet()

# A child could not go on with the work that these two locks guard, so a fork waits for the
# work. The work must therefore be short.

#: Held around each import inside a function. A child that is forked during an import finds
#: the module locked by the import system, and would wait for ever when it imports the module.
IMPORT_LOCK = threading.RLock()

#: Held while OpenSSL works. In a child that is forked during a key derivation, OpenSSL counts
#: the parent's threads as running, and can derive no key.
OPENSSL_LOCK = threading.RLock()


def _before_fork() -> None:
    IMPORT_LOCK.acquire()
    OPENSSL_LOCK.acquire()


def _after_fork() -> None:
    # The thread that forked holds both locks, in the parent and in the child.
    OPENSSL_LOCK.release()
    IMPORT_LOCK.release()


def _after_fork_in_child() -> None:
    _after_fork()
    for each in _all_fork_locks:
        each.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    # The ``before`` hooks run in reverse order of their registration. The import lock must
    # come before the lock of the logging module, because a module may log while it is
    # imported. logging has registered its hook above, so our hook runs before it.
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork,
        after_in_child=_after_fork_in_child,
    )
