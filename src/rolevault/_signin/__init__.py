"""From a role to a session that STS issued.

Read ``renewal``, then ``fetcher`` and ``assume_role``: when a session is renewed, where it is
looked for, and how STS is asked. ``mfa_session`` opens the session through which every role
is entered, with a code from ``one_time_code``. ``sts_client`` makes the clients, ``sts_session``
is what STS issued, and ``session_store`` keeps it. ``source_credentials`` and
``source_session`` find the credentials that assume the role, and ``role_chain`` puts all of it
together. ``user_fetcher`` takes the place of ``fetcher`` where a user's own MFA session signs.
This package may import ``_roles``, ``_vault``, ``_prompt`` and ``_concurrency``.
"""
