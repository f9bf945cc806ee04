"""What is asked for: one role, from options and profiles.

Read ``role``, then ``resolve``: the options of one role, and how they are merged with a
profile. ``validation`` judges single values. ``profile`` and ``config_files`` read
``~/.aws``, ``source_rules`` judges where source credentials come from, and ``source_identity``
tells who they are. This package may import ``_vault`` (for canonical JSON and lengths of time),
``_prompt`` (for the type of a callback) and ``_concurrency``.
"""
