"""The environment of the real server: found, made, refused. Nothing is downloaded."""

import json
import platform
import sys

import pytest

from triton_stub.engines import environment, native
from triton_stub.engines.environment import NativeEnvironment, NativeEnvironmentError

pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="the real tritonserver is there for Linux x86_64 only",
)

# Stands in for uv: makes a real virtual environment, and lays down the wheel's files as empty ones.
FAKE_UV = """#!{python}
import subprocess, sys, pathlib
arguments = sys.argv[1:]
with open({journal!r}, "a") as journal:
    print(*arguments, file=journal)
if arguments[0] == "venv":
    subprocess.run([{python!r}, "-m", "venv", "--without-pip", arguments[-1]], check=True)
if "broken-package" in arguments:
    sys.exit("no such package")
if arguments[-1].startswith("nvidia-pytriton"):
    new = arguments[arguments.index("--python") + 1]
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.check_output([new, "-c", code], text=True).strip()
    wheel = pathlib.Path(site, "pytriton", "tritonserver")
    for file in [
        "bin/tritonserver",
        "backends/python/libtriton_python.so",
        "python_backend_stubs/{version}/triton_python_backend_stub",
    ]:
        (wheel / file).parent.mkdir(parents=True, exist_ok=True)
        (wheel / file).touch()
"""


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """What was asked of uv, one line a call."""
    journal = tmp_path / "journal"
    journal.touch()
    uv = tmp_path / "uv"
    version = ".".join(map(str, sys.version_info[:2]))
    uv.write_text(FAKE_UV.format(python=sys.executable, journal=str(journal), version=version))
    uv.chmod(0o755)
    monkeypatch.setenv("UV", str(uv))
    monkeypatch.setattr(environment, "PYTHONS", (sys.version_info[:2],))
    return journal


def calls(journal):
    return len(journal.read_text().splitlines())


def test_made_environment_is_opened(tmp_path, journal):
    made = NativeEnvironment.create(tmp_path / "env", ["some-package==1"], python=sys.executable)
    assert made == NativeEnvironment.open(tmp_path / "env")
    assert made.version == sys.version_info[:2]
    assert made.server.is_file()
    assert [file.name for file in made.backend_files] == [
        "libtriton_python.so",
        "triton_python_backend_stub",
    ]
    asked = journal.read_text()
    assert "numpy<2 some-package==1\n" in asked
    assert f"--no-deps {environment.SERVER}\n" in asked


def test_same_requirements_keep_the_environment_and_others_replace_it(tmp_path, journal):
    path = tmp_path / "env"
    NativeEnvironment.create(path, ["a"], python=sys.executable)
    (path / "trace").touch()
    before = calls(journal)
    NativeEnvironment.create(path, ["a"], python=sys.executable)
    assert calls(journal) == before
    assert (path / "trace").exists()
    NativeEnvironment.create(path, ["b"], python=sys.executable)
    assert calls(journal) == 2 * before
    assert not (path / "trace").exists()


def test_half_made_environment_is_refused_and_then_replaced(tmp_path, journal):
    path = tmp_path / "env"
    with pytest.raises(NativeEnvironmentError, match="could not make the environment"):
        NativeEnvironment.create(path, ["broken-package"], python=sys.executable)
    assert (path / "bin" / "python3").exists()
    with pytest.raises(NativeEnvironmentError, match="only half made"):
        NativeEnvironment.open(path)
    NativeEnvironment.create(path, ["a"], python=sys.executable)
    NativeEnvironment.open(path)


def test_absent_environment_names_the_command(tmp_path, monkeypatch):
    monkeypatch.delenv(environment.VARIABLE, raising=False)
    with pytest.raises(NativeEnvironmentError) as caught:
        NativeEnvironment.find(tmp_path)
    expected = tmp_path / ".nox" / "triton-native"
    assert f"no environment with the real tritonserver at {expected}" in str(caught.value)
    assert f"python -m triton_stub.engines.native create {expected}" in str(caught.value)


def test_variable_names_the_environment(tmp_path, journal, monkeypatch):
    made = NativeEnvironment.create(tmp_path / "elsewhere", python=sys.executable)
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path / "elsewhere"))
    assert NativeEnvironment.find(tmp_path / "nowhere") == made


def test_environment_without_the_wheel_is_refused(tmp_path, journal):
    made = NativeEnvironment.create(tmp_path / "env", python=sys.executable)
    made.stub.unlink()
    with pytest.raises(NativeEnvironmentError, match="cannot embed it"):
        NativeEnvironment.open(made.path)
    made.server.unlink()
    with pytest.raises(NativeEnvironmentError, match="has no tritonserver"):
        NativeEnvironment.open(made.path)


def test_no_fitting_python_says_what_was_found(tmp_path, monkeypatch):
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(environment, "PYTHONS", ((3, 99),))
    here = ".".join(map(str, sys.version_info[:2]))
    with pytest.raises(NativeEnvironmentError, match=r"expected python3\.99") as caught:
        NativeEnvironment.create(tmp_path / "env")
    assert f"{sys.executable} is Python {here}" in str(caught.value)
    assert not (tmp_path / "env").exists()


def test_other_platforms_get_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(NativeEnvironmentError, match=r"Linux x86_64 only, and this is Darwin arm6"):
        NativeEnvironment.find(tmp_path)


def test_servers_python_is_not_led_astray_by_this_one(tmp_path, journal, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/astray")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/mine")
    made = NativeEnvironment.create(tmp_path / "env", python=sys.executable)
    variables = made.variables()
    assert "PYTHONPATH" not in variables
    assert variables["PATH"].startswith(f"{made.path}/bin:")
    assert variables["LD_LIBRARY_PATH"].split(":") == [
        f"{made.site_packages}/nvidia_pytriton.libs",
        str(made.libdir),
        "/mine",
    ]


def test_command_line_makes_the_environment(tmp_path, journal, capsys):
    path = tmp_path / "env"
    assert native.main(["create", str(path), "a==1", "--python", sys.executable]) == 0
    assert "the real tritonserver" in capsys.readouterr().out
    stamp = json.loads((path / "triton-native.json").read_text())
    assert stamp["requirements"] == ["numpy<2", "a==1"]


def test_command_line_reports_failure(tmp_path, journal, capsys):
    path = tmp_path / "env"
    assert native.main(["create", str(path), "broken-package", "--python", sys.executable]) == 1
    assert capsys.readouterr().err.startswith("error: could not make the environment")
