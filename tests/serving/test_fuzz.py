"""Requests that go wrong in every way the description of the API allows for: an answer comes, and it is no fault of the server's.

A few of them here; `HOLOTF_EXAMPLES=5000 pytest tests/serving/test_fuzz.py` so many.
"""

import collections
import contextlib
import functools
import io
import json
import os
import socket
import typing
import urllib.parse

import hypothesis
import hypothesis.strategies as st
import pytest
from PIL import Image
from serving.process import made, running

EXAMPLES = int(os.environ.get("HOLOTF_EXAMPLES", "60"))
# A request is small enough to be read as it is; made smaller, it would be sent hundreds of times.
SETTINGS = functools.partial(
    hypothesis.settings,
    deadline=None,
    database=None,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)
LARGE = 64  # numbers; a larger array is one number over and over

NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.floats(), st.sampled_from([0, -1, 1e300, 5e-324, 2**31, 10**400]))
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=9), st.just({"b64": "!"}), st.just("x" * 100_000)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)
DEEP = st.sampled_from([b"[" * 100_000, b'{"inputs":' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"a":' * 50_000])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "chairs"
    made(folder / "1")
    with running("--model", folder, "--port", "0", "--volumes_mib", "1") as found:
        yield found
        code, said = found.stop()
        assert code == 0
        assert set(said.splitlines()) <= {"WARNING:  Invalid HTTP request received."}, said


def valid(schema):
    """What a schema allows."""
    if "anyOf" in schema:
        return st.one_of(*map(valid, schema["anyOf"]))
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    if schema["type"] == "object":
        named = {key: valid(inner) for key, inner in schema["properties"].items()}
        required = {key: named.pop(key) for key in schema.get("required", [])}
        return st.fixed_dictionaries(required, optional=named)
    if schema["type"] == "array":
        least, most = schema["minItems"], min(schema["maxItems"], schema["minItems"] + 2)
        if least * size(schema["items"]) > LARGE:
            return valid(schema["items"]).map(lambda item: [item] * least)
        return st.lists(valid(schema["items"]), min_size=least, max_size=most)
    limits = schema.get("minimum"), schema.get("maximum")
    return {
        "integer": lambda: st.integers(*limits),
        "number": lambda: st.floats(*(limits if limits != (None, None) else (-3e38, 3e38))),
        "string": lambda: st.text(max_size=9),
        "boolean": st.booleans,
    }[schema["type"]]()


def size(schema):
    return schema["minItems"] * size(schema["items"]) if schema.get("type") == "array" else 1


def places(told, here=()):
    """Where in a JSON value something stands: tuples of keys."""
    yield here
    if isinstance(told, (dict, list)):
        for key, inner in told.items() if isinstance(told, dict) else list(enumerate(told))[:3]:
            yield from places(inner, (*here, key))


def replaced(told, place, junk):
    if not place:
        return junk
    key, *rest = place
    copy = dict(told) if isinstance(told, dict) else list(told)
    copy[key] = replaced(told[key], rest, junk)
    return copy


class Request(typing.NamedTuple):
    method: str
    target: str
    body: bytes
    headers: dict[str, str]

    def __repr__(self):  # Hypothesis refuses one of many kilobytes
        return f"{self.method} {self.target[:300]} {self.body[:300]} {self.headers}"


def request(draw, description):
    """A request, well or with one thing wrong."""
    operations = [(m, path, o) for path, methods in description["paths"].items() for m, o in methods.items()]
    rich = [o for o in operations if "requestBody" in o[2] or "parameters" in o[2]]
    method, path, told = draw(st.sampled_from(operations + 3 * rich))
    query = {p["name"]: draw(valid(p["schema"])) for p in told.get("parameters", []) if draw(st.booleans())}
    body = draw(valid(told["requestBody"]["content"]["application/json"]["schema"])) if "requestBody" in told else None
    headers, method = {}, method.upper()
    kinds = ["nothing", "query", "path", "method", "header", *(["value", "name", "bytes", "deep"] if body is not None else [])]
    wrong = draw(st.sampled_from(kinds))
    if wrong == "value":
        body = replaced(body, draw(st.sampled_from(sorted(places(body), key=repr))), draw(JUNK))
    if wrong == "name":
        body |= {draw(st.sampled_from(["instances", "inputs", "signature_name", "seed", "", "\ud800", "__proto__"])): draw(JUNK)}
    text = b"" if body is None else json.dumps(body).encode()
    if wrong == "bytes":
        text = draw(st.one_of(st.binary(max_size=40), st.binary(max_size=4).map(lambda end: text[: len(text) // 2] + end)))
    if wrong == "deep":
        text = draw(DEEP)
    if wrong == "query":
        query[draw(st.sampled_from([*query, "seed", "z", "frames", "format", "é"]))] = draw(JUNK)
    if wrong == "path":
        parts = path.split("/")
        parts[draw(st.integers(1, len(parts) - 1))] = urllib.parse.quote(draw(st.text(max_size=9)), safe=":/")
        path = "/".join(parts)
    if wrong == "method":
        method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "x"]))
    if wrong == "header":
        name = draw(st.sampled_from(["Content-Type", "Content-Encoding", "Accept", "Range", "Expect", "Host", "Upgrade", "Cookie"]))
        headers[name] = draw(
            st.sampled_from(["", "gzip", "text/html", "bytes=0-", "100-continue", "\xff", "websocket", "y" * 9000])
        )
    # Of a head of more than 64 KiB uvicorn closes the connection before it has read it.
    words = {key: (",".join(map(str, v)) if isinstance(v, list) else str(v))[:3000] for key, v in query.items()}
    return Request(method, path + ("?" + urllib.parse.urlencode(words, errors="replace") if words else ""), text, headers)


def send(server, count, seed):
    """Sends so many requests, each of which has to be answered well; how many were answered in which way."""
    description, answered = json.loads(server.ask("GET", "///openapi.json")[2]), collections.Counter()

    @SETTINGS(max_examples=count)
    @hypothesis.seed(seed)
    @hypothesis.given(st.composite(lambda draw: request(draw, description))())
    def judge(asked):
        with contextlib.closing(server.connection()) as connection:
            connection.request(*asked)
            answer = connection.getresponse()
            body = answer.read()
        answered[answer.status] += 1
        about = asked, answer.status, body[:300]
        assert answer.status < 500 or answer.status == 503, about
        kind = answer.headers["content-type"] or ""
        if answer.status >= 400:
            told = json.loads(body)
            assert list(told) == ["error"], about
            assert len(told["error"]) < 1000, about
        elif kind == "application/json":
            json.loads(body)
        elif kind.startswith("image/") and "svg" not in kind:
            Image.open(io.BytesIO(body)).load()

    judge()
    assert json.loads(server.ask("GET", "///healthz")[2])["status"] == "ok"
    return answered


def test_whatever_is_asked_is_answered_and_is_no_fault_of_the_server(server):
    answered = send(server, EXAMPLES, seed=0)
    assert answered[200] > EXAMPLES / 10, answered
    assert answered[400] > EXAMPLES / 10, answered


def test_what_is_no_http_is_refused(server):
    heads = [b"POST", b" ", b"/", b"HTTP/1.1", b"\r\n", b"content-length: ", b"-1", b"transfer-encoding: chunked", b"ffffffff"]
    words = st.one_of(st.sampled_from([*heads, b"\x16\x03\x01"]), st.binary(max_size=9))

    @SETTINGS(max_examples=EXAMPLES)
    @hypothesis.seed(0)
    @hypothesis.given(st.lists(words, max_size=12).map(b"".join))
    def judge(sent):
        with socket.create_connection((server.host, server.port), 60) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as answer:
                said = answer.read()
            assert said == b"" or 200 <= int(said.split()[1]) < 500, said

    judge()
    assert server.ask("GET", "///healthz")[0] == 200


@pytest.mark.slow
def test_memory_comes_to_rest_over_many_requests(server):
    """What is kept (volumes, arenas of its threads) fills up, within some rounds; a leak grows in each."""
    count, held = max(EXAMPLES, 250), []
    for seed in range(1, 13):
        send(server, count, seed)
        held.append(server.counted("process_resident_memory_bytes") / 2**20)
        if len(held) > 2 and held[-1] - held[-2] < count / 125:  # 8 KiB a request
            return
    pytest.fail(f"{held} MiB after each {count} requests")
