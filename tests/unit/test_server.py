"""``Server`` and ``Model``: the face that everybody else uses."""

import io
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from gates import GATES
from model_files import BATCHED, BROKEN, CONFIG, DOUBLE, GATED, write_model

from triton_stub import (
    InferenceError,
    InferenceRequest,
    LoadError,
    Result,
    Server,
    ServerError,
    StatusCode,
)
from triton_stub.core.backend_model import BackendModel

ONE = np.array([[1]], np.float32)
TIMEOUT = 60


@pytest.fixture
def repository(tmp_path):
    write_model(tmp_path, config=BATCHED)
    return tmp_path


@pytest.fixture
def server(repository):
    with Server(repository) as running:
        yield running


@pytest.fixture
def gated(tmp_path):
    """A repository with one model that waits for its gate, the model's name, and the gate."""
    gate = GATES[tmp_path.name]
    write_model(tmp_path, tmp_path.name, GATED, BATCHED)
    yield tmp_path, tmp_path.name, gate
    gate.opened.set()


def refusal(call, *args, **kwargs):
    with pytest.raises(ServerError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def running(name="model"):
    return [thread for thread in threading.enumerate() if thread.name == f"{name}_0"]


# The server's life


def test_a_server_lives_from_start_to_stop(repository):
    server = Server(repository)
    assert refusal(server.live) == "Server not started"
    assert server.start() is server
    assert server.live()
    assert server.ready()
    server.stop()
    assert refusal(server.live) == refusal(server.ready) == "Server not started"
    assert running() == []


def test_stopping_twice_or_before_the_start_is_no_harm(repository):
    server = Server(repository)
    server.stop()
    server.start()
    server.stop()
    server.stop()


def test_starting_twice_is_refused_and_harms_nobody(server):
    model = server.find("model")
    assert refusal(server.start) == "Server already started"
    assert server.find("model") is model
    assert len(running()) == 1


def test_a_server_may_be_started_again(repository):
    server = Server(repository)
    for _ in range(2):
        with server:
            assert server.model("model")(IN=ONE)["OUT"].tolist() == [[2]]
            assert server.statistics()["model_stats"][0]["inference_count"] == 1


def test_a_configuration_that_is_no_text_is_refused(repository):
    with (
        Server(repository, model_control_mode="explicit") as server,
        pytest.raises(TypeError, match="'config': expected a str"),
    ):
        server.load("model", {"config": {}})


@pytest.mark.parametrize("call", ["load", "unload", "find", "statistics"])
def test_a_server_that_is_not_running_says_so(repository, call):
    method = getattr(Server(repository, model_control_mode="explicit"), call)
    assert refusal(method, "model") == "Server not started"


def test_a_port_needs_a_running_server(repository):
    assert refusal(Server(repository).serve, http_port=0) == "Server not started"


def test_an_exception_in_the_block_stops_the_server(repository):
    with pytest.raises(ZeroDivisionError), Server(repository) as server:
        raise ZeroDivisionError
    assert refusal(server.live) == "Server not started"
    assert running() == []


def test_requests_in_the_queue_are_answered_before_the_end(gated):
    repository, name, gate = gated
    server = Server(repository).start()
    first = server.model(name).infer(inputs={"IN": ONE})
    gate.wait_for_somebody()
    second = server.model(name).infer(inputs={"IN": 2 * ONE})
    with ThreadPoolExecutor() as pool:
        stopped = pool.submit(server.stop)
        gate.opened.set()
        stopped.result(TIMEOUT)
    for answer, value in ((first, 2), (second, 4)):
        assert np.from_dlpack(next(answer).outputs["OUT"]).tolist() == [[value]]


def test_a_model_that_blocks_is_given_up(gated):
    repository, name, gate = gated
    server = Server(repository, exit_timeout=0.01).start()
    answer = server.model(name).infer(inputs={"IN": ONE})
    gate.wait_for_somebody()
    server.stop()
    with pytest.raises(InferenceError, match="did not stop within"):
        next(answer)
    gate.opened.set()
    for thread in running(name):
        thread.join(TIMEOUT)


def test_ports_close_with_the_server(repository):
    with Server(repository) as server:
        endpoint = server.serve(http_port=0)
        client = server.client()
        assert client.is_server_live()
        client.close()
    threads = [thread.name for thread in threading.enumerate()]
    assert not any(endpoint.http_url in name for name in threads)


def test_clients_share_a_port(server):
    before = threading.active_count()
    for _ in range(3):
        server.client().close()
    assert threading.active_count() <= before + 1


# What it loads


@pytest.mark.parametrize(
    "give", [str, lambda path: path, lambda path: [path], lambda path: (str(path),)]
)
def test_a_repository_is_given_in_many_ways(repository, give):
    with Server(give(repository)) as server:
        assert server.model("model").ready()


def test_several_repositories(tmp_path):
    write_model(tmp_path / "one", "a")
    write_model(tmp_path / "two", "b")
    with Server([tmp_path / "one", tmp_path / "two"]) as server:
        assert [name for name, _ in server.models()] == ["a", "b"]


def test_an_unknown_control_mode(repository):
    with pytest.raises(TypeError, match="one of 'none', 'poll', 'explicit'; got 'always'"):
        Server(repository, model_control_mode="always").start()


def test_startup_models_are_for_explicit_control(repository):
    write_model(repository, "other")
    with Server(repository, startup_models=["model"]) as server:
        assert server.model("other").ready()


def test_explicit_control(tmp_path):
    for name in ("a", "b"):
        write_model(tmp_path, name)
    with Server(tmp_path, model_control_mode="explicit", startup_models=["a", "a"]) as server:
        assert server.model("a").ready()
        assert not server.model("b").ready()
        assert server.load("b").ready()
        server.unload("a", wait_until_unloaded=True)
        assert not server.model("a").ready()
        assert server.ready()
        assert running("a") == []


@pytest.mark.parametrize("call", ["load", "unload"])
def test_without_explicit_control_nothing_is_loaded_by_hand(server, call):
    text = refusal(getattr(server, call), "model")
    assert text == "explicit model load / unload is not allowed if polling is enabled"


def test_a_broken_model_keeps_the_server_from_starting(repository):
    write_model(repository, "broken", BROKEN)
    write_model(repository, "garbled", config="nonsense: 1")
    server = Server(repository)
    with pytest.raises(LoadError) as caught:
        server.start()
    assert str(caught.value).startswith("model 'broken': load failed for model 'broken': ")
    assert f"\nmodel 'garbled': {repository}/garbled/config.pbtxt:1:1" in str(caught.value)
    assert isinstance(caught.value.__cause__.__cause__, OSError)
    assert refusal(server.live) == "Server not started"
    assert running() == []


def test_broken_models_may_be_left_out(repository):
    write_model(repository, "broken", BROKEN)
    with Server(repository, exit_on_error=False) as server:
        assert list(server.load_errors) == ["broken"]
        assert server.model("model")(IN=ONE)["OUT"].tolist() == [[2]]
        assert not server.model("broken").ready()
        assert not server.ready()
        assert {key: state.state for key, state in server.models().items()} == {
            ("broken", 1): "UNAVAILABLE",
            ("model", 1): "READY",
        }


def test_readiness_that_is_not_strict(repository):
    write_model(repository, "broken", BROKEN)
    with Server(repository, exit_on_error=False, strict_readiness=False) as server:
        assert server.ready()


def test_a_failed_load_is_remembered_until_it_succeeds(repository):
    directory = write_model(repository, "other", BROKEN)
    with Server(repository, model_control_mode="explicit") as server:
        with pytest.raises(LoadError, match="no weights"):
            server.load("other")
        assert list(server.load_errors) == ["other"]
        assert not server.ready()
        (directory / "1" / "model.py").write_text(DOUBLE)
        server.load("other")
        assert server.load_errors == {}
        assert server.ready()


def test_an_interrupt_while_models_are_loaded(repository, monkeypatch):
    write_model(repository, "z")
    server = Server(repository)
    load = BackendModel.load

    def interrupted(model):
        if model.name == "z":
            raise KeyboardInterrupt
        load(model)

    monkeypatch.setattr(BackendModel, "load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        server.start()
    assert refusal(server.live) == "Server not started"
    assert running() == []


# What it says of itself


def test_server_metadata(repository):
    with Server(repository, server_id="mine") as server:
        metadata = server.metadata()
    assert metadata["name"] == "mine"
    assert "binary_tensor_data" in metadata["extensions"]


def test_log(repository):
    echo = io.StringIO()
    with Server(repository, echo_log=echo) as server:
        pass
    assert "successfully loaded 'model'" in str(server.log())
    assert echo.getvalue().splitlines() == str(server.log()).splitlines()


def test_statistics_of_all_of_one_and_of_a_version(tmp_path):
    config = f"{CONFIG} version_policy {{ all {{ }} }}"
    for version in (1, 3):
        write_model(tmp_path, "a", config=config, version=version)
    write_model(tmp_path, "b")

    def listed(statistics):
        return [(row["name"], row["version"]) for row in statistics["model_stats"]]

    with Server(tmp_path) as server:
        assert listed(server.statistics()) == [("a", "1"), ("a", "3"), ("b", "1")]
        assert listed(server.statistics("a")) == [("a", "1"), ("a", "3")]
        assert listed(server.model("a", 1).statistics()) == [("a", "1")]
        assert refusal(server.statistics, "c") == "requested model 'c' is not available"
        assert refusal(server.statistics, "a", 2) == (
            "requested model version is not available for model 'a'"
        )


def test_statistics_outlive_the_directory(repository, server):
    (repository / "model").rename(repository.parent / "moved")
    assert [row["name"] for row in server.statistics()["model_stats"]] == ["model"]


# A model's handle


def test_a_handle_looks_nothing_up_before_it_is_used(server):
    handle = server.model("nobody")
    assert repr(handle) == "{'name': 'nobody', 'version': -1, 'state': None}"
    assert not handle.ready()
    for call in (handle.metadata, handle.config, handle):
        assert refusal(call) == "Request for unknown model: 'nobody' is not found"


def test_versions(tmp_path):
    config = f"{CONFIG} version_policy {{ all {{ }} }}"
    for version in (2, 10):
        write_model(tmp_path, config=config, version=version)
    with Server(tmp_path) as server:
        assert server.model("model")(IN=ONE[0]).model_version == "10"
        assert server.model("model", 2)(IN=ONE[0]).model_version == "2"
        assert server.model("model").metadata()["versions"] == ["2", "10"]
        assert server.model("model", 2).metadata()["versions"] == ["2"]
        assert not server.model("model", 3).ready()
        assert "version 3 is not found" in refusal(server.model("model", 3), IN=ONE[0])


def test_config_is_the_servers_json(server):
    config = server.model("model").config()
    assert config["name"] == "model"
    assert config["dynamic_batching"]["preferred_batch_size"] == [8]


def test_one_request(server):
    result = server.model("model")(
        IN=3.5 * ONE, request_id="x7", outputs=["OUT"], parameters={"a": 1}
    )
    assert isinstance(result, Result)
    assert result["OUT"].tolist() == [[7]]
    assert result.request_id == "x7"


def test_inputs_by_mapping_for_names_that_are_no_keywords(tmp_path):
    config = CONFIG.replace('"IN"', '"outputs"')
    write_model(tmp_path, code=DOUBLE.replace('"IN"', '"outputs"'), config=config)
    with Server(tmp_path) as server:
        assert server.model("model")({"outputs": ONE[0]})["OUT"].tolist() == [2]


def test_an_error_has_the_models_exception_as_its_cause(server):
    with pytest.raises(InferenceError, match="ValueError: minus thirteen") as caught:
        server.model("model")(IN=-13 * ONE)
    assert caught.value.code is StatusCode.INTERNAL
    assert isinstance(caught.value.__cause__, ValueError)


def test_infer_sends_at_once_and_iterates_over_responses(server):
    answers = server.model("model").infer(inputs={"IN": ONE}, request_id="x7")
    (response,) = answers
    assert response.request_id == "x7"
    assert np.from_dlpack(response.outputs["OUT"]).tolist() == [[2]]


def test_infer_takes_a_request_of_ones_own(server):
    request = InferenceRequest(server.model("model"), inputs={"IN": ONE})
    (response,) = server.model("model").infer(request)
    assert response.result()["OUT"].tolist() == [[2]]


def test_infer_has_its_own_copy_of_the_arrays(gated):
    repository, name, gate = gated
    with Server(repository) as server:
        array = ONE.copy()
        answer = server.model(name).infer(inputs={"IN": array})
        array[:] = 9
        gate.opened.set()
        assert next(answer).result()["OUT"].tolist() == [[2]]


def test_infer_raises_or_returns_an_error(server):
    model = server.model("model")
    with pytest.raises(InferenceError, match="minus fourteen"):
        next(model.infer(inputs={"IN": -14 * ONE}))
    (response,) = model.infer(inputs={"IN": -14 * ONE}, raise_on_error=False)
    assert response.error.message == "minus fourteen"


def test_infer_refuses_at_once(server):
    with pytest.raises(InferenceError, match="unexpected inference input"):
        server.model("model").infer(inputs={"NO": ONE})


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda model: model(ONE), 'such as {"IN": array}; got ndarray'),
        (lambda model: model.send([ONE]), 'such as {"IN": array}; got list'),
        (lambda model: model.infer(inputs=[ONE]), 'such as {"IN": array}; got list'),
        (lambda model: model.execute({"IN": ONE}), 'such as [{"IN": array}]; got one mapping'),
        (lambda model: model.execute([ONE]), 'such as {"IN": array}; got ndarray'),
    ],
)
def test_inputs_that_have_no_names(server, call, told):
    with pytest.raises(TypeError, match=re.escape(told)):
        call(server.model("model"))


def test_who_asks_a_stopped_server_is_told_how_to_start_it(repository):
    with Server(repository) as server:
        model = server.model("model")
    with pytest.raises(InferenceError, match="Server not started") as caught:
        model(IN=ONE)
    assert caught.value.__notes__ == [
        "it has not been started, or is stopped: use `with Server(...) as server`, or call start()"
    ]


def test_execute_is_one_call(server):
    model = server.model("model")
    results = model.execute([{"IN": ONE}, {"IN": np.ones((3, 1), np.float32)}])
    assert [result["OUT"].shape for result in results] == [(1, 1), (3, 1)]
    (stats,) = model.statistics()["model_stats"]
    assert (stats["execution_count"], stats["inference_count"]) == (1, 4)


def test_execute_gives_each_request_its_own_answer(server):
    first, second = server.model("model").execute([{"IN": ONE}, {"IN": -14 * ONE}])
    assert first["OUT"].tolist() == [[2]]
    assert isinstance(second, InferenceError)
    assert str(second) == "minus fourteen"


def test_execute_of_nothing(server):
    assert server.model("model").execute([]) == []


def test_execute_never_does_what_the_server_would_not(tmp_path):
    write_model(tmp_path)
    with Server(tmp_path) as server:
        model = server.model("model")
        assert len(model.execute([{"IN": ONE[0]}])) == 1
        text = refusal(model.execute, [{"IN": ONE[0]}] * 2)
    assert text.startswith("the server would never execute these 2 requests in one call: ")


def test_many_threads_at_once(server):
    model = server.model("model")
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda i: model(IN=i * ONE)["OUT"].item(), range(100)))
    assert values == [2.0 * i for i in range(100)]
    (stats,) = model.statistics()["model_stats"]
    assert stats["inference_count"] == 100
