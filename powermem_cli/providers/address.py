"""Where a provider may live: https anywhere, http only near by when a key is sent, and never a cloud's metadata."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from powermem_cli.errors import ConfigError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NEAR: Final = tuple(
    map(
        ipaddress.ip_network,
        ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
    )
)
_FORBIDDEN: Final = tuple(
    map(ipaddress.ip_network, ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32"))
)


def checked_url(url: str, provider: str, *, with_key: bool) -> str:
    """*url* without a slash at the end. Raises ConfigError if nothing may be sent there."""
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise _wrong(provider, f"is no address ({error})") from error
    if parts.scheme not in {"http", "https"} or not host:
        raise _wrong(provider, "must begin with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise _wrong(provider, "must not hold a name or password", "a key is given as api_key")
    if parts.query or parts.fragment:
        raise _wrong(provider, "must end before any ? or #")
    address = _literal(host)
    if address is not None:
        _check(address, provider, plain_with_key=with_key and parts.scheme == "http")
    return url.strip().rstrip("/")


async def check_resolved(url: str, provider: str, *, with_key: bool) -> None:
    """Look at the addresses behind the name in *url*. Raises ConfigError; a name without an address is for the call."""
    parts = urlsplit(url)
    host, plain_with_key = parts.hostname or "", with_key and parts.scheme == "http"
    if _literal(host) is not None:
        return
    if parts.scheme in getproxies() and not plain_with_key:
        return  # the proxy resolves names, perhaps others than we would
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return
    for *_, (address, *_) in found:
        _check(ipaddress.ip_address(str(address).partition("%")[0]), provider, plain_with_key=plain_with_key)


def proxy_to(url: str) -> str | None:
    """The proxy that stands on the way to *url*, without its user's name and password; None if there is none."""
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy is None or proxy_bypass(parts.hostname or ""):
        return None
    scheme, _, rest = proxy.rpartition("://")
    return f"{scheme or 'http'}://{rest.rpartition('@')[2]}"


def _literal(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _check(address: _Address, provider: str, *, plain_with_key: bool) -> None:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if any(address in network for network in _FORBIDDEN):
        raise _wrong(provider, f"leads to {address}, where a machine keeps its own secrets")
    if plain_with_key and not address.is_unspecified and not any(address in network for network in _NEAR):
        raise _wrong(provider, f"would send the key in the clear to {address}", "use https://")


def _wrong(provider: str, what: str, hint: str | None = None) -> ConfigError:
    return ConfigError(f"base_url of {provider} {what}", hint=hint, code="config.base_url")
