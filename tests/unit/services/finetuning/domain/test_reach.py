from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import InvalidInput
from services.finetuning.domain.reach import Reach, Target, reach_of

PUBLIC = ["93.184.215.14", "8.8.8.8", "2606:4700::6810:84e5", "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8"]
PRIVATE = ["10.0.0.1", "172.16.3.4", "192.168.1.1", "100.64.0.1", "fd12:3456::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"]
LOOPBACK = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "2002:7f00:1::1", "64:ff9b::7f00:1"]
# Never called, whatever a setting says.
NEVER = [
    "169.254.169.254", "169.254.0.1", "168.63.129.16", "192.0.0.192", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254",
    "224.0.0.1", "239.255.255.250", "ff02::1", "0.0.0.0", "::", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::",
]  # fmt: skip
# Neither public nor a network that somebody has.
NOWHERE = [
    "0.1.2.3", "192.0.2.1", "198.51.100.1", "203.0.113.9", "240.0.0.1", "255.255.255.255",
    "::7f00:1", "2001:db8::1", "2001::1", "100::1", "fec0::1", "fd00:ec2::254",
]  # fmt: skip
EVERYWHERE = reach_of(["0.0.0.0/0", "::/0"], http_loopback=True)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_is_called_over_tls_only(address: str) -> None:
    assert Reach().allows(ip_address(address), scheme="https")
    assert not EVERYWHERE.allows(ip_address(address), scheme="http")


@pytest.mark.parametrize("address", [*PRIVATE, *LOOPBACK, *NEVER, *NOWHERE])
def test_what_is_not_public_is_not_called(address: str) -> None:
    for scheme in ("https", "http"):
        assert not Reach().allows(ip_address(address), scheme=scheme)


@pytest.mark.parametrize("address", NEVER)
def test_metadata_and_link_local_addresses_are_never_called(address: str) -> None:
    for scheme in ("https", "http"):
        assert not EVERYWHERE.allows(ip_address(address), scheme=scheme)


@pytest.mark.parametrize("address", LOOPBACK)
def test_this_machine_is_called_where_a_setting_says_so(address: str) -> None:
    for scheme in ("https", "http"):
        assert Reach(http_loopback=True).allows(ip_address(address), scheme=scheme)


def test_a_private_network_is_called_over_tls_where_a_setting_names_it() -> None:
    reach = reach_of(["10.20.0.0/16", "fd12:3456::/32"], http_loopback=False)
    for address in ("10.20.3.4", "::ffff:10.20.3.4", "fd12:3456::1"):
        assert reach.allows(ip_address(address), scheme="https")
        assert not reach.allows(ip_address(address), scheme="http")
    assert not reach.allows(ip_address("10.21.0.1"), scheme="https")
    with pytest.raises(InvalidInput, match=r"webhook_networks: '10.20.0.1/16' is not a network"):
        reach_of(["10.20.0.1/16"], http_loopback=False)


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_judged_as_itself(inner: IPv4Address) -> None:
    forms = [f"::ffff:{inner}", str(IPv6Address(int(IPv6Address("64:ff9b::")) | int(inner)))]
    for form in forms:
        for reach in (Reach(), EVERYWHERE, Reach(http_loopback=True)):
            assert reach.allows(ip_address(form), scheme="https") == reach.allows(inner, scheme="https")


@pytest.mark.parametrize(
    ("url", "target", "authority"),
    [
        ("https://Hooks.Example.com", Target("https", "hooks.example.com", 443, "/"), "hooks.example.com"),
        ("https://h.example:8443/a/b?c=d%20e", Target("https", "h.example", 8443, "/a/b?c=d%20e"), "h.example:8443"),
        ("https://8.8.8.8:443/x", Target("https", "8.8.8.8", 443, "/x"), "8.8.8.8"),
        ("https://[2606:4700::1]:9/x", Target("https", "2606:4700::1", 9, "/x"), "[2606:4700::1]:9"),
        ("https://xn--mnchen-3ya.example/", Target("https", "xn--mnchen-3ya.example", 443, "/"), None),
    ],
)
def test_an_address_is_taken_apart(url: str, target: Target, authority: str | None) -> None:
    found = Reach().target(url)
    assert found == target
    assert found.authority == authority or authority is None


@pytest.mark.parametrize(
    "url",
    [
        "", "hooks.example.com", "http://hooks.example.com/", "ftp://hooks.example.com/", "https://", "https:///path",
        "https://me:secret@hooks.example.com/", "https://hooks.example.com@evil.example/", "https://h.example/#part",
        "https://h.example\\@evil.example/", "https://h.example/\r\nhost: evil", "https://h .example/",
        "https://h.example:0/", "https://h.example:99999/", "https://h.example:x/", "https://münchen.example/",
        "https://[::1]/", "https://127.0.0.1/", "https://10.0.0.1/", "https://169.254.169.254/latest/meta-data/",
        "https://[fe80::1%25eth0]/", "https://[2606:4700::1%25eth0]/", "https://[not-an-address]/", "https://h..example/",
        "https://h.example./", "https://-h.example/", "file:///etc/passwd", "https://" + "a" * 64 + ".example/",
        "https://h.example/" + "a" * 3000,
    ],
)  # fmt: skip
def test_what_is_no_address_or_leads_inside_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"^url: ") as refused:
        Reach().target(url)
    assert refused.value.param == "url"
    assert "secret" not in refused.value.message


def test_plain_http_is_for_this_machine_where_a_setting_says_so() -> None:
    assert Reach(http_loopback=True).target("http://127.0.0.1:8000/hook").port == 8000
    for url in ("http://10.0.0.1/", "http://8.8.8.8/"):
        with pytest.raises(InvalidInput, match="not on the public internet"):
            Reach(http_loopback=True).target(url)


@given(st.text(max_size=60))
def test_whatever_is_written_is_an_address_or_an_error_that_says_why(text: str) -> None:
    for url in (text, f"https://{text}", f"https://h.example/{text}"):
        try:
            target = EVERYWHERE.target(url)
        except InvalidInput as error:
            assert error.message.startswith("url: ")  # noqa: PT017  either is right
        else:
            assert 1 <= target.port <= 65_535
            assert target.path.startswith("/")
            assert target.host
