"""Why a person gave no answer. The callers turn these errors into public ones."""


class NobodyThereError(Exception):
    """There is nobody to ask. The text says why, and fits into a sentence."""


class InterruptedPromptError(NobodyThereError):
    """Ctrl-C ended the prompt of a thread. The main thread gets its ``KeyboardInterrupt``."""
