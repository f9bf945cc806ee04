"""Why a person gave no answer that can be used. The callers handle each of these errors."""


class NobodyThereError(Exception):
    """There is nobody to ask. The text says why, and fits into a sentence."""


class InterruptedPromptError(NobodyThereError):
    """Ctrl-C ended the prompt of a thread. The main thread gets its ``KeyboardInterrupt``."""


class NotTextError(Exception):
    """What the person typed is not text in the encoding of the terminal. It is not held here."""
