"""
Two accounts with one MFA code: prints the account of each role.

    python two_accounts.py MFA_SERIAL ROLE_ARN [ROLE_ARN ...]

Your long-term keys are found where boto3 finds them.
"""

import sys

import rolevault


def main() -> None:
    mfa_serial, *role_arns = sys.argv[1:]
    for role_arn in role_arns:
        session = rolevault.session(role_arn, mfa_serial=mfa_serial)
        sts = session.client("sts", region_name="us-east-1")
        print(f"{role_arn} is a role of account {sts.get_caller_identity()['Account']}")


if __name__ == "__main__":
    main()
