"""The command line, for the shell and for programs in other languages.

Start with ``main``: it finds the verb and turns errors into exit codes. ``targets`` makes the
boto3 session of the profile or the role that was named. The verbs are ``status``, ``login``,
``exec`` and ``export``, which give a role to a program as the variables of ``environment``, and
``unlock``, ``lock``, ``passwd`` and ``clear``, which concern the vault. ``child`` runs the command
of ``exec --server``. Only this package imports click and rich.
"""
