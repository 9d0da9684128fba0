"""Which connections lead to tor, by what it says of its listeners."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import ConfigurationError
from clew.tor.client_ports import NO_PORTS, Address, ClientPorts, normal_address, parse_address

NEAR = Address("127.0.0.1", 40_000)


def test_what_tor_answers() -> None:
    """Several listeners, IPv6, all addresses of the machine, and Unix sockets, which have no address."""
    tcp = '"127.0.0.1:9050" "[::1]:9051" "0.0.0.0:9052" "[::]:9053"'
    ports = ClientPorts.parse(
        [f'{tcp} "unix:/run/tor/so\\"cks" "unix:/a:9054" "127.0.0.1:9055"', '"127.0.0.1:8118"', ""]
    )
    assert ports.exact == {
        Address("127.0.0.1", 9050),
        Address("::1", 9051),
        Address("127.0.0.1", 9055),
        Address("127.0.0.1", 8118),
    }
    assert ports.anywhere == {9052, 9053}
    assert ports.numbers == {9050, 9051, 9052, 9053, 9055, 8118}


def test_an_answer_that_is_not_understood_is_left_out() -> None:
    """The others still count."""
    assert ClientPorts.parse(['"never closed', "DISABLED", '"127.0.0.1:9050"']).exact == {Address("127.0.0.1", 9050)}
    assert ClientPorts.parse([]) == NO_PORTS


@given(st.text(max_size=60))
def test_no_answer_raises(answer: str) -> None:
    """Whatever tor says."""
    ClientPorts.parse([answer])


@pytest.mark.parametrize(
    ("far", "near", "leads"),
    [
        (("127.0.0.1", 9050), ("127.0.0.1", 1), True),
        (("127.0.0.1", 9051), ("127.0.0.1", 1), False),
        (("127.0.0.2", 9050), ("127.0.0.1", 1), False),
        (("127.0.0.2", 9060), ("127.0.0.1", 1), True),  # on all addresses
        (("192.0.2.1", 9060), ("192.0.2.1", 1), True),  # of this machine
        (("192.0.2.2", 9060), ("192.0.2.1", 1), False),  # of another
        (("198.51.100.7", 9060), ("192.0.2.1", 1), True),  # of the machine whose tor we control
        (("::1", 9060), ("::1", 1), True),
    ],
)
def test_which_connections_lead_to_tor(far: tuple[str, int], near: tuple[str, int], leads: bool) -> None:
    """The listener's own address; for one on all addresses, only an address of that machine."""
    ports = ClientPorts.parse(['"127.0.0.1:9050" "0.0.0.0:9060"'], "198.51.100.7")
    assert ports.lead_to_tor(Address(*far), Address(*near)) is leads


def test_what_a_person_gives() -> None:
    """A port, an address, several."""
    assert ClientPorts.of("9050").exact == {Address("127.0.0.1", 9050)}
    assert ClientPorts.of("localhost:9050").exact == {Address("127.0.0.1", 9050)}
    assert ClientPorts.of(["[::1]:9050", "192.0.2.1:9150"]).exact == {Address("::1", 9050), Address("192.0.2.1", 9150)}


@pytest.mark.parametrize(
    "socks", ["", "tor.example:9050", "0", "70000", "127.0.0.1", [], ["9050", "x"], "/run/tor/socks"]
)
def test_what_is_no_address_is_refused(socks: str | list[str]) -> None:
    """With a sentence."""
    with pytest.raises(ConfigurationError, match=r"socks names no address|is no address of tor's SOCKS port"):
        ClientPorts.of(socks)


@given(st.ip_addresses(), st.integers(1, 65535), st.booleans())
def test_an_address_has_one_form(host: object, port: int, brackets: bool) -> None:
    """However it is written, with or without brackets, it is the same address."""
    text = str(host)
    written = f"[{text}]:{port}" if brackets and ":" in text else f"{text}:{port}"
    parsed = parse_address(written)
    assert parsed is not None
    assert parsed == normal_address((text, port)) == normal_address((text, port, 0, 0))
    address = ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    assert ip_address(parsed.host) == (mapped or address)


@pytest.mark.parametrize(
    "address", [None, "127.0.0.1", b"x", (), ("::1",), ("name", 1), ("::1", 0), ("::1", "1"), (1, 1)]
)
def test_what_is_no_address_of_tcp(address: object) -> None:
    """Sockets of other families have other addresses."""
    assert normal_address(address) is None
