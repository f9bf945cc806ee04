"""The answer of every way to ask, where there is no one to ask."""


class NobodyThereError(Exception):
    """There is no one to ask. The text says why, and fits into a sentence."""
