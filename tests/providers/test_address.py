"""Where calls may go, and where a key may not."""

from __future__ import annotations

import socket

import pytest

from powermem_cli.errors import ConfigError
from powermem_cli.providers.address import check_resolved, checked_url

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "url",
    ["https://api.example.org/v1/", "https://8.8.8.8", "http://127.0.0.1:11434", "http://[::1]:1/", "http://10.1.2.3/v1",
     "http://192.168.0.9", "http://172.16.5.5", "http://100.64.0.1", "http://[fd12::1]", "http://0.0.0.0:8000",
     "http://[::ffff:127.0.0.1]", "http://gpu-box:8000/v1"],
)  # fmt: skip
def test_addresses_that_may_get_a_key(url):
    assert checked_url(f" {url} ", "p", with_key=True) == url.rstrip("/")


@pytest.mark.parametrize(
    "url", ["http://8.8.8.8", "http://[2001:db8::1]/v1", "http://[::ffff:8.8.8.8]", "http://172.32.0.1"]
)
def test_no_key_goes_out_in_the_clear(url):
    with pytest.raises(ConfigError, match="in the clear"):
        checked_url(url, "p", with_key=True)
    assert checked_url(url, "p", with_key=False)


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/latest", "https://169.254.1.1", "http://[fe80::1]", "http://[fd00:ec2::254]",
     "https://100.100.100.200", "http://[::ffff:169.254.169.254]"],
)  # fmt: skip
def test_a_cloud_keeps_its_secrets(url):
    with pytest.raises(ConfigError, match="own secrets"):
        checked_url(url, "p", with_key=False)


@pytest.mark.parametrize(
    ("url", "why"),
    [("ftp://x.org", "must begin"), ("api.openai.com/v1", "must begin"), ("", "must begin"), ("https://", "must begin"),
     ("https://user:pw@x.org", "name or password"), ("https://u@x.org", "name or password"),
     ("https://x.org/v1?key=1", "before any"), ("https://x.org/#a", "before any"), ("https://x.org:99999", "no address"),
     ("https://[::1", "no address")],
)  # fmt: skip
def test_what_is_no_address(url, why):
    with pytest.raises(ConfigError, match=why) as caught:
        checked_url(url, "p", with_key=True)
    assert "pw" not in str(caught.value)


def resolving(monkeypatch, address):
    def getaddrinfo(*_args, **_named):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


async def test_a_name_that_leads_to_a_forbidden_place(monkeypatch):
    resolving(monkeypatch, "169.254.169.254")
    with pytest.raises(ConfigError, match="own secrets"):
        await check_resolved("https://innocent.example", "p", with_key=False)


async def test_a_name_near_by_may_get_the_key_in_the_clear_and_one_outside_may_not(monkeypatch):
    resolving(monkeypatch, "192.168.1.5")
    await check_resolved("http://gpu-box:8000", "p", with_key=True)
    resolving(monkeypatch, "93.184.216.34")
    with pytest.raises(ConfigError, match="in the clear"):
        await check_resolved("http://gpu-box:8000", "p", with_key=True)
    await check_resolved("http://gpu-box:8000", "p", with_key=False)
    await check_resolved("https://gpu-box:8000", "p", with_key=True)


async def test_a_proxy_resolves_names_itself_but_no_key_follows_in_the_clear(monkeypatch):
    resolving(monkeypatch, "93.184.216.34")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    await check_resolved("http://gpu-box:8000", "p", with_key=False)
    with pytest.raises(ConfigError, match="in the clear"):
        await check_resolved("http://gpu-box:8000", "p", with_key=True)


async def test_a_name_without_an_address_is_left_to_the_call(monkeypatch):
    def getaddrinfo(*_args, **_named):
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    await check_resolved("https://nowhere.invalid", "p", with_key=True)
