"""The pytest plugin: fixture ``triton``, its options and its marker.

It is loaded in every test run of an environment that has triton_stub, so importing it costs
nothing: numpy, protobuf and the engines are imported when a test asks for the fixture.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from triton_stub.testing.pool import SKIPPED, EnginePool
from triton_stub.testing.spec import (
    MARKER,
    EngineSpec,
    container_options,
    engine_name,
    grpc_url,
    isolation,
    read_spec,
    timeout,
)
from triton_stub.testing.tracebacks import hide_own_frames

if TYPE_CHECKING:
    from collections.abc import Generator

    from triton_stub.engines.engine import Engine

_POOL = pytest.StashKey[EnginePool]()
_LOG_START = pytest.StashKey[int]()
_LOG_LINES = 40


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare ``--triton-…`` and the ini options."""
    group = parser.getgroup("triton", "Triton models (fixture `triton`)")
    group.addoption(
        "--triton-engine",
        metavar="stub|native|container|URL",
        help="what serves the models: the stub in this process (default); the real tritonserver, "
        "from its environment on this machine or in a container; or a server that is there "
        "already, such as http://localhost:8000",
    )
    group.addoption(
        "--triton-repository",
        metavar="PATH",
        help="folder of models (default: the ini option, else model_repository in the rootdir)",
    )
    group.addoption(
        "--triton-require",
        action="store_true",
        help="fail where a test would be skipped because there is no real tritonserver",
    )
    group.addoption(
        "--triton-image",
        metavar="NAME",
        help="image for --triton-engine=container (default: the variable TRITON_STUB_IMAGE)",
    )
    group.addoption(
        "--triton-gpus",
        metavar="all|NUMBER|device=0,1",
        help="GPUs for the container, as for docker run --gpus (default: none)",
    )
    group.addoption(
        "--triton-shm-size",
        metavar="SIZE",
        help="shared memory of the container, as for docker run --shm-size (default: 1g)",
    )
    group.addoption(
        "--triton-grpc-url",
        metavar="HOST:PORT",
        help="where the server of --triton-engine=URL has gRPC, for triton.stream and its clients",
    )
    group.addoption(
        "--triton-isolation",
        metavar="thread|process",
        help="where the stub runs instances of models: in threads of this process (default), for "
        "breakpoint() and tracebacks, or in a process each, as the real server",
    )
    group.addoption(
        "--triton-timeout",
        metavar="SECONDS",
        type=float,
        help="how long a model may take to load, to respond, and to finish in the end (default: "
        "600, 300 and 30)",
    )
    parser.addini("triton_engine", "as --triton-engine", default="stub")
    parser.addini("triton_isolation", "as --triton-isolation", default="thread")
    parser.addini("triton_repository", "as --triton-repository, relative to the rootdir")
    parser.addini("triton_models", "models to load (default: all)", type="args")
    parser.addini("triton_timeout", "as --triton-timeout")
    for name in ("image", "gpus", "shm-size", "grpc-url"):
        parser.addini(f"triton_{name.replace('-', '_')}", f"as --triton-{name}")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; refuse an engine and an isolation that there is not."""
    config.addinivalue_line("markers", MARKER)
    engine_name(config)
    isolation(config)
    pool = EnginePool(
        config.rootpath,
        require=config.getoption("triton_require"),
        timeout=timeout(config),
        container=container_options(config),
        grpc_url=grpc_url(config),
    )
    config.stash[_POOL] = pool
    # For a session that never finishes.
    config.add_cleanup(pool.stop)


@pytest.fixture(scope="session")
def triton(request: pytest.FixtureRequest) -> Engine:
    """A Triton that serves the model repository: ``triton.infer("resnet50", image=images)``.

    It has the methods of ``triton_stub.engines.engine.Engine``, and is shared by all tests of the
    session that want the same repository and models.
    """
    return request.config.stash[_POOL].get(getattr(request, "param", _default(request.config)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tell the fixture what this test wants; pytest keeps it for the tests that want the same.

    A fixture that reads the test's marker itself would have to be function-scoped, which Hypothesis
    rightly complains of.
    """
    if "triton" not in metafunc.fixturenames:
        return
    node = metafunc.definition
    try:
        spec = read_spec(metafunc.config, node.get_closest_marker("triton"), node.path.parent)
    except pytest.UsageError as error:
        wrong = str(error)
    else:
        metafunc.parametrize("triton", [spec], ids=[pytest.HIDDEN_PARAM], indirect=True)
        return
    pytest.fail(f"{node.nodeid}: {wrong}", pytrace=False)  # out here, to be said only once


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse markers that would say something to nobody."""
    for item in items:
        mark = item.get_closest_marker("triton")
        if mark is None:
            continue
        if not _uses_triton(item):
            if mark in item.own_markers:
                raise pytest.UsageError(
                    f"{item.nodeid}: @pytest.mark.triton is for the fixture `triton`, which this "
                    "test does not use; add `triton` to its arguments"
                )
        elif read_spec(config, mark, item.path.parent) != _spec(item):
            raise pytest.UsageError(
                f"{item.nodeid}: @pytest.mark.triton comes too late from pytest.param, a hook or a "
                "unittest.TestCase; put it on a test function, its class or its module"
            )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember how long the server's log is before the test."""
    if _uses_triton(item):
        item.stash[_LOG_START] = len(item.config.stash[_POOL].log(_spec(item)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the server logged during a test that fails, and the test's own frames only."""
    if call.excinfo and _uses_triton(item):
        hide_own_frames()
    report = yield
    if report.failed and _uses_triton(item):
        log = item.config.stash[_POOL].log(_spec(item))[item.stash.get(_LOG_START, 0) :]
        if last := log.strip("\n").splitlines()[-_LOG_LINES:]:
            report.sections.append(("triton log", "\n".join(last)))
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Stop the engines, so that what is said then can be told; also after Ctrl-C."""
    try:
        session.config.stash[_POOL].stop(interrupted=exitstatus == pytest.ExitCode.INTERRUPTED)
    except KeyboardInterrupt:
        session.exitstatus = pytest.ExitCode.INTERRUPTED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say why tests were skipped, without -rs, and what was wrong when the engines stopped."""
    if said := config.stash[_POOL].said:
        terminalreporter.section("triton: models that were unloaded")
        for message in said:
            terminalreporter.write_line(message)
    skipped = terminalreporter.stats.get("skipped", ())
    reasons = Counter(
        reason
        for report in skipped
        if isinstance(report.longrepr, tuple) and SKIPPED in (reason := report.longrepr[2])
    )
    if reasons:
        terminalreporter.section("triton")
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")


def _uses_triton(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and "triton" in item.fixturenames


def _spec(item: pytest.Item) -> EngineSpec:
    """What the fixture `triton` serves to a test that uses it."""
    # A test of a unittest.TestCase has no parameters.
    callspec = getattr(item, "callspec", None)
    spec = callspec.params.get("triton") if callspec else None
    return spec if isinstance(spec, EngineSpec) else _default(item.config)


def _default(config: pytest.Config) -> EngineSpec:
    return read_spec(config, None, config.rootpath)
