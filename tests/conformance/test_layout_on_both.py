"""Folders of models and of versions, policies, several repositories: what is served of what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broken_models import CONFIG
from mortal import touch
from repositories import (
    ALL,
    BROKEN,
    Two,
    add,
    control,
    index,
    lines,
    seen,
    two_engines,
    write,
    write_ensemble,
)

from triton_stub import deviations
from triton_stub.engines.engine import Engine
from triton_stub.engines.stub import StubEngine

NOTHING = "class TritonPythonModel: pass\n"


def policy(text: str) -> str:
    return f"{CONFIG} version_policy {{ {text} }}"


# The names of version folders, and the policy.
VERSIONS: dict[str, tuple[str, list[str], str]] = {
    "latest_by_default": ("latest", ["1", "2", "10"], CONFIG),
    "latest_2": ("latest", ["1", "2", "10"], policy("latest { num_versions: 2 }")),
    "latest_5": ("latest", ["1", "2"], policy("latest { num_versions: 5 }")),
    "latest_0": ("none-left", ["1", "2"], policy("latest { num_versions: 0 }")),
    "all_of_them": ("all", ["0", "1", "3", "20"], ALL),
    "specific": ("specific", ["1", "2", "3"], policy("specific { versions: [ 3, 1 ] }")),
    "specific_missing": ("specific", ["1", "2"], policy("specific { versions: [ 1, 7 ] }")),
    "specific_none": ("none-left", ["1"], policy("specific { versions: [ 7 ] }")),
    "specific_empty": ("none-left", ["1"], policy("specific { }")),
    "zero": ("zero", ["0"], CONFIG),
    "leading_zeros": ("ignored", ["1", "01", "002"], ALL),
    "only_leading_zeros": ("ignored", ["01", "00"], ALL),
    "words": ("ignored", ["1", "one", "v2", ".3", "_4", "-", "+"], ALL),
    "purposes": ("skipped", ["1", "warmup", "initial_state", "configs"], ALL),
    "only_purposes": ("skipped", ["warmup", "configs"], ALL),
    "number_and_more": ("number", ["2", "2abc", "2.5", "3"], ALL),
    "blank_number": ("number", ["4", " 4", "+4"], ALL),
    "no_folder": ("none-left", [], CONFIG),
}
OTHERS = {
    "renamed": ("name", f'name: "other" {CONFIG}'),
    "named": ("layout", f'name: "named" {CONFIG}'),
    "unknown_field": ("polled", "nonsense: 1"),
    "bad_syntax": ("polled", 'backend: "python'),
    "bad_value": ("polled", f"{CONFIG} max_batch_size: -1"),
    "twice_the_name": ("polled", 'name: "twice_the_name" name: "twice_the_name"'),
}
TOGETHER = ["in_both", "of_first", "of_second", "one_fails"]


def fill(folder: Path) -> None:
    for name, (_, versions, config) in VERSIONS.items():
        (folder / name).mkdir()
        write(folder, name, config, **{f"v{version}": add(n) for n, version in enumerate(versions)})
        (folder / name / "config.pbtxt").write_text(config)
    for name, (_, config) in OTHERS.items():
        write(folder, name, config)
    write(folder, "one_fails", ALL, v1=add(1), v2=BROKEN, v3=add(3))
    write(folder, "other_file", f'{CONFIG} default_model_filename: "other.py"')
    (folder / "other_file" / "1" / "model.py").rename(folder / "other_file" / "1" / "other.py")
    write(folder, "policies", ALL, v1=add(1), v2=add(2), v3=add(3))
    write(folder, "in_both")
    write(folder, "of_first")
    write_ensemble(folder, "of_ambiguous", "in_both", "of_first")
    (folder / "file").write_text("no model")
    write(folder.parent / f"{folder.name}_more", "in_both", v1=add(2))
    write(folder.parent / f"{folder.name}_more", "of_second", v1=add(2))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("layout")
    with two_engines(folder, fill, more=True) as engines:
        yield engines


def run(engine: Engine, *names: str) -> Any:
    """What is said when models are loaded, and what is served then."""
    before = engine.log()
    told = [control(engine, "load", name) for name in names]
    found = seen(engine, names)
    said = lines(engine, names, before)
    for name in names:
        control(engine, "unload", name)
    return told, found, [line for line in said if "poll" not in line and "Poll" not in line]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.rule(f"4.11-{VERSIONS[name][0]}")) for name in VERSIONS],
)
def test_versions(two: Two, name: str) -> None:
    two.same(lambda engine, _: run(engine, name))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.rule(f"4.11-{OTHERS[name][0]}")) for name in OTHERS],
)
def test_a_configuration(two: Two, name: str) -> None:
    two.same(lambda engine, _: run(engine, name))


@pytest.mark.parametrize("name", ["file", "nobody", "no config"])
@pytest.mark.rule("4.11-polled")
def test_no_model_at_all(two: Two, name: str) -> None:
    told = two.same(lambda engine, _: control(engine, "load", name.replace(" ", "%20")))
    assert told[0] == 500


@pytest.mark.rule("4.11-file-name")
def test_another_file_name(two: Two) -> None:
    assert two.same(lambda engine, _: run(engine, "other_file"))[0] == [""]


@pytest.mark.rule("4.11-one-fails", "4.1-not-ready")
def test_one_version_fails(two: Two) -> None:
    two.same(lambda engine, _: run(engine, "one_fails"))


@pytest.mark.rule("4.11-ambiguous")
def test_a_model_in_two_repositories(two: Two) -> None:
    two.same(lambda engine, _: run(engine, "in_both"))
    two.same(lambda engine, _: run(engine, "of_ambiguous", "of_first"))
    rows = two.same(lambda engine, _: [row for row in index(engine) if row["name"] == "in_both"])
    assert rows[0]["reason"] == "model appears in two or more repositories"
    two.same(lambda engine, _: [r for r in index(engine, ready=True) if r["name"] == "in_both"])


@pytest.mark.rule("4.11-several")
def test_models_of_several_repositories(two: Two) -> None:
    assert two.same(lambda engine, _: run(engine, "of_first", "of_second"))[0] == ["", ""]


POLICIES = [
    "latest { num_versions: 1 }",
    "latest { num_versions: 2 }",
    "specific { versions: [ 1, 3 ] }",
    "all { }",
    "specific { versions: [ 2 ] }",
    "specific { versions: [ 9 ] }",
    "latest { num_versions: 3 }",
]


@pytest.mark.rule("4.11-latest", "4.11-specific", "4.11-all", "4.11-none-left")
def test_another_policy_for_what_is_served(two: Two) -> None:
    def told(engine: Engine, folder: Path) -> Any:
        answers = [control(engine, "load", "policies"), seen(engine, ["policies"])]
        for text in POLICIES:
            path = folder / "policies" / "config.pbtxt"
            path.write_text(policy(text))
            touch(path)
            before = engine.log()
            answers.append((text, control(engine, "load", "policies"), seen(engine, ["policies"])))
            answers.append(lines(engine, ["policies"], before))
        control(engine, "unload", "policies")
        return answers

    two.same(told)


@pytest.mark.rule("4.11-index")
def test_models_that_nobody_has_tried(two: Two) -> None:
    def rows(engine: Engine, _: Path) -> Any:
        return [row for row in index(engine) if row["name"] in ("named", "policies", "file")]

    two.same(rows)


@pytest.mark.rule("4.11-ignored")
@pytest.mark.deviation("odd-version")
@pytest.mark.parametrize("version", [-2, 2**63])
def test_a_version_that_is_no_version(tmp_path: Path, version: int) -> None:
    write(tmp_path, "m", v1=NOTHING)
    (tmp_path / "m" / str(version)).mkdir()
    with StubEngine(tmp_path, models=[]) as engine:
        told = control(engine, "load", "m")
    assert f"is named by {version}: the real server {deviations.ODD_VERSION.server}" in told[1]


@pytest.mark.rule("4.11-ring")
@pytest.mark.deviation("ensemble-circle")
def test_an_ensemble_beside_a_ring(tmp_path: Path) -> None:
    write_ensemble(tmp_path, "m", "n")
    write_ensemble(tmp_path, "n", "o")
    write_ensemble(tmp_path, "o", "n")
    with StubEngine(tmp_path, models=[]) as engine:
        told = control(engine, "load", "m")
    assert "ensemble 'm' needs ensembles that need each other: the real server" in told[1]
