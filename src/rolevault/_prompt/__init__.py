"""Asking a person or a command.

Read ``mfa_code`` and ``mfa_request``, where a one-time code is asked for. Then read ``person``,
which chooses between ``notebook``, ``tty`` (POSIX) and ``console`` (Windows). ``prompt_errors``
say why a person gave no answer. ``command`` runs a user's command that prints a secret. This
package may import ``_concurrency``.
"""
