"""HTTP requests that are wrong somewhere, and what every answer must look like."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import re
import socket
import struct
import zlib
from typing import Any, NamedTuple

from fuzz_values import DATATYPES, MODELS, NAMES, SIZES, TEXTS, WRONG, damaged, mutated
from hypothesis import strategies as st

LENGTH = b"Inference-Header-Content-Length"
PATIENCE = 30.0  # seconds for an answer, or for the end of a connection
#: What no server's text has in it: an exception that nobody has foreseen.
DEFECT = re.compile(
    r"defect of triton_stub|Traceback|Internal Server Error|\w+(Error|Exception)\b|<class |"
    r"Exception calling|Exception deserializing|Exception iterating|"
    r"object has no attribute|unexpected keyword|is not subscriptable|out of range for"
)

#: What models raise, and when they do not load: it may be any exception. The index has it, too.
OF_MODELS = re.compile(
    r"(load failed for model|Failed to process the request).*"
    r"|\breason\"?: ?\"Internal: ([^\"\\]|\\.)*\"",
    re.DOTALL,
)


class Request(NamedTuple):
    """Bytes for a connection; ``whole`` if they are a request that must be answered."""

    data: bytes
    whole: bool


# Bodies


def tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


GOOD: dict[str, Any] = {
    "simple": {
        "id": "a",
        "inputs": [tensor(f"INPUT{index}", "INT32", [1, 16], [*range(16)]) for index in (0, 1)],
        "outputs": [{"name": "OUTPUT0", "parameters": {"binary_data": False}}],
        "parameters": {"priority": 0, "timeout": 0, "own": "x", "binary_data_output": False},
    },
    "simple_identity": {
        "inputs": [tensor("INPUT0", "BYTES", [1, 2], ["a", "b"])],
        "outputs": [{"name": "OUTPUT0", "parameters": {"binary_data": True}}],
    },
    "simple_dyna_sequence": {
        "inputs": [tensor("INPUT", "INT32", [1, 1], [7])],
        "parameters": {"sequence_id": 7, "sequence_start": True, "sequence_end": True},
    },
    "densenet_onnx": {
        "inputs": [tensor("data_0", "FP32", [3, 224, 224], [1, 2, 3])],
        "outputs": [{"name": "fc6_1", "parameters": {"classification": 2}}],
    },
    "words": {"inputs": [tensor("TEXT", "BYTES", [2], ["a", "b"])]},
}  # fmt: skip


@st.composite
def json_inference(draw: st.DrawFn, model: str) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A request without binary tensors."""
    document = draw(mutated(draw(documents(model))))
    return draw(damaged(dump(document))), []


@st.composite
def binary_inference(draw: st.DrawFn, model: str) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A request with binary tensors behind the JSON, some of whose sizes are not true."""
    document = draw(documents(model))
    blobs = b""
    for entry in document["inputs"]:
        del entry["data"]
        blob = draw(st.sampled_from((b"", b"\1" * 4, b"\1" * 8, b"\0" * 64, bytes(602112))))
        entry["parameters"] = {"binary_data_size": len(blob)}
        blobs += draw(damaged(blob))
    text = dump(draw(mutated(document)))
    sizes = st.one_of(st.just(len(text)), st.just(len(text)), SIZES, TEXTS)
    header = str(draw(sizes)).encode(errors="surrogatepass")
    return text + blobs, [(LENGTH, re.sub(rb"[\0-\x1f\x7f]", b"", header))]


@st.composite
def documents(draw: st.DrawFn, model: str) -> Any:
    """A good request, or for ``echo`` of any datatypes with any shapes and values."""
    if model in GOOD:
        return json.loads(json.dumps(GOOD[model]))
    inputs = []
    for datatype in draw(st.lists(st.sampled_from(DATATYPES), max_size=4, unique=True)):
        shape = draw(st.lists(st.sampled_from((0, 1, 2, 3)), max_size=3))
        name = {"BYTES": "STRING"}.get(datatype, datatype)
        data = draw(st.lists(st.one_of(st.integers(-300, 2**70), WRONG), max_size=6))
        inputs.append(tensor(name, datatype, shape, data))
    return {"inputs": inputs}


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


@st.composite
def loads(draw: st.DrawFn) -> bytes:
    """A load of a model with a configuration and files, whose paths may lead anywhere."""
    config = {
        "name": "restless", "backend": "python", "max_batch_size": 2,
        "input": [{"name": "IN", "data_type": "TYPE_INT32", "dims": [-1]}],
        "output": [{"name": "OUT", "data_type": "TYPE_INT32", "dims": [-1]}],
    }  # fmt: skip
    configs = st.one_of(st.just(json.dumps(config)), mutated(config).map(json.dumps), TEXTS)
    parameters = {"config": draw(configs)}
    paths = st.sampled_from(
        (
            "1/model.py",
            "../../x",
            "/tmp/fuzz_escaped",
            "1/../../x",
            "",
            ".",
            "1",
            "a\0b",
            "1/" * 900,
        )
    )
    for path in draw(st.lists(paths, max_size=2)):
        file = draw(st.sampled_from((b"", b"x = 1", b"\xff", b"class TritonPythonModel: pass")))
        content = base64.b64encode(file).decode() + draw(st.sampled_from(("", "", "=", "!", "é")))
        parameters[f"file:{path}"] = content
    return draw(damaged(dump(draw(mutated({"parameters": parameters}, 1)))))


OTHERS = {
    "trace/setting": {"trace_level": ["TIMESTAMPS"], "trace_rate": "5", "trace_count": "-1",
                      "log_frequency": "3"},
    "logging": {"log_info": True, "log_verbose_level": 1, "log_format": "default"},
    "repository/index": {"ready": True},
    "systemsharedmemory/region/r/register": {"key": "/fuzz", "offset": 0, "byte_size": 64},
    "systemsharedmemory/region/r/unregister": {},
    "systemsharedmemory/region/r/status": {},
    "cudasharedmemory/region/r/register": {"raw_handle": {"b64": "AAAA"}, "device_id": 0,
                                           "byte_size": 64},
    "cudasharedmemory/unregister": {},
    "repository/models/restless/unload": {"parameters": {"unload_dependents": False}},
    "models/words/generate_stream": {"TEXT": ["a", "b"], "TIMES": 2},
    "models/simple/generate": {"INPUT0": [[1] * 16], "INPUT1": [1] * 16, "id": "x"},
}  # fmt: skip


# Requests

METHODS = st.sampled_from((b"POST", b"POST", b"GET", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"X"))


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any request: its path, its body, how it is encoded, and how it is framed."""
    headers: list[tuple[bytes, bytes]] = []
    method = b"POST"
    match draw(st.sampled_from((*("json", "binary", "other", "any") * 4, "load"))):
        case "json":
            model = draw(st.sampled_from(MODELS))
            path = f"/v2/models/{model}/infer"
            body, headers = draw(json_inference(model))
        case "binary":
            model = draw(st.sampled_from(MODELS))
            path = f"/v2/models/{model}/infer"
            body, headers = draw(binary_inference(model))
        case "other":
            name = draw(st.sampled_from(list(OTHERS)))
            path = f"/v2/{name}"
            body = draw(damaged(dump(draw(mutated(OTHERS[name])))))
        case "load":
            path, body = "/v2/repository/models/restless/load", draw(loads())
        case _:
            method = draw(METHODS)
            path = draw(paths())
            body = draw(st.binary(max_size=20))
    target = re.sub(rb"[\0-\x20\x7f]", b"+", path.encode(errors="surrogatepass"))
    body, encoding = draw(encoded(body))
    return draw(framed(method, target, body, headers + encoding))


@st.composite
def paths(draw: st.DrawFn) -> str:
    """Paths of the protocol with names and versions that may be anything."""
    name, version = draw(NAMES), draw(st.one_of(SIZES, TEXTS))
    pattern = st.sampled_from(
        ("/v2/models/{name}", "/v2/models/{name}/versions/{version}", "/v2/models/{name}/stats",
         "/v2/models/{name}/versions/{version}/infer", "/v2/models/{name}/config", "/{name}",
         "/v2/models/{name}/versions/{version}/ready",
         "/v2/systemsharedmemory/region/{name}/status", "/v2/cudasharedmemory/region/{name}/status",
         "/v2/repository/{name}/index", "/v2/repository/models/{name}/move", "/v2/{name}",
         "/v2/models/{name}/trace/setting", "/v2/models/{name}/generate", "/metrics", "*", "", "//",
         "/v2/models/stats?{name}={version}", "http://{name}/v2", "/v2/health/live#{name}")
    )  # fmt: skip
    return draw(pattern).format(name=name, version=version)


@st.composite
def encoded(draw: st.DrawFn, body: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A body that is compressed, or says so, or becomes very long."""
    kind = draw(
        st.sampled_from(("no",) * 90 + ("gzip", "deflate", "raw", "lie", "unknown") * 6 + ("bomb",))
    )
    match kind:
        case "gzip":
            body = draw(damaged(gzip.compress(body, 1)))
        case "deflate":
            body = draw(damaged(zlib.compress(body)))
        case "raw":
            body, kind = zlib.compress(body)[2:-4], "deflate"
        case "bomb":
            body, kind = BOMB, "gzip"
        case "lie":
            kind = draw(st.sampled_from(("gzip", "deflate")))
        case "unknown":
            kind = draw(st.sampled_from(("br", "identity", "", "gzip, gzip", "GZIP", "x" * 500)))
    headers = [] if kind == "no" else [(b"Content-Encoding", kind.encode())]
    if wanted := draw(st.sampled_from(("",) * 4 + ("gzip", "deflate", "*;q=0", "gzip;q=x", "br"))):
        headers.append((b"Accept-Encoding", wanted.encode()))
    return body, headers


BOMB = gzip.compress(bytes(1 << 25), 9)


@st.composite
def framed(
    draw: st.DrawFn, method: bytes, target: bytes, body: bytes, headers: list[tuple[bytes, bytes]]
) -> Request:
    """The bytes of a request whose length may be told wrong, or whose chunks may be broken."""
    whole = True
    kind = draw(
        st.sampled_from(("length",) * 12 + ("chunks",) * 3 + ("lie", "broken", "odd", "two"))
    )
    match kind:
        case "chunks" | "broken":
            size = draw(st.integers(1, 1 + len(body)))
            pieces = [body[at : at + size] for at in range(0, len(body), size)][:5000]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
            body += b"0\r\n\r\n"
            headers = [*headers, (b"Transfer-Encoding", b"chunked")]
            if kind == "broken":
                whole, body = False, draw(damaged(body))
        case "lie":
            size = draw(st.one_of(SIZES, TEXTS))
            text = re.sub(rb"[\r\n]", b"", str(size).encode(errors="surrogatepass"))
            whole, headers = False, [*headers, (b"Content-Length", text)]
        case "two":
            whole = False
            headers = [*headers, (b"Content-Length", b"%d" % len(body)), (b"Content-Length", b"0"),
                       (b"Transfer-Encoding", b"chunked")]  # fmt: skip
        case _:
            headers = [*headers, (b"Content-Length", b"%d" % len(body))]
    if kind == "odd":
        whole, headers = False, [*headers, draw(ODD_HEADERS)]
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: fuzz", b"Connection: close"]
    lines += [name + b": " + value for name, value in headers]
    data = b"\r\n".join(lines) + b"\r\n\r\n" + body
    if whole and draw(st.integers(0, 19)) == 0:
        whole, data = False, draw(damaged(data))
    # A path that is no path is refused by the parser, and so is what it does not know as a method.
    return Request(data, whole and target.startswith(b"/") and method != b"X" and target.isascii())


ODD_HEADERS = st.one_of(
    st.tuples(st.binary(max_size=6), st.binary(max_size=12)),
    st.sampled_from(
        ((b"Expect", b"100-continue"), (b"Expect", b"x"), (b"Long", b"x" * 70_000), (b"", b""),
         (b"Upgrade", b"websocket"), (b"Host", b""), (b"A\r\nB", b"c"), (b"Folded", b"a\r\n b"),
         (b"Transfer-Encoding", b"gzip, chunked"), (b"Content-Type", b"\xff"), (b"\0", b"\0"),
         (b"Connection", b"upgrade"), (b"triton-request-id", b"\xff" * 20), (b"traceparent", b"0"))
    ),
)  # fmt: skip


# Answers


def send(url: str, request: Request) -> str:
    """What is wrong with how the server answers; nothing if all is well."""
    host, port = url.split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        try:
            connection.sendall(request.data)
            if not request.whole:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before it has read everything
        answer = http.client.HTTPResponse(
            connection, method=request.data.partition(b" ")[0].decode("latin-1")
        )
        try:
            answer.begin()
            body = answer.read()
        except TimeoutError:
            return f"no answer in {PATIENCE} s"
        except (http.client.HTTPException, OSError) as error:
            return f"no answer: {error!r}" if request.whole else ""
    return "" if request.data.startswith(b"HEAD ") else wrong(answer.status, body)


def wrong(status: int, body: bytes) -> str:
    """What no answer may look like."""
    text = OF_MODELS.sub("", body.decode(errors="replace"))
    if found := DEFECT.search(text):
        return f"{status}: {found[0]!r} in {text[:500]!r}"
    if status >= 500 and not text:
        return f"{status} without a reason"
    return ""


def blob_request(model: str, text: bytes, *blobs: bytes) -> bytes:
    """A good request, as bytes for a connection."""
    body = text + b"".join(blobs)
    return (
        b"POST /v2/models/%b/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%b: %d\r\n"
        b"Content-Length: %d\r\n\r\n%b"
    ) % (model.encode(), LENGTH, len(text), len(body), body)


def still_serves(url: str) -> str:
    """What is wrong with the answer to a good request."""
    inputs = [
        {"name": name, "datatype": "INT32", "shape": [1, 16],
         "parameters": {"binary_data_size": 64}}
        for name in ("INPUT0", "INPUT1")
    ]  # fmt: skip
    row = struct.pack("<16i", *range(16))
    text = json.dumps({"inputs": inputs}).encode()
    host, port = url.split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
        connection.sendall(blob_request("simple", text, row, row))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        body = answer.read()
    data = {each["name"]: each.get("data") for each in json.loads(body).get("outputs", ())}
    good = {"OUTPUT0": [2 * number for number in range(16)], "OUTPUT1": [0] * 16}
    return "" if data == good else f"a good request is answered with {answer.status}: {body!r}"
