"""Nothing that users make us call is on the operator's network."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable

import httpcore
import httpx
import pytest

from services.notifier.guard import Guard, resolve
from services.notifier.outbound import Outbound, UnreachableError
from shared.receiver_address import BlockedError, is_public

BAD_ADDRESSES = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "not an address",
]

GOOD_ADDRESSES = ["1.1.1.1", "8.8.8.8", "100.63.0.1", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "2a00:1450:4001::1"]

BAD_URLS = [
    "http://example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "//example.com/",
    "example.com",
    "",
    "https://",
    "https:///path",
    "https://user@example.com/",
    "https://user:word@example.com/",
    "https://example.com:80/",
    "https://example.com:22/",
    "https://example.com:0/",
    "https://example.com:8080/",
    "https://example.com:99999/",
    "https://127.0.0.1/",
    "https://127.1/",
    "https://0/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://2130706433/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://127.0.0.1./",
    "https://169.254.169.254/latest/meta-data/",
    "https://10.0.0.1/",
    "https://8.8.8.8/",
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[fe80::1%25eth0]/",
    "https://[fd00:ec2::254]/",
    "https://①②⑦.⓪.⓪.①/",
    "https://localhost/",
    "https://localhost./",
    "https://LOCALHOST/",
    "https://localhost:8443/",
    "https://hook.localhost/",
    "https://exa mple.com/",
    "https://exam\nple.com/",
]


class Recorder:
    """Counts the connections that reach it."""

    def __init__(self) -> None:
        self.connections = 0

    async def accept(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


class Network(httpcore.AsyncNetworkBackend):
    """Instead of the real one: writes down where a connection is made to, and refuses it."""

    def __init__(self) -> None:
        self.connected: list[str] = []

    async def connect_tcp(self, host: str, port: int, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        self.connected.append(host)
        raise httpcore.ConnectError("refused")


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(httpcore, "AnyIOBackend", lambda: network)
    return network


def resolver(*answers: list[str]) -> Callable[[str, int], "asyncio.Future[list[str]]"]:
    """Gives one answer after the other, the last one for ever."""
    left = list(answers)

    async def answer(host: str, port: int) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return answer  # type: ignore[return-value]


def outbound(guard: Guard) -> Outbound:
    return Outbound(guard, ssl_context=httpx.create_ssl_context(verify=False))


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_an_address_that_is_not_of_the_open_internet_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", GOOD_ADDRESSES)
def test_an_address_of_the_open_internet_is_public(address: str) -> None:
    assert is_public(address)


def test_whatever_python_calls_private_is_not_public() -> None:
    for network in ipaddress._IPv4Constants._private_networks + ipaddress._IPv6Constants._private_networks:  # type: ignore[attr-defined]
        assert not is_public(str(network[0])), network
        assert not is_public(str(network[-1])), network


@pytest.mark.parametrize("url", BAD_URLS)
async def test_nothing_is_connected_to_for_a_bad_target(url: str, network: Network) -> None:
    with pytest.raises(BlockedError):
        await outbound(Guard()).post(url, {}, b"{}")
    assert network.connected == []


@pytest.mark.parametrize("address", [address for address in BAD_ADDRESSES if address != "not an address"])
async def test_a_good_name_that_leads_to_a_bad_address_is_blocked(address: str, network: Network) -> None:
    for answer in ([address], ["8.8.8.8", address], [address, "2606:4700::1111"]):
        with pytest.raises(BlockedError):
            await outbound(Guard(resolve=resolver(answer))).post("https://example.com/hook", {}, b"{}")
    assert network.connected == []


async def test_the_connection_goes_to_the_address_that_was_checked(network: Network) -> None:
    guard = Guard(resolve=resolver(["2606:4700::1111", "1.1.1.1"]))
    with pytest.raises(UnreachableError):
        await outbound(guard).post("https://example.com:8443/hook", {}, b"{}")
    assert network.connected == ["2606:4700::1111", "1.1.1.1"]


async def test_a_name_that_changes_its_mind_never_leads_to_this_machine(network: Network) -> None:
    for _ in range(1000):
        guard = Guard(resolve=resolver(["8.8.8.8"], ["127.0.0.1"]))
        for _ in range(2):
            with pytest.raises((BlockedError, UnreachableError)):
                await outbound(guard).post("https://example.com/hook", {}, b"{}")
    assert set(network.connected) == {"8.8.8.8"}
    assert len(network.connected) == 1000


async def test_a_message_about_a_blocked_address_does_not_show_it() -> None:
    with pytest.raises(BlockedError) as caught:
        await outbound(Guard()).post("https://ann:hunter2@localhost/secret-path", {}, b"{}")
    assert "hunter2" not in str(caught.value)
    assert "secret-path" not in str(caught.value)


@pytest.fixture
async def listener() -> AsyncIterator[tuple[Recorder, int]]:
    recorder = Recorder()
    server = await asyncio.start_server(recorder.accept, "127.0.0.1", 0)
    async with server:
        yield recorder, server.sockets[0].getsockname()[1]


async def test_the_operator_may_let_private_addresses_and_plain_http_through(listener: tuple[Recorder, int]) -> None:
    recorder, port = listener
    with pytest.raises(UnreachableError):
        await outbound(Guard(allow_private=True)).post(f"http://127.0.0.1:{port}/", {}, b"{}")
    assert recorder.connections == 1


async def test_a_user_name_and_other_schemes_are_refused_all_the_same() -> None:
    for url in ("http://user:word@127.0.0.1/", "ftp://127.0.0.1/", "https:///x"):
        with pytest.raises(BlockedError):
            Guard(allow_private=True).check(url)


async def test_a_name_that_leads_nowhere_is_not_reached() -> None:
    async def nowhere(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    with pytest.raises(UnreachableError):
        await outbound(Guard(resolve=nowhere)).post("https://example.com/", {}, b"{}")


async def test_the_real_resolver_knows_this_machine_and_says_when_a_name_is_none() -> None:
    assert set(await resolve("localhost", 443)) <= {"127.0.0.1", "::1"}
    with pytest.raises(OSError, match="not a name"):
        await resolve("x" * 300 + ".example", 443)


async def test_nothing_of_the_environment_is_used(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(UnreachableError):
        await outbound(Guard(resolve=resolver(["8.8.8.8"]))).post("https://example.com/", {}, b"{}")
    assert network.connected == ["8.8.8.8"]


class Handshake(httpcore.AsyncNetworkStream):
    """A connection that writes down for which name TLS is asked, and with what rules, and then breaks."""

    def __init__(self) -> None:
        self.names: list[str | None] = []
        self.contexts: list[ssl.SSLContext] = []

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        self.names.append(server_hostname)
        self.contexts.append(ssl_context)
        raise httpcore.ConnectError("broken")

    async def aclose(self) -> None: ...


async def test_the_certificate_is_checked_for_the_name_and_not_for_the_address(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    handshake = Handshake()

    async def connect(*_: object, **__: object) -> httpcore.AsyncNetworkStream:
        return handshake

    monkeypatch.setattr(network, "connect_tcp", connect)
    with pytest.raises(UnreachableError):
        await Outbound(Guard(resolve=resolver(["8.8.8.8"]))).post("https://hooks.example.com/", {}, b"{}")
    assert handshake.names == ["hooks.example.com"]
    [context] = handshake.contexts
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
