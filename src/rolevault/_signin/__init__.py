"""From a role to a session that STS issued.

Read ``renewal``, then ``fetcher`` and ``assume_role``: when a session is renewed, where it is
looked for, and how STS is asked. ``mfa_session`` opens the session through which every role
is entered, with a code from ``one_time_code``. ``sts_client`` makes the clients, ``sts_call``
makes a call, ``sts_answer`` judges what STS says, ``sts_session`` is what STS issued, and
``session_store`` keeps it. ``source_credentials`` are the credentials that assume the role;
``source_lookup`` and ``source_session`` find them, and ``role_chain`` builds all of it.
``mfa_hint`` explains a denial, and ``user_fetcher`` takes the place of ``fetcher`` where a
user's own MFA session signs.
This package may import ``_roles``, ``_vault``, ``_prompt`` and ``_concurrency``.
"""
