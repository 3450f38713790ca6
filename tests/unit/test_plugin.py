"""The pytest plugin, seen from the outside: outcomes and printed lines."""

import importlib
import subprocess
import sys

import pytest

from triton_stub import config

# Runs inside this process forget what they import, and neither numpy nor protobuf can be imported
# twice; so everything is imported before.
config.schema()
for name in ("engines.native", "engines.stub", "testing.checks", "testing.strategies"):
    importlib.import_module(f"triton_stub.{name}")

pytest_plugins = ["pytester"]

CONFIG = """
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }
"""
MODEL = """
from pathlib import Path

import triton_python_backend_utils as pb_utils

LIFE = Path(__file__).parent.parent / "life.txt"


def live(event):
    with LIFE.open("a") as file:
        file.write(event)


class TritonPythonModel:
    def initialize(self, args):
        live("initialize ")

    def execute(self, requests):
        pb_utils.Logger.log_info(f"{len(requests)} to do")
        return [self.answer(request) for request in requests]

    def answer(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        if (x == 7).any():
            raise ValueError("no sevens")
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", NUMBER * x)])

    def finalize(self):
        live("finalize ")
"""
BROKEN = MODEL.replace('live("initialize ")', 'live("initialize "); raise OSError("no weights")')
HEAD = """
import numpy as np
import pytest

ONE = np.ones((1, 2), np.float32)
"""
USES = (
    HEAD
    + """
def test_it(triton):
    assert (triton.infer("m", x=ONE)["y"] == {number}).all()
"""
)


def write_model(repository, name="m", source=MODEL, number=2):
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(CONFIG)
    (folder / "model.py").write_text(f"NUMBER = {number}\n{source}")
    return repository / name / "life.txt"


@pytest.fixture
def project(pytester):
    """A project with a model in the place where it is looked for."""
    write_model(pytester.path / "model_repository")
    return pytester


def run(project, *arguments):
    return project.runpytest("-p", "no:cacheprovider", *arguments)


def test_a_repository_in_the_usual_place(project):
    project.makepyfile(USES.format(number=2))
    run(project).assert_outcomes(passed=1)


def test_a_repository_from_the_ini_file_is_relative_to_the_root(pytester, monkeypatch):
    write_model(pytester.path / "models", number=3)
    pytester.makeini("[pytest]\ntriton_repository = models")
    pytester.makepyfile(USES.format(number=3))
    monkeypatch.chdir(pytester.mkdir("elsewhere"))
    run(pytester, str(pytester.path)).assert_outcomes(passed=1)


def test_a_repository_from_the_command_line_is_relative_to_the_working_directory(
    project, monkeypatch
):
    write_model(project.path / "elsewhere" / "models", number=3)
    project.makeini("[pytest]\ntriton_repository = nowhere")
    project.makepyfile(USES.format(number=3))
    monkeypatch.chdir("elsewhere")
    run(project, "--triton-repository=models", str(project.path)).assert_outcomes(passed=1)


@pytest.mark.parametrize("place", ["function", "class", "module"])
def test_a_repository_from_a_marker_is_relative_to_the_test(project, place):
    tests = project.mkdir("tests")
    write_model(tests / "models", number=3)
    mark = "pytest.mark.triton(repository='models')"
    body = 'assert (triton.infer("m", x=ONE)["y"] == 3).all()'
    source = {
        "function": f"@{mark}\ndef test_it(triton):\n    {body}",
        "class": f"@{mark}\nclass TestIt:\n    def test_it(self, triton):\n        {body}",
        "module": f"pytestmark = {mark}\ndef test_it(triton):\n    {body}",
    }
    (tests / "test_marked.py").write_text(HEAD + source[place])
    run(project, "--triton-repository=nowhere").assert_outcomes(passed=1)


def test_without_a_repository_it_says_how_to_name_one(pytester):
    pytester.makepyfile(USES.format(number=2))
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            (
                "no model repository for the fixture `triton`: looked for "
                f"{pytester.path}/model_repository, which is no folder. *"
            ),
            "  pytest --triton-repository=PATH *",
            "  triton_repository = PATH *",
            "  @pytest.mark.triton(repository=PATH) *",
        ],
        consecutive=True,
    )


@pytest.mark.parametrize(
    ("argument", "ini", "mark", "source"),
    [
        ("--triton-repository=gone", "", "", "--triton-repository"),
        ("-q", "triton_repository = gone", "", "the ini option triton_repository"),
        ("-q", "", "repository='gone'", "@pytest.mark.triton(repository=...)"),
    ],
)
def test_a_repository_that_is_not_there(project, argument, ini, mark, source):
    project.makeini(f"[pytest]\n{ini}")
    project.makepyfile(HEAD + f"@pytest.mark.triton({mark})\ndef test_it(triton): ...")
    result = run(project, argument)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [f"model repository {project.path}/gone, from {source}, is no folder; expected one *"]
    )


LISTS = (
    HEAD
    + """
@pytest.mark.triton({mark})
def test_it(triton):
    assert [name for name in ("m", "n") if triton.ready(name)] == {ready}
"""
)


@pytest.mark.parametrize(
    ("ini", "mark", "ready"),
    [
        ("", "", ["m", "n"]),
        ("", "models=['n']", ["n"]),
        ("", "models=[]", []),
        ("triton_models = n", "", ["n"]),
        ("triton_models = m n", "", ["m", "n"]),
        ("triton_models = m", "models=['n']", ["n"]),
        ("triton_models = m", "repository='other'", ["n"]),
    ],
)
def test_the_models_that_are_loaded(project, ini, mark, ready):
    write_model(project.path / "model_repository", "n")
    write_model(project.path / "other", "n")
    project.makeini(f"[pytest]\n{ini}")
    project.makepyfile(LISTS.format(mark=mark, ready=ready))
    run(project).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("repo='x'", "does not take repo; expected *repository=None, models=None*"),
        ("'x', 1", "does not take 'x', 1; expected *repository=None, models=None*"),
        ("repository=1", "(repository=1): expected the path of a folder"),
        ("models='m'", "(models='m'): expected a list, such as *"),
        ("models={'m'}", "(models={'m'}): expected a list, such as *"),
    ],
)
def test_a_marker_that_is_wrong(project, arguments, complaint):
    project.makepyfile(HEAD + f"@pytest.mark.triton({arguments})\ndef test_it(triton): ...")
    result = run(project)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR collecting test_a_marker_that_is_wrong.py*",
            f"test_a_marker_that_is_wrong.py::test_it: @pytest.mark.triton*{complaint}",
        ]
    )
    result.stdout.no_fnmatch_line("*During handling of the above exception*")


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (
            "@pytest.mark.triton(models=['m'])\ndef test_it(): ...",
            (
                "*::test_it: @pytest.mark.triton is for the fixture `triton`, which this test does "
                "not use; add `triton` to its arguments"
            ),
        ),
        (
            (
                "@pytest.mark.parametrize('a', [\n"
                "    pytest.param(1, marks=pytest.mark.triton(models=[]))])\n"
                "def test_it(triton, a): ..."
            ),
            "*::test_it?1?: @pytest.mark.triton comes too late from pytest.param, *",
        ),
        (
            (
                "import unittest\n"
                "@pytest.mark.triton(models=[])\n@pytest.mark.usefixtures('triton')\n"
                "class TestIt(unittest.TestCase):\n    def test_it(self): ..."
            ),
            "*::test_it: @pytest.mark.triton comes too late from *unittest.TestCase*",
        ),
    ],
)
def test_a_marker_that_would_say_nothing(project, source, complaint):
    project.makepyfile(HEAD + source)
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {complaint}"])


def test_a_marker_of_a_module_is_for_those_tests_that_use_the_fixture(project):
    project.makepyfile(
        HEAD + "pytestmark = pytest.mark.triton(models=['m'])\n"
        "def test_with(triton):\n    assert triton.ready('m')\n"
        "def test_without(): ..."
    )
    run(project).assert_outcomes(passed=2)


def test_other_ways_to_the_fixture(project):
    project.makepyfile(
        HEAD
        + """
import unittest

@pytest.fixture
def answer(triton):
    return triton.infer("m", x=ONE)["y"]

@pytest.mark.triton(models=["m"])
def test_through_another_fixture(answer):
    assert (answer == 2).all()

def test_when_asked_for(request):
    assert request.getfixturevalue("triton").ready("m")

@pytest.mark.usefixtures("triton")
class TestIt(unittest.TestCase):
    def test_it(self): ...
"""
    )
    run(project, "--strict-markers").assert_outcomes(passed=3)


SHARED = (
    HEAD
    + """
@pytest.fixture(scope="session")
def once(triton):
    print("\\n[set up]")
    return triton

def test_a(once):
    assert once.infer("m", x=ONE)["y"].all()

@pytest.mark.triton(repository="model_repository")
def test_b(triton):
    assert triton.ready("m")

def test_c(once, triton):
    assert once is triton

@pytest.mark.triton(models=[])
def test_d(triton):
    assert not triton.ready("m")
"""
)


def test_an_engine_starts_once_and_stops_at_the_end(project):
    life = project.path / "model_repository" / "m" / "life.txt"
    project.makepyfile(test_first=SHARED, test_second=SHARED)
    result = run(project, "-s")
    result.assert_outcomes(passed=8)
    assert life.read_text() == "initialize finalize "
    # So does what depends on it, for tests in a row; each module has its own.
    assert result.stdout.str().count("[set up]") == 2


def test_no_engine_starts_before_it_is_needed(project):
    project.makepyfile("def test_it(): ...", test_other=USES.format(number=2))
    run(project, "-k", "no_engine").assert_outcomes(passed=1, deselected=1)
    assert not (project.path / "model_repository" / "m" / "life.txt").exists()


def test_an_engine_stops_after_an_interrupt(project):
    project.makepyfile(
        HEAD
        + """
import os, signal

def test_it(triton):
    assert triton.ready("m")
    os.kill(os.getpid(), signal.SIGINT)
"""
    )
    result = project.runpytest_subprocess("-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    life = project.path / "model_repository" / "m" / "life.txt"
    assert life.read_text() == "initialize finalize "


def test_an_engine_that_does_not_start_is_not_tried_again(project):
    life = write_model(project.path / "broken", source=BROKEN)
    project.makepyfile(
        HEAD
        + """
broken = pytest.mark.triton(repository="broken")

@broken
def test_a(triton): ...
@pytest.mark.triton(models=[])
def test_b(triton): ...
@broken
def test_c(triton): ...
"""
    )
    result = run(project)
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of test_a*",
            "broken/m/1/model.py:*: OSError",
            "*ERROR at setup of test_c*",
            "broken/m/1/model.py:*: OSError",
            "E *.LoadError: model 'm': *OSError: no weights",
        ]
    )
    assert life.read_text() == "initialize "
    assert "runtime/instance.py" not in result.stdout.str()


@pytest.fixture
def no_native_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_STUB_NATIVE_ENV", str(tmp_path / "none"))


@pytest.mark.usefixtures("no_native_environment")
def test_without_the_real_server_tests_are_skipped_aloud(project):
    project.makepyfile(USES.format(number=2) + "def test_other(triton): ...")
    result = run(project, "--triton-engine=native")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(
        ["*= triton =*", "2 skipped: no real tritonserver for --triton-engine=native: *"]
    )


@pytest.mark.usefixtures("no_native_environment")
def test_without_the_real_server_tests_fail_if_it_is_required(project):
    project.makepyfile(USES.format(number=2))
    result = run(project, "--triton-engine=native", "--triton-require")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["no real tritonserver for --triton-engine=native: *"])


@pytest.mark.parametrize("name", ["stubb", "ftp://host:8000", "http://", "http://a host"])
def test_an_engine_that_there_is_not(project, name):
    project.makepyfile("def test_it(): ...")
    result = run(project, f"--triton-engine={name}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    expected = "expected stub, native, container, or the URL of a server, such as *://*:8000"
    result.stderr.fnmatch_lines([f"ERROR: --triton-engine={name}: {expected}"])
    project.makeini(f"[pytest]\ntriton_engine = {name}")
    result = run(project)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: ini option triton_engine = {name}: {expected}"])
    run(project, "--triton-engine=stub").assert_outcomes(passed=1)


DIES = """
import os, signal
import numpy as np
import pytest
from triton_stub import InferenceError
MARK
def test_it(triton):
    assert triton.infer("m", x=np.ones((1, 2), np.float32))["y"].any()
    with pytest.raises(InferenceError, match="Stub process 'm_0' is not healthy."):
        triton.infer("m", x=np.full((1, 2), 7, np.float32))

def test_after_it(triton):
    with pytest.raises(InferenceError, match="Stub process 'm_0' is not healthy."):
        triton.infer("m", x=np.ones((1, 2), np.float32))
"""
DEADLY = MODEL.replace('raise ValueError("no sevens")', "import os; os.abort()")


@pytest.mark.parametrize("way", ["option", "ini", "marker"])
def test_a_model_whose_process_dies(project, way):
    write_model(project.path / "models", source=DEADLY)
    mark = "pytestmark = pytest.mark.triton(isolation='process')" if way == "marker" else ""
    project.makepyfile(DIES.replace("MARK", mark))
    ini = "[pytest]\ntriton_repository = models\n"
    project.makeini(ini + ("triton_isolation = process" if way == "ini" else ""))
    options = ["--triton-isolation=process"] if way == "option" else []
    run(project, *options).assert_outcomes(passed=2)


def test_the_marker_wins_over_the_option(project):
    write_model(project.path / "models")
    project.makeini("[pytest]\ntriton_repository = models")
    project.makepyfile(
        HEAD
        + """
@pytest.mark.triton(isolation="thread")
def test_it(triton):
    assert triton.server.options.isolation == "thread"

def test_another(triton):
    assert triton.server.options.isolation == "process"
"""
    )
    run(project, "--triton-isolation=process").assert_outcomes(passed=2)


@pytest.mark.parametrize("way", ["option", "ini", "marker"])
def test_an_isolation_that_there_is_not(project, way):
    mark = "@pytest.mark.triton(isolation='fork')" if way == "marker" else ""
    project.makepyfile(f"import pytest\n{mark}\ndef test_it(triton): ...")
    project.makeini("[pytest]\n" + ("triton_isolation = fork" if way == "ini" else ""))
    result = run(project, *(["--triton-isolation=fork"] if way == "option" else []))
    told = {
        "option": "ERROR: --triton-isolation=fork",
        "ini": "ERROR: ini option triton_isolation = fork",
        "marker": "*@pytest.mark.triton, isolation=fork",
    }[way]
    lines = result.stdout if way == "marker" else result.stderr
    lines.fnmatch_lines([f"{told}: expected thread or process*"])


FAILS = (
    HEAD
    + """
def test_before(triton):
    triton.infer("m", x=ONE)
    triton.infer("m", x=ONE)

def test_raises(triton):
    triton.infer("m", x=7 * ONE)

def test_refused(triton):
    triton.infer("m", x=ONE[0])

def test_asserts(triton):
    assert triton.infer("m", x=ONE)["y"].sum() == 0
"""
)


def test_a_failing_test_shows_the_model_and_its_own_part_of_the_log(project):
    project.makepyfile(FAILS)
    result = run(project)
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(
        [
            '>           raise ValueError("no sevens")',
            "model_repository/m/1/model.py:*: ValueError",
            "The above exception was the direct cause of the following exception:",
            '>       triton.infer("m", x=7 [*] ONE)',
            "E       *.InferenceError: Failed to process * message: ValueError: no sevens",
            "test_a_failing_test_*.py:*: InferenceError",
            "*- triton log -*",
            'I* "1 to do"',
            'E* "Failed to process *no sevens*',
            "*_ test_refused _*",
            '>       triton.infer("m", x=ONE[[]0])',
            "E       *.InferenceError: * unexpected shape for input 'x' for model 'm'. *",
            "*_ test_asserts _*",
            "*- triton log -*",
            'I* "1 to do"',
        ]
    )
    printed = result.stdout.str()
    assert printed.count('"1 to do"') == 2
    assert "triton_stub/" not in printed.replace("triton_stub/testing", "")


def test_a_full_trace_shows_everything(project):
    project.makepyfile(FAILS)
    run(project, "--full-trace").stdout.fnmatch_lines(["*triton_stub/server/*.py:*"])


def test_a_misuse_of_ours_shows_where(project):
    project.makepyfile(HEAD + "def test_it(triton):\n    triton.infer('m', x=ONE.astype(complex))")
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *no Triton datatype*", "*triton_stub/core/tensor.py:*"])


def test_hypothesis_beside_the_fixture(project):
    project.makepyfile(
        HEAD
        + """
from hypothesis import given
from triton_stub.testing import check_outputs, from_config

@given(from_config("model_repository/m"))
def test_it(triton, request):
    result = triton.infer("m", request)
    assert result["y"].dtype == request["x"].dtype
    check_outputs("model_repository/m", result, batch_size=len(request["x"]))

@pytest.mark.parametrize("factor", [1, 2])
@given(from_config("model_repository/m", max_side=2))
def test_with_more_arguments(triton, factor, request):
    assert triton.infer("m", request)["y"].shape == request["x"].shape
"""
    )
    # The model does not like sevens, and Hypothesis may well try one.
    folder = project.path / "model_repository" / "m" / "1"
    (folder / "model.py").write_text("NUMBER = 1\n" + MODEL.replace("x == 7", "x != x"))
    run(project, "-W", "error").assert_outcomes(passed=3)


def test_help(project):
    result = run(project, "--help")
    result.stdout.fnmatch_lines(["*--triton-engine=stub?native*", "*triton_models*"])
    result = run(project, "--markers")
    result.stdout.fnmatch_lines(
        ["@pytest.mark.triton([*], repository=None, models=None, isolation=None): *"]
    )
    result = run(project, "--fixtures")
    result.stdout.fnmatch_lines(["triton ?session scope? *", "*A Triton that serves *"])


def test_loading_the_plugin_is_cheap():
    heavy = {"numpy", "google.protobuf", "tritonclient", "hypothesis", "jax", "triton_stub.server"}
    code = f"import sys, triton_stub.testing.plugin; print({heavy} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"
