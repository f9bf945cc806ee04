"""Threads and forks.

``fork_lock`` has locks that a forked child finds free; ``single_flight`` lets the threads that
need the same work share one run of it. This package may import no other one.
"""
