"""The options of ``triton-stub serve``, and the server that they ask for."""

import pytest
from cli_process import parsed, refused
from model_files import write_model

from triton_stub.cli import options, summary
from triton_stub.server import LogFormat, ModelControlMode


def server(*arguments):
    return options.server_of(parsed(*arguments))


def test_defaults():
    given = parsed()
    assert (given.http_port, given.grpc_port, given.metrics_port) == (8000, 8001, 8002)
    assert {given.http_address, given.grpc_address, given.metrics_address} == {"127.0.0.1"}
    assert options.grpc_options_of(given) == {}
    chosen = server().options
    assert not chosen.exit_on_error
    assert chosen.strict_readiness
    assert chosen.control_mode is ModelControlMode.NONE


def test_metrics_are_where_http_is():
    assert parsed("--http-address=0.0.0.0").metrics_address == "0.0.0.0"
    given = parsed("--http-address=0.0.0.0", "--metrics-address=127.0.0.1")
    assert given.metrics_address == "127.0.0.1"


def test_everything():
    made = server(
        *("more", "--model-repository=third", "--model-store=fourth", "--id=me"),
        *("--model-control-mode=EXPLICIT", "--load-model=a", "--load-model=b"),
        *("--exit-on-error=on", "--strict-readiness=0", "--disable-auto-complete-config"),
        *("--load-timeout-secs=1", "--response-timeout-secs=2", "--exit-timeout-secs=3.5"),
        *("--isolation=process", "--cache-config=local,size=1", "--cache-config=local,x=y"),
        *("--rate-limit=Execution_Count", "--backend-directory=backends"),
        *("--trace-config=rate=7", "--trace-config=triton,file=f", "--trace-config=level=max"),
        *("--trace-config=level=TENSORS", "--allow-metrics=false", "--allow-cpu-metrics=false"),
        *("--metrics-config=summary_latencies=true", "--metrics-config=counter_latencies=false"),
        *("--log-verbose=true", "--log-info=false", "--log-format=ISO8601", "--log-file=log"),
        "--allow-client-shm=false",
    )
    chosen = made.options
    assert [str(path) for path in chosen.repositories()] == ["models", "more", "third", "fourth"]
    assert (chosen.server_id, chosen.startup_models) == ("me", ["a", "b"])
    assert chosen.control_mode is ModelControlMode.EXPLICIT
    assert (chosen.exit_on_error, chosen.strict_readiness) == (True, False)
    assert chosen.strict_model_config
    limits = chosen.load_timeout, chosen.response_timeout, chosen.exit_timeout
    assert limits == (1, 2, 3.5)
    assert chosen.isolation == "process"
    assert chosen.cache_config == {"local": {"size": "1", "x": "y"}}
    assert chosen.rate_limited
    assert chosen.backend_directory == "backends"
    assert chosen.trace_config == {"rate": 7, "file": "f", "level": ["TIMESTAMPS", "TENSORS"]}
    assert (chosen.metrics, chosen.cpu_metrics) == (False, False)
    assert chosen.metrics_configuration == {
        "": {"summary_latencies": "true", "counter_latencies": "false"}
    }
    assert chosen.log_format is LogFormat.ISO8601
    assert not chosen.allow_client_shm
    settings = made.log().settings
    assert (settings.info, settings.warning, settings.error) == (False, True, True)
    assert (settings.verbose_level, settings.file) == (1, "log")


def test_how_grpc_keeps_its_connections():
    given = parsed(
        *("--grpc-keepalive-time=1", "--grpc-keepalive-permit-without-calls=true"),
        "--grpc-infer-response-compression-level=HIGH",
    )
    assert options.grpc_options_of(given) == {
        "keepalive_time": 1,
        "keepalive_permit_without_calls": True,
        "infer_response_compression_level": "high",
    }


@pytest.mark.parametrize(
    ("arguments", "config", "note"),
    [
        (["--trace-config=level=off", "--trace-config=level=min"], {"level": "OFF"}, None),
        (["--trace-config=mode=Triton"], {"mode": "triton"}, None),
        (
            ["--trace-config=triton,rate=1"],
            {},
            "--trace-config triton,rate=1 has no effect on traces",
        ),
        (["--trace-config=file=f"], {}, "--trace-config file=f has no effect on traces"),
        (
            ["--trace-config=opentelemetry,url=x"],
            {},
            "--trace-config opentelemetry,url=x has no effect on traces",
        ),
        (
            ["--trace-rate=1", "--trace-count=2", "--trace-config=rate=3", "--trace-file=f"],
            {"rate": 3, "count": 2, "file": "f"},
            None,
        ),
    ],
)
def test_settings_of_traces(arguments, config, note):
    given = parsed(*arguments)
    assert given.traces == config
    assert [text for text in given.notes if "has no effect" in text] == ([note] if note else [])


@pytest.mark.parametrize(
    ("flag", "replacement"),
    [
        ("--strict-model-config=true", "--disable-auto-complete-config"),
        ("--response-cache-byte-size=7", "--cache-config=local,size=7"),
        ("--trace-rate=7", "--trace-config rate=7"),
        ("--trace-file=f", "--trace-config triton,file=f"),
    ],
)
def test_deprecated_flags_do_what_they_did_and_say_so(flag, replacement):
    given = parsed(flag)
    options.server_of(given)
    name = flag.partition("=")[0]
    assert given.notes == [f"{name} is deprecated; use {replacement}"]


def test_the_deprecated_size_of_the_cache():
    assert server("--response-cache-byte-size=7").options.cache_config == {"local": {"size": "7"}}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["models", "--trace-config=mode=opentelemetry"], "mode=opentelemetry is refused"),
        (["models", "--load-timeout-secs=-1"], '"--load-timeout-secs".\nexpected a number of sec'),
        (["models", "--metrics-port=-1"], '--metrics-port".\nexpected 1 to 65535, or 0 for a fr'),
        ([], "no model repository given; for example: triton-stub serve models"),
    ],
)
def test_what_is_refused(arguments, told, capsys):
    assert told in refused(capsys, "serve", *arguments)


def test_the_tables_of_a_server(tmp_path):
    write_model(tmp_path, "a")
    (tmp_path / "b").mkdir()
    made = options.server_of(
        parsed("--model-control-mode=explicit", "--load-model=a", "--load-model=b")
    )
    made.options.model_repository = [tmp_path]
    with made:
        models, chosen = summary.models(made), summary.options(made)
    lines = models.splitlines()
    assert [cell.strip() for cell in lines[3].split("|")[1:4]] == ["a", "1", "READY"]
    assert lines[4].startswith("| b     | -       | Not loaded: ")
    assert max(map(len, lines)) < 130
    rows = dict(
        [cell.strip() for cell in line.split("|")[1:3]] for line in chosen.splitlines()[3:-1]
    )
    assert rows.pop("server_extensions").split()[0] == "classification"
    assert rows == {
        "server_id": "triton",
        "server_version": "2.51.0",
        "model_repository_path[0]": str(tmp_path),
        "model_control_mode": "MODE_EXPLICIT",
        "startup_models_0": "a",
        "startup_models_1": "b",
        "strict_model_config": "0",
        "rate_limit": "OFF",
        "strict_readiness": "1",
        "exit_timeout": "30",
        "cache_enabled": "0",
    }
