"""What a server that did not start says of the reason. The logs are those of tritonserver 2.51."""

import pytest

from triton_stub.engines.server_log import reasons

NOISE = """\
W1123 02:46:16.479893 4901 pinned_memory_manager.cc:273] "Unable to allocate pinned system memory"
E1123 02:46:16.480024 4901 server.cc:241] "CudaDriverHelper has not been initialized."
Error: Failed to initialize NVML
W1123 02:46:18.077660 4901 metrics.cc:798] "DCGM unable to start: DCGM initialization error"
"""


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (
            r"""
E1123 02:46:18.072849 4901 backend_model.cc:692] "ERROR: Failed to create instance: ValueError: \"a\"\n"
E1123 02:46:18.076744 4901 model_lifecycle.cc:642] "failed to load 'm' version 1: Internal: ValueError: \"a\"\nb é\n\nAt:\n  /r/m/1/model.py(3): initialize\n"
error: creating server: Internal - failed to load all models
""",  # noqa: E501
            [
                "failed to load 'm' version 1: Internal: ValueError: \"a\"\nb é\n\n"
                "At:\n  /r/m/1/model.py(3): initialize"
            ],
        ),
        (
            """
[libprotobuf ERROR /tmp/text_format.cc:337] Error parsing text-format inference.ModelConfig: 1:17: Expected integer, got: "x"
E1123 02:46:00.532257 45 model_repository_manager.cc:1460] "Poll failed for model directory 'm': failed to read text proto from r/m/config.pbtxt"
error: creating server: Internal - failed to load all models
""",  # noqa: E501
            [
                'Error parsing text-format inference.ModelConfig: 1:17: Expected integer, got: "x"',
                "Poll failed for model directory 'm': "
                "failed to read text proto from r/m/config.pbtxt",
            ],
        ),
        (
            "\nerror: creating server: Internal - failed to stat file /none\n",
            ["Internal - failed to stat file /none"],
        ),
        (
            "/env/bin/tritonserver: unrecognized option '--bogus'\nUsage: tritonserver [options]\n",
            ["unrecognized option '--bogus'"],
        ),
        ("", []),
    ],
)
def test_reasons_are_the_servers_own_words(log, expected):
    assert list(reasons(NOISE + log)) == expected
