"""Clients of STS. They are made by the user's botocore session, so that its proxies, CA
bundle, endpoint and retry settings apply.
"""

import os
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.exceptions import NoRegionError, UnknownRegionError

from rolevault import _botocore_private
from rolevault._signin.sts_call import StsCaller
from rolevault._signin.sts_session import Keys
from rolevault._version import __version__

#: The region in which a partition's STS is called if no region is configured. Only ``aws`` has
#: an endpoint for all regions.
_PARTITION_REGIONS = {
    "aws": "us-east-1",
    "aws-cn": "cn-north-1",
    "aws-eusc": "eusc-de-east-1",
    "aws-iso": "us-iso-east-1",
    "aws-iso-b": "us-isob-east-1",
    "aws-iso-e": "eu-isoe-west-1",
    "aws-iso-f": "us-isof-south-1",
    "aws-us-gov": "us-gov-west-1",
}


class StsClientFactory:
    """Makes clients of STS for one botocore session and one partition.

    :param partition: ``aws``, ``aws-cn``, …; None if it is unknown.
    """

    def __init__(self, session: botocore.session.Session, partition: str | None) -> None:
        self._session = session
        self._partition = partition
        # The region of the client that asks first for the role's credentials.
        self._first_region = _botocore_private.last_region(session)

    @property
    def endpoint(self) -> str | None:
        """The endpoint that the environment or a profile names for STS; None for AWS's own."""
        if self._session.get_config_variable("ignore_configured_endpoint_urls"):
            return None
        provider = ConfiguredEndpointProvider(
            full_config=self._session.full_config,
            scoped_config=self._session.get_scoped_config(),
            client_name="sts",
            environ=os.environ,
        )
        endpoint: str | None = provider.provide()
        return endpoint

    def create_caller(self, keys: Keys, *, carries_code: bool = False) -> StsCaller:
        """Return what calls STS with ``keys``. The parameters are those of ``create_client``."""
        return StsCaller(self.create_client(keys, carries_code=carries_code))

    def create_client(self, keys: Keys, *, carries_code: bool = False) -> Any:
        """Return a client that signs with ``keys``.

        :param carries_code: whether its calls carry a code. botocore does not repeat such a
            call.
        :raises NoRegionError: no region is configured, and the partition is unknown.
        """
        access_key, secret_key, token = keys
        region = self._region()
        if region is None:
            # With an endpoint override botocore would notice only when it signs, after
            # somebody was asked for a code.
            raise NoRegionError
        settings: dict[str, Any] = {"user_agent_extra": f"rolevault/{__version__}"}
        if carries_code:
            # If the answer were lost, botocore would send the code again, and STS would call
            # the right code wrong.
            settings["retries"] = {"total_max_attempts": 1}
        return self._session.create_client(
            "sts",
            region_name=region,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            aws_session_token=token,
            config=Config(**settings),
        )

    def _region(self) -> str | None:
        session = self._session
        region = session.get_config_variable("region") or self._first_region
        region = region or _botocore_private.last_region(session)
        default = _PARTITION_REGIONS.get(self._partition or "aws")
        if region is None:
            return default
        if self._partition is None or default is None or self.endpoint is not None:
            return str(region)
        # A region of another partition cannot know the role.
        try:
            # botocore reads "us-east-1-fips" and "fips-us-east-1" as "us-east-1".
            plain = region.replace("fips-", "").replace("-fips", "")
            partition = session.get_partition_for_region(plain)
        except UnknownRegionError:
            partition = "aws" if region == "aws-global" else self._partition
        return str(region) if partition == self._partition else default
