"""Signals to ``triton-stub serve``: who is still answered, and how it ends."""

import os
import queue
import signal
import subprocess
import sys
import urllib.error
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cli_process import SLOW, SLOW_CONFIG, SLOW_TO_LOAD, TIMEOUT, infer, serve
from model_files import write_model
from patience import wait_until
from tritonclient.grpc import InferenceServerClient, InferInput

from triton_stub.cli.signals import interruptible

__all__ = ["serve"]  # a fixture


def wait_for(path):
    wait_until(path.exists)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(tmp_path, serve, number):
    write_model(tmp_path)
    process = serve(tmp_path)
    assert infer(process.url()) == [2]
    code, out, log = process.end(number)
    assert code == 0
    assert "| model | 1       | READY  |" in out
    assert "stopping: requests in flight are answered first" in out
    assert "successfully unloaded 'model' version 1" in log


def test_requests_in_flight_are_answered(tmp_path, serve):
    version = write_model(tmp_path, code=SLOW, config=SLOW_CONFIG) / "1"
    process = serve(tmp_path)
    url = process.url()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(infer, url)
        wait_for(version / "begun")
        process.process.send_signal(signal.SIGTERM)
        assert "stopping" in process.process.stdout.readline()
        (version / "go").touch()
        assert answer.result(TIMEOUT) == [1]
    assert process.end()[0] == 0


def test_a_model_that_blocks_is_given_up(tmp_path, serve):
    version = write_model(tmp_path, code=SLOW, config=SLOW_CONFIG) / "1"
    process = serve(tmp_path, "--exit-timeout-secs=0.1")
    url = process.url()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(infer, url)
        wait_for(version / "begun")
        code, _, log = process.end(signal.SIGINT)
        with pytest.raises(urllib.error.HTTPError, match="503") as caught:
            answer.result(TIMEOUT)
    caught.value.close()
    assert code == 0
    assert "did not stop within 0.1 s" in log


def test_a_second_signal_ends_it_at_once(tmp_path, serve):
    version = write_model(tmp_path, code=SLOW, config=SLOW_CONFIG) / "1"
    process = serve(tmp_path)
    url = process.url()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(infer, url)
        wait_for(version / "begun")
        process.process.send_signal(signal.SIGINT)
        assert "stopping" in process.process.stdout.readline()
        assert process.end(signal.SIGINT)[0] == -signal.SIGINT
        error = answer.exception(TIMEOUT)
        assert isinstance(error, OSError)
        assert not isinstance(error, urllib.error.HTTPError)  # no answer, not even a refusal


def test_a_signal_while_models_are_loaded(tmp_path, serve):
    version = write_model(tmp_path, code=SLOW_TO_LOAD) / "1"
    process = serve(tmp_path)
    wait_for(version / "begun")
    code, _, log = process.end(signal.SIGINT)
    assert code == 1
    assert "triton-stub: stopped while the models were loading" in log
    assert "Traceback" not in log


# A response at once, and another when the test makes a file.
STREAM = SLOW.replace(
    "        wait()\n        return [pb_utils.InferenceResponse(r.inputs()) for r in requests]\n",
    "",
).replace(
    "def execute(self, requests):\n",
    """def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            sender.send(pb_utils.InferenceResponse(request.inputs()))
            wait()
            sender.send(pb_utils.InferenceResponse(request.inputs()))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
""",
)


def grpc_input():
    return [InferInput("IN", [1], "FP32").set_data_from_numpy(np.ones(1, np.float32))]


def test_grpc_requests_in_flight_are_answered(tmp_path, serve):
    version = write_model(tmp_path, code=SLOW, config=SLOW_CONFIG) / "1"
    process = serve(tmp_path)
    process.wait()
    with InferenceServerClient(process.urls["grpc"]) as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.infer, "model", grpc_input())
        wait_for(version / "begun")
        process.process.send_signal(signal.SIGTERM)
        assert "stopping" in process.process.stdout.readline()
        (version / "go").touch()
        assert answer.result(TIMEOUT).as_numpy("IN").tolist() == [1]
    assert process.end()[0] == 0


def test_streams_in_flight_get_all_their_responses(tmp_path, serve):
    config = f"{SLOW_CONFIG}\nmodel_transaction_policy {{ decoupled: true }}"
    version = write_model(tmp_path, code=STREAM, config=config) / "1"
    process = serve(tmp_path)
    process.wait()
    arrived = queue.SimpleQueue()
    with InferenceServerClient(process.urls["grpc"]) as client:
        client.start_stream(lambda result, error: arrived.put((result, error)))
        client.async_stream_infer("model", grpc_input())
        wait_for(version / "begun")
        process.process.send_signal(signal.SIGTERM)
        assert "stopping" in process.process.stdout.readline()
        (version / "go").touch()
        for _ in range(2):
            result, error = arrived.get(timeout=TIMEOUT)
            assert error is None
            assert result.as_numpy("IN").tolist() == [1]
        client.stop_stream()
    assert process.end()[0] == 0


def test_a_stream_without_requests_does_not_keep_it_up(tmp_path, serve):
    write_model(tmp_path)
    process = serve(tmp_path)
    process.wait()
    with InferenceServerClient(process.urls["grpc"]) as client:
        client.start_stream(lambda result, error: None)
        assert client.is_server_live()
        assert process.end(signal.SIGTERM)[0] == 0


def test_signals_are_as_before_after_a_command():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


# Answers when nobody needs the answer any more; begins when the command waits for it.
PATIENT = (
    "import sys\nimport threading\n"
    + SLOW.replace("        wait()\n", "        self.wait(requests)\n")
    + """
    def wait(self, requests):
        while not self.awaited():
            time.sleep(0.01)
        (FOLDER / "begun").touch()
        while not all(request.is_cancelled() for request in requests):
            time.sleep(0.01)
        (FOLDER / "cancelled").touch()

    def awaited(self):
        frame = sys._current_frames()[threading.main_thread().ident]
        while frame is not None and frame.f_code.co_name != "__next__":
            frame = frame.f_back
        return frame is not None
"""
)


@pytest.mark.parametrize("command", [["infer", "model", "--model-repository"], ["check"]])
def test_a_request_is_cancelled_when_nobody_waits_any_more(tmp_path, command):
    version = write_model(tmp_path, code=PATIENT, config=SLOW_CONFIG) / "1"
    with subprocess.Popen(
        [sys.executable, "-m", "triton_stub.cli", *command, str(tmp_path)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        try:
            wait_for(version / "begun")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=TIMEOUT)
        finally:
            process.kill()
    assert (process.returncode, err) == (1, "triton-stub: stopped\n")
    assert (version / "cancelled").exists()
