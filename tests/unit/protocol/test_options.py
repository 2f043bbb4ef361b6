"""localtunnel.protocol.options: which options a request carries, and which of them a reply confirms."""

import pytest

from localtunnel.errors import OptionRefused
from localtunnel.http.options.rules import Rules
from localtunnel.protocol.limits import MAX_OPTION_ITEMS, MAX_OPTION_TEXT, MAX_TEXT
from localtunnel.protocol.messages import ControlReply, ControlRequest
from localtunnel.protocol.options import FOR_TCP, Options, missing, of_request, to_wire

EVERY = {
    "protect": "ann:secret",
    "host_header": "localhost:8080",
    "request_header_add": ("X-A: b",),
    "request_header_remove": ("X-C",),
    "response_header_add": ("X-D: e",),
    "allow_ip": ("10.0.0.0/8",),
    "cors": True,
    "server_timing": True,
}


def request(**fields):
    return ControlRequest("demo", "c", instance="i", **fields)


def test_every_option_arrives_and_makes_rules():
    options = of_request(request(options=EVERY))
    assert to_wire(options) == EVERY
    assert options.names == tuple(EVERY)
    assert Options.__struct_fields__ == tuple(EVERY)
    rules = Rules(b"k" * 16, options)
    assert (rules.host, rules.cors, rules.server_timing) == (b"localhost:8080", True, True)


@pytest.mark.parametrize(
    "fields", [{}, {"options": None}, {"options": {}}, {"options": {"cors": False, "allow_ip": []}}]
)
def test_nothing_is_asked_for(fields):
    assert of_request(request(**fields)).names == ()


@pytest.mark.parametrize(
    "options",
    [
        {"shield": True},
        {"Cors": True},
        {"cors": "yes"},
        {"cors": 1},
        {"cors": None},
        {"protect": 5},
        {"protect": "a" * (MAX_TEXT + 1)},
        {"host_header": ["a"]},
        {"allow_ip": "10.0.0.0/8"},
        {"allow_ip": [5]},
        {"allow_ip": {"10.0.0.0/8": True}},
        {"allow_ip": ["::1"] * (MAX_OPTION_ITEMS + 1)},
        {"request_header_add": ["X-A: " + "b" * MAX_OPTION_TEXT]},
    ],
)
def test_what_is_not_known_is_refused_rather_than_ignored(options):
    with pytest.raises(OptionRefused) as caught:
        of_request(request(options=options))
    assert str(caught.value).startswith("The tunnel's options cannot be accepted: ")
    assert "aaaa" not in str(caught.value)


def test_protect_may_stand_where_0_2_has_it():
    assert of_request(ControlRequest("demo", "c", "ann:secret")).names == ("protect",)
    assert of_request(request(protect="ann:secret", options={"cors": True})).names == ("protect", "cors")
    assert of_request(request(protect="ann:secret", options={"protect": "ann:secret"})).protect == "ann:secret"
    with pytest.raises(OptionRefused) as caught:
        of_request(request(protect="ann:secret", options={"protect": "ann:other"}))
    assert "secret" not in str(caught.value)


def test_an_empty_password_is_asked_for_and_can_then_be_refused():
    """It must not count as none: who sends it wants a guard."""
    options = of_request(ControlRequest("demo", "c", ""))
    assert options.names == ("protect",)
    with pytest.raises(OptionRefused):
        Rules(b"k" * 16, Options(protect=options.protect))


@pytest.mark.parametrize("name", EVERY)
def test_a_tcp_tunnel_can_have_allow_ip_alone(name):
    asked = request(kind="tcp", options={name: EVERY[name]})
    if name in FOR_TCP:
        assert of_request(asked).names == (name,)
        return
    with pytest.raises(OptionRefused, match=name):
        of_request(asked)


@pytest.mark.parametrize(
    ("confirmed", "lacking"),
    [
        (None, ["allow_ip", "cors"]),
        ((), ["allow_ip", "cors"]),
        (("cors",), ["allow_ip"]),
        (("cors", "allow_ip", "x"), []),
    ],
)
def test_what_a_reply_does_not_confirm(confirmed, lacking):
    assert missing(Options(cors=True, allow_ip=("::1",)), ControlReply("h", options=confirmed)) == lacking
