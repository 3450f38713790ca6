"""The model repository extension over HTTP: the index, loading and unloading."""

from __future__ import annotations

import base64
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broken_models import CONFIG
from instances import write_files
from raw_http import Reply, exchange, head, one, post
from repositories import BROKEN, Two, add, index, two_engines, write, write_ensemble

from triton_stub.engines.engine import Engine

LOAD = "/v2/repository/models/{}/load"
UNLOAD = "/v2/repository/models/{}/unload"


def fill(folder: Path) -> None:
    write(folder, "one")
    write(folder, "two", CONFIG + "version_policy { all { } }", v1=add(1), v2=add(2))
    write(folder, "step")
    write(folder, "other_step")
    write(folder, "broken", v1=BROKEN)
    write_files(folder / "bad_config", {"config.pbtxt": "nonsense", "1/model.py": add()})
    write_ensemble(folder, "ensemble", "step", "other_step")
    write(folder, "with space")
    write(folder, "näme")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with two_engines(tmp_path_factory.mktemp("controlled"), fill) as both:
        yield both


@pytest.fixture(autouse=True)
def _nothing_is_loaded(two: Two) -> None:
    """Each test begins with no model that serves."""
    for engine in (two.stub, two.native):
        for row in index(engine, ready=True):
            ask(engine, post(UNLOAD.format(row["name"]), b""))


def ask(engine: Engine, data: bytes) -> Reply:
    assert engine.http_url
    (reply,) = exchange(engine.http_url, data)
    assert isinstance(reply, Reply)
    return reply


def told(engine: Engine, *requests: bytes) -> list[Any]:
    """What is answered to each request, and what serves then."""
    answers = [ask(engine, request) for request in requests]
    # The folder of files that come with a request has a name that is made up.
    folder = rf"(/tmp/folder\w+|{re.escape(tempfile.gettempdir())}/triton-stub-\w+/one)"
    texts = [re.sub(folder, "/…", each.document) for each in answers]
    ready = [
        (row["name"], row.get("version"), row.get("state")) for row in index(engine, ready=True)
    ]
    return [
        *((each.status, each.headers, text) for each, text in zip(answers, texts, strict=True)),
        ready,
    ]


def same(two: Two, *requests: bytes) -> list[Any]:
    return list(json.loads(json.dumps(two.same(lambda engine, _: told(engine, *requests)))))


def load(name: str, body: Any = None) -> bytes:
    return post(LOAD.format(name), encoded(body))


def unload(name: str, body: Any = None) -> bytes:
    return post(UNLOAD.format(name), encoded(body))


def encoded(body: Any) -> bytes:
    if body is None:
        return b""
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def with_parameters(**parameters: Any) -> dict[str, Any]:
    return {"parameters": parameters}


def packed(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def config(**fields: Any) -> str:
    tensor = {"data_type": "TYPE_FP32", "dims": [-1]}
    return json.dumps(
        {
            "backend": "python",
            "input": [{"name": "IN", **tensor}],
            "output": [{"name": "OUT", **tensor}],
            **fields,
        }
    )


ANYTHING = [b"", b"{}", b"[]", b"null", b"5", b'""', b'{"x": 1}', b'{"parameters": {}}', b" {} "]


@pytest.mark.rule("5.1-load", "5.1-unload")
@pytest.mark.parametrize("body", ANYTHING)
def test_load_and_unload(two: Two, body: bytes) -> None:
    answers = same(two, load("one", body), unload("one", body))
    assert [status for status, *_ in answers[:2]] == [200, 200]


@pytest.mark.rule("5.1-load")
def test_what_serves_after_a_load(two: Two) -> None:
    assert same(two, load("two"))[-1] == [["two", "1", "READY"], ["two", "2", "READY"]]
    assert same(two, load("two"), load("one"))[-1][0][0] == "one"


@pytest.mark.rule("5.1-load")
@pytest.mark.parametrize(
    "name",
    ["unknown", "broken", "bad_config", "ONE", "one%20", "%6fne", "with space",
     "with%20space", "one.", "..%2fone", "one\\", "a" * 300, "%2e%2e", "config.pbtxt"],
    ids=lambda name: name[:20],
)  # fmt: skip
def test_what_cannot_be_loaded(two: Two, name: str) -> None:
    if " " in name:  # no HTTP
        name = name.replace(" ", "+")
    assert same(two, load(name))[0][0] >= 400


@pytest.mark.rule("5.1-unload")
@pytest.mark.parametrize("name", ["unknown", "one", "broken", "%6fne", "..%2fone"])
def test_what_is_not_loaded_is_unloaded(two: Two, name: str) -> None:
    same(two, unload(name), unload(name))


@pytest.mark.rule("5.1-load")
@pytest.mark.parametrize(
    "body",
    [b"{", b"x", b"\xff", b'{"parameters": }', b'{"parameters": {}} x', b"\0", b'{"a": 1,}', b" "],
)
def test_a_body_that_is_no_json(two: Two, body: bytes) -> None:
    assert same(two, load("one", body))[0][0] == 500


@pytest.mark.rule("5.1-unload")
@pytest.mark.newer("25.07", "server src/http_server.cc, HandleRepositoryControl: EVRequestToJson")
def test_a_body_of_unload_that_is_no_json(two: Two) -> None:
    """Up to then the fault is lost sight of."""
    ask(two.stub, load("one"))
    reply = ask(two.stub, unload("one", b"{"))
    text = "failed to parse the request JSON buffer: Missing a name for object member. at 1"
    assert (reply.status, reply.document) == (500, repr({"error": text}))
    assert [row["name"] for row in index(two.stub, ready=True)] == ["one"]


@pytest.mark.rule("5.1-load", "5.1-unload")
@pytest.mark.parametrize("parameters", [None, 5, "x", [], ["x"], True])
def test_parameters_that_are_no_object(two: Two, parameters: Any) -> None:
    body = {"parameters": parameters}
    assert same(two, load("one", body), unload("one", body))[0][0] == 500


@pytest.mark.rule("5.1-load")
@pytest.mark.parametrize("name", ["config", "file:1/model.py", "other"])
@pytest.mark.parametrize("value", [None, 5, True, [], {}, 1.5])
def test_a_parameter_that_is_no_text(two: Two, name: str, value: Any) -> None:
    assert same(two, load("one", with_parameters(**{name: value})))[0][0] == 500


@pytest.mark.rule("5.1-load")
@pytest.mark.parametrize("name", ["other", "", "Config", "file", "files:x", "unload_dependents"])
def test_a_parameter_that_there_is_not(two: Two, name: str) -> None:
    given = {"config": config(), name: "x"}
    assert same(two, load("one", with_parameters(**given)))[0][0] == 500


@pytest.mark.rule("5.1-load")
def test_the_first_fault_of_several(two: Two) -> None:
    for first, then in (("other", "config"), ("config", "other")):
        body = {"parameters": {first: 5, then: "x", "third": "y"}}
        same(two, load("one", body))


CONFIGS = {
    "another": config(max_batch_size=4),
    "a name": config(name="one"),
    "another name": config(name="two"),
    "no JSON": "{",
    "nothing": "",
    "not an object": "[]",
    "an unknown field": config(nonsense=1),
    "a wrong type": config(max_batch_size="x"),
    "another version": config(version_policy={"specific": {"versions": [7]}}),
    "no backend": config(backend=""),
    "an unknown backend": config(backend="nonsense"),
    "up to a zero": config() + "\0 nonsense",
    "instances": config(instance_group=[{"count": 2, "kind": "KIND_CPU"}]),
}


@pytest.mark.rule("5.1-load-config")
@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS)
def test_another_configuration(two: Two, text: str) -> None:
    same(two, load("one", with_parameters(config=text)), head("GET", "/v2/models/one/config"))


@pytest.mark.rule("5.1-load-config")
def test_the_configuration_is_that_of_the_repository_again(two: Two) -> None:
    settings = head("GET", "/v2/models/one/config")
    given = load("one", with_parameters(config=config(max_batch_size=4)))
    answers = same(
        two, load("one"), settings, given, settings, unload("one"), load("one"), settings
    )
    assert answers[1] == answers[6] != answers[3]


FILES: dict[str, dict[str, str]] = {
    "a model": {"file:1/model.py": packed(add(5))},
    "another version": {"file:7/model.py": packed(add(5))},
    "two versions": {"file:1/model.py": packed(add(5)), "file:2/model.py": packed(add(6))},
    "a slash first": {"file:/1/model.py": packed(add(5))},
    "a way round": {"file:x/../1/model.py": packed(add(5))},
    "a dot": {"file:./1/./model.py": packed(add(5))},
    "outside": {"file:../one/1/model.py": packed(add(5))},
    "far outside": {"file:../../../../etc/passwd": packed("x"), "file:1/model.py": packed(add())},
    "outside and back": {"file:1/../../../x": packed("x"), "file:1/model.py": packed(add(5))},
    "no name": {"file:": packed(add(5)), "file:1/model.py": packed(add())},
    "a folder": {"file:1/": packed(add(5)), "file:1/model.py": packed(add())},
    "a file that is also a folder": {"file:1": packed("x"), "file:1/model.py": packed(add(5))},
    "a broken model": {"file:1/model.py": packed(BROKEN)},
    "an empty model": {"file:1/model.py": ""},
    "a configuration": {"file:config.pbtxt": packed("x"), "file:1/model.py": packed(add())},
    "base64 in lines": {"file:1/model.py": "\n".join(re.findall(".{1,20}", packed(add(5))))},
    "base64 without padding": {"file:1/model.py": packed(add(5) + "#").rstrip("=")},
    "base64 with a digit too many": {"file:1/model.py": packed(add(5)).rstrip("=") + "A"},
    "base64 with a lot else": {"file:1/model.py": "-_é%20" + packed(add(5)) + "=====*"},
    "base64 that goes on": {"file:1/model.py": packed("x = 1\n") + packed(add(5))},
    "no base64": {"file:1/model.py": "é???"},
}  # fmt: skip


@pytest.mark.rule("5.1-load-files")
@pytest.mark.parametrize("files", FILES.values(), ids=FILES)
def test_other_files(two: Two, files: dict[str, str]) -> None:
    def body(engine: Engine, _: Path) -> Any:
        answers = told(engine, load("one", with_parameters(config=config(), **files)))
        tensor = {"name": "IN", "datatype": "FP32", "shape": [1], "data": [1]}
        asked = json.dumps({"inputs": [tensor]}).encode()
        answers.append(ask(engine, post("/v2/models/one/infer", asked)).document)
        return comparable(answers)

    two.same(body)


def comparable(value: Any) -> Any:
    """Without the files of the real server's own in the stack of an exception."""
    return json.loads(re.sub(r"\\n\s+[^\"]*?At:.*?\"", '"', json.dumps(value)))


@pytest.mark.rule("5.1-load-files")
@pytest.mark.parametrize("name", ["one", "new", "a..b"])
def test_files_need_a_configuration_but_no_repository(two: Two, name: str) -> None:
    files = {"file:1/model.py": packed(add(5))}
    same(two, load(name, with_parameters(**files)))
    same(two, load(name, with_parameters(config=config(), **files)))


@pytest.mark.rule("5.1-unload")
@pytest.mark.parametrize("dependents", [True, False, None])
def test_the_steps_of_an_ensemble(two: Two, dependents: bool | None) -> None:
    body = {} if dependents is None else with_parameters(unload_dependents=dependents)
    answers = same(two, load("ensemble"), unload("ensemble", body))
    assert answers[-1] == ([] if dependents else [
        ["other_step", "1", "READY"], ["step", "1", "READY"]
    ])  # fmt: skip


@pytest.mark.rule("5.1-unload")
def test_a_step_that_was_loaded_by_name_stays(two: Two) -> None:
    body = with_parameters(unload_dependents=True)
    answers = same(two, load("step"), load("ensemble"), unload("ensemble", body))
    assert answers[-1] == [["step", "1", "READY"]]


@pytest.mark.rule("5.1-unload")
def test_an_ensemble_goes_with_its_step(two: Two) -> None:
    assert same(two, load("ensemble"), unload("step"))[-1] == [["other_step", "1", "READY"]]


@pytest.mark.rule("5.1-unload")
@pytest.mark.parametrize("value", [None, 1, "true", [], {}])
def test_unload_dependents_that_is_no_bool(two: Two, value: Any) -> None:
    """The ensemble goes all the same, alone: the fault is lost sight of."""
    body = with_parameters(unload_dependents=value)
    answers = same(two, load("ensemble"), unload("ensemble", body))
    assert answers[1][0] == 200


@pytest.mark.rule("5.1-unload")
def test_other_parameters_of_unload_do_not_matter(two: Two) -> None:
    assert same(two, load("one"), unload("one", with_parameters(config=5, x=[])))[1][0] == 200


@pytest.mark.rule("5.1-repository-paths")
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "path", [LOAD.format("one"), UNLOAD.format("one"), "/v2/repository/index",
             "/v2/repository/name/models/one/load"],
)  # fmt: skip
def test_other_methods(two: Two, method: str, path: str) -> None:
    assert same(two, head(method, path))[0][0] == 405


@pytest.mark.rule("5.1-repository-paths")
@pytest.mark.parametrize(
    "path",
    ["/v2/repository/name/models/one/load", "/v2/repository/name/models/one/unload",
     "/v2/repository/models/models/one/load", "/v2/repository/name/models/unknown/load"],
)  # fmt: skip
def test_a_repository_cannot_be_named(two: Two, path: str) -> None:
    for body in (b"", b"{"):
        assert same(two, post(path, body))[0][0] == 501


@pytest.mark.rule("5.1-repository-paths")
@pytest.mark.parametrize(
    "path",
    ["/v2/repository/models/one", "/v2/repository/models/one/reload", "/v2/repository/models//load",
     "/v2/repository/models/one/load/", "/v2/repository/models/a/b/load", "/v2/repository",
     "/v2/repository//index", "/v2/repository/models/one/versions/1/load", "/v2/models/one/load",
     "/v2/repository/models/../one/load"],
)  # fmt: skip
def test_what_is_not_there(two: Two, path: str) -> None:
    assert same(two, post(path, b""))[0][0] == 404


@pytest.mark.rule("5.1-index")
@pytest.mark.parametrize(
    "body", [*ANYTHING, b'{"ready": true}', b'{"ready": false}', b'{"Ready": true}', b"{", b"x"]
)
def test_the_index(two: Two, body: bytes) -> None:
    if body == b"":
        same(two, load("two"), unload("two"), load("broken"))
    same(two, load("one"))

    def told_of(engine: Engine, _: Path) -> Any:
        reply = ask(engine, post("/v2/repository/index", body))
        # What the real server still unloads counts as unloaded.
        text = reply.document.replace("'UNLOADING'", "'UNAVAILABLE', 'reason': 'unloaded'")
        return reply.status, reply.headers, text

    two.same(told_of)


@pytest.mark.rule("5.1-index")
@pytest.mark.parametrize("name", ["", "name", "models", "%20"])
def test_the_index_of_any_repository(two: Two, name: str) -> None:
    path = f"/v2/repository/{name}/index" if name else "/v2/repository/index"
    assert same(two, load("one"), post(path, b'{"ready": true}'))[1][0] == 200


@pytest.mark.rule("5.1-index")
@pytest.mark.newer("26.05", "server src/http_server.cc, HandleRepositoryIndex: ready_json.IsBool()")
@pytest.mark.parametrize("value", [None, 1, "true", [], {}])
def test_ready_that_is_no_bool(two: Two, value: Any) -> None:
    reply = ask(two.stub, post("/v2/repository/index", encoded({"ready": value})))
    text = repr({"error": "Invalid value for 'ready': expected a boolean"})
    assert reply == Reply(400, {"content-type": "application/json"}, text, b"")


@pytest.mark.rule("5.1-control-mode")
@pytest.mark.parametrize(
    ("path", "body"),
    [(LOAD, b""), (LOAD, b"{"), (LOAD, b'{"parameters": {"x": "y"}}'), (UNLOAD, b""),
     (UNLOAD, b'{"parameters": {"x": "y"}}')],
)  # fmt: skip
@pytest.mark.parametrize("name", ["add", "unknown"])
def test_where_models_are_not_loaded_on_request(
    both_urls: tuple[str, str], name: str, path: str, body: bytes
) -> None:
    reply = one(both_urls, post(path.format(name), body))
    assert reply.status >= 500
