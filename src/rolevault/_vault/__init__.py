"""The encrypted file.

Read ``vault``, then ``key_cache`` and ``passphrase``: the file as a mapping, the keys that open
it, and where its passphrase comes from; ``rotation`` changes the passphrase.
``unlocking`` has the kernel hold a key: ``held_key`` says when, ``kernel_keyring`` does it, and
``durations`` reads for how long. ``envelope`` is the
format, built from ``sealing``, ``kdf`` and ``canonical_json``; ``entry`` is what is under the
seal. ``file`` reads and replaces the file, ``location`` judges where it stands, and
``lock_files`` are the locks beside it. This package may import ``_prompt`` and ``_concurrency``.
"""
