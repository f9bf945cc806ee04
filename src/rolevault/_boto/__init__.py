"""Where rolevault stands in boto3 and botocore.

Read ``install``, then ``default_session`` and ``installation``: what ``install()`` judges, and
which sessions get the role. ``takeover`` replaces the credential chain of one session and
restores it. ``provider`` stands in that chain, ``credentials`` is what signs, and
``refused_keys`` sends a refused request once more. This package may import every other one.
"""
