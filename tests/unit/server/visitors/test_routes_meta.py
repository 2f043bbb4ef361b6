"""localtunnel.server.visitors.routes: what the server tells about itself, and where."""

import json

import pytest
from harness import RawClient, backend, connect, fetch, frontend, read_message, request, running_server, wait_until

import localtunnel

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def server():
    with running_server(domain="tunnels.example") as running:
        yield running


def get(server, path, host="tunnels.example", method="GET", fields=""):
    return fetch(frontend(server), request(host, path, method, fields))


@pytest.mark.parametrize(
    "host",
    [
        "tunnels.example",
        "TUNNELS.example:8000",
        "localhost",
        "localhost:8000",
        "127.0.0.1",
        "192.0.2.7:80",
        "[::1]:8000",
    ],
)
def test_the_bare_domain_localhost_and_ip_literals_are_the_servers_own(server, host):
    response = get(server, "/meta/version", host)
    assert response.status == 200
    assert response.body == localtunnel.__version__.encode()
    assert response.fields["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    "host", ["www.tunnels.example", "example", "foo.localhost", "elsewhere.example", "127.0.0.1.example"]
)
def test_other_hosts_are_not(server, host):
    assert get(server, "/meta/version", host).status == 404
    assert get(server, "/meta/version", host).fields["x-localtunnel-error"] == "tunnel_not_found"


def test_a_client_learns_the_backends_port(server):
    assert get(server, "/meta/backend").body == str(backend(server)[1]).encode()


def counted(response):
    return {metric["name"]: metric["value"] for metric in json.loads(response.body)}


def test_the_client_of_2013_can_print_the_metrics(server):
    """``localtunnel -m`` formats each metric of a list like this; one that is no such list ends it with a traceback."""
    lines = list(map("%(name) -40s %(value)s".__mod__, json.loads(get(server, "/meta/metrics").body)))
    assert len(lines) == len(set(lines)) >= 5
    assert f"{'tunnels':40} 0" in lines


def test_metrics_count_and_name_nobody(server):
    with RawClient(backend(server), "secretname") as client:
        proxy = client.park()
        with connect(frontend(server)) as visitor:
            visitor.sendall(request("secretname.tunnels.example"))
            assert read_message(proxy) == {"proxy": True}
            response = get(server, "/meta/metrics")
            metrics = counted(response)
            assert response.fields["content-type"] == "application/json"
            assert metrics["tunnels"] == 1
            assert metrics["joins"] == 1
            assert metrics["requests_total"] >= 1
            assert metrics["uptime_seconds"] >= 0
            assert b"secretname" not in response.body
    wait_until(lambda: not server.joins)
    metrics = counted(get(server, "/meta/metrics"))
    assert (metrics["tunnels"], metrics["joins"]) == (0, 0)


def test_a_query_changes_nothing(server):
    assert get(server, "/meta/version?x=1").status == 200


def test_head_has_the_length_and_no_body(server):
    response = get(server, "/meta/version", method="HEAD")
    assert response.status == 200
    assert response.body == b""
    assert int(response.fields["content-length"]) == len(localtunnel.__version__)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_other_methods_are_not_allowed(server, method):
    response = get(server, "/meta/version", method=method)
    assert response.status == 405
    assert response.fields["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/meta", "/meta/", "/meta/other", "/favicon.ico"])
def test_other_paths_are_not_there(server, path):
    assert get(server, path).status == 404


def test_the_bare_domain_has_a_page_that_says_how_to_connect(server):
    response = get(server, "/", fields="Accept: text/html\r\n")
    assert response.status == 200
    assert b"lt-client --server=tunnels.example" in response.body


def test_a_tunnel_keeps_its_own_meta_pages(server):
    with RawClient(backend(server), "foo") as client:
        proxy = client.park()
        with connect(frontend(server)) as visitor:
            visitor.sendall(request("foo.tunnels.example", "/meta/version"))
            assert read_message(proxy) == {"proxy": True}


def test_the_domain_localhost_is_the_servers_own_whatever_is_claimed():
    with running_server() as server, RawClient(backend(server), "foo"):
        assert get(server, "/meta/version", "localhost").status == 200
