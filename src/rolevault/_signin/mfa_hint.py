"""What a user of aws-vault misses: an ``mfa_serial`` that only another profile has.

aws-vault and granted take ``mfa_serial`` from the source profile, and aws-vault takes settings
from an ``include_profile``. botocore, the AWS CLI and rolevault do neither.
"""

import botocore.session

from rolevault._roles.profile import chosen_profile, holds_other_settings, settings
from rolevault._roles.role import Role


def mfa_hint(session: botocore.session.Session, role: Role) -> str | None:
    """Return which profile has an ``mfa_serial`` that the role lacks, and what to add; None if
    there is no such profile.
    """
    own = role.profile
    waiting = (
        [own, role.source_profile] if own or role.source_profile else [chosen_profile(session)]
    )
    seen: set[str] = set()
    while waiting:
        profile = waiting.pop(0)
        if not isinstance(profile, str) or profile in seen:
            continue
        seen.add(profile)
        found = settings(session, profile)
        serial = found.get("mfa_serial")
        if serial and not holds_other_settings(serial):
            remedy = f"pass mfa_serial={serial!r}"
            if own is not None and role.is_from_profile:
                remedy = f'add "mfa_serial = {serial}" to profile {own}, or {remedy}'
            return (
                f"Profile {profile} has an mfa_serial, which counts for that profile only. If the "
                f"role demands MFA, {remedy}."
            )
        waiting += [found.get("include_profile"), found.get("source_profile")]
    return None
