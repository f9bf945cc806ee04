"""Asking a person or a command.

Read ``mfa_code`` and ``mfa_request``, where a one-time code is asked for, then ``person``, which
chooses between ``notebook``, ``tty`` (POSIX) and ``console`` (Windows). ``command`` runs a user's
command that prints a secret. ``nobody_there`` is the answer where nobody can be asked. This
package may import ``_concurrency``.
"""
