"""Handing the keys of a role on to programs that cannot use boto3.

Start with ``endpoint``, which has the public function and its context. ``credentials_server``
answers the requests of programs, and ``child_environment`` has the variables that lead a program
to the server and not to other credentials. This package may import from ``_boto`` and the packages
below it.
"""
