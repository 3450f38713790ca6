"""Metrics as ``--metrics-config`` asks for them: summaries, and no counters of latencies."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from broken_models import both_engines
from comparing import Engines
from observed import CACHE, CACHE_OPTION, NEWER, ask, settled, write

from triton_stub.engines.engine import Engine

CONFIG = {
    "counter_latencies": "false",
    "summary_latencies": "true",
    "summary_quantiles": "0.5:0.05,x,0.25:0.1",
}
MODELS = ["plain", "dynamic", "cached", "ensemble"]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    repository = tmp_path_factory.mktemp("summarised")
    write(repository)
    options = [CACHE_OPTION, "--model-control-mode=explicit"]
    options += [f"--metrics-config={name}={value}" for name, value in CONFIG.items()]
    with both_engines(
        repository,
        options=[*options, *(f"--load-model={model}" for model in MODELS)],
        model_control_mode="explicit",
        startup_models=MODELS,
        cache_config=CACHE,
        metrics_configuration={"": CONFIG},
    ) as both:
        yield both


def page(engine: Engine) -> list[str]:
    """The page of models' metrics, of a duration only whether there is any."""
    lines = []
    for line in engine.metrics().splitlines():
        if "{" in line and not line.startswith(NEWER):
            name, value = line.rsplit(" ", 1)
            timed = "_sum{" in name or "quantile" in name
            lines.append(f"{name} {'some' if timed and value != 'Nan' else value}")
        elif "summary" in line:
            lines.append(line)
    return sorted(lines)


@pytest.mark.rule("4.16-summaries", "4.16-no-counters")
def test_what_is_there_before_any_request(engines: Engines) -> None:
    assert any('quantile="0.25"} Nan' in line for line in engines.same(page))


@pytest.mark.rule("4.16-summaries", "4.16-no-counters")
@pytest.mark.parametrize(
    ("model", "value"),
    [("plain", 1), ("plain", 9), ("plain", -1), ("cached", 1), ("ensemble", 1), ("ensemble", -1)],
)
def test_what_a_request_adds(engines: Engines, model: str, value: float) -> None:
    engines.same(lambda engine: [ask(engine, model, value) for _ in range(3)])
    lines = settled(engines, page)
    assert 'nv_inference_request_success{model="plain",version="1"} 0' in lines


@pytest.mark.rule("4.16-summaries")
def test_an_option_that_is_none_is_in_the_log(engines: Engines) -> None:
    def complaints(engine: Engine) -> set[str]:
        return set(re.findall(r'"Invalid option.*"', engine.log()))

    assert engines.same(lambda engine: sorted(complaints(engine)))
