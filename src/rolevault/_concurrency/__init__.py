"""Threads, asyncio tasks and forks.

``fork_lock`` holds locks that are free in a forked child. ``single_flight`` lets the threads
that need the same work share one run of it. ``shared_call`` does the same for asyncio tasks, and
is for ``rolevault.aio``. This package may import no other package of rolevault, except for the
errors.
"""
