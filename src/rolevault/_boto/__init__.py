"""The part of rolevault that works inside boto3 and botocore.

Start with ``install``, which has the public functions. ``default_session`` finds the boto3 session
that they work on, and ``installation`` decides which botocore sessions get the role. ``takeover``
replaces the credential chain of one session, and restores it. In the new chain, ``provider``
gives the session its ``credentials``. ``refused_keys`` sends a request once more if a service
refuses the key that signed it. This package may import from every other package.
"""
