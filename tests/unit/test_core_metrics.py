"""The server's metrics; the conformance suite compares the page with the real server's."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from triton_stub import deviations
from triton_stub.core.metrics import Metrics
from triton_stub.errors import ServerError
from triton_stub.pb_utils.metrics import MetricKind

COUNTER, GAUGE, HISTOGRAM = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM


@pytest.fixture
def metrics():
    return Metrics()


def samples(metrics):
    """What a scraper reads: values by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.text())
        for sample in family.samples
    }


def test_nothing_is_printed_of_a_family_without_series(metrics):
    metrics.family("a", "d", COUNTER)
    assert metrics.text() == ""


def test_a_page(metrics):
    metrics.family("g", "", GAUGE).add({}, None).set(1 / 3)
    counter = metrics.family("c_total", "counts", COUNTER)
    counter.add({"b": "2", "a": 'x"\\\n'}, None).increment(2)
    assert metrics.text() == (
        '# HELP c_total counts\n# TYPE c_total counter\nc_total{a="x\\"\\\\\\n",b="2"} 2\n'
        "# TYPE g gauge\ng 0.3333333333333333\n"
    )
    assert samples(metrics) == {
        ("c_total", ("a", 'x"\\\n'), ("b", "2")): 2,
        ("g",): 0.3333333333333333,
    }


def test_a_histogram(metrics):
    series = metrics.family("h", "d", HISTOGRAM).add({"a": "1"}, [1, 2.5])
    for number in (1, 2, 3, -1):
        series.observe(number)
    label = ("a", "1")
    assert samples(metrics) == {
        ("h_count", label): 4,
        ("h_sum", label): 5,
        ("h_bucket", label, ("le", "1")): 2,
        ("h_bucket", label, ("le", "2.5")): 3,
        ("h_bucket", label, ("le", "+Inf")): 4,
    }


@pytest.mark.parametrize("name", ["", "1", "a b", "__a", "ä", "a-b", "a\n"])
def test_a_name_that_is_none(metrics, name):
    with pytest.raises(ServerError, match=r"^Invalid metric name$"):
        metrics.family(name, "", COUNTER)
    with pytest.raises(ServerError, match=r"^Invalid label name$"):
        metrics.family("fine", "", COUNTER).add({name: ""}, None)


def test_a_family_is_for_ever(metrics):
    first = metrics.family("a", "first", COUNTER)
    first.close()
    with pytest.raises(ServerError, match="different type"):
        metrics.family("a", "", GAUGE)
    metrics.family("a", "second", COUNTER).add({}, None)
    assert "# HELP a first\n" in metrics.text()


@pytest.mark.parametrize("buckets", [[1, 1], [2, 1], [1, 2, 2]])
def test_buckets_in_no_order(metrics, buckets):
    with pytest.raises(ServerError, match="strictly sorted"):
        metrics.family("h", "", HISTOGRAM).add({}, buckets)
    assert metrics.text() == ""


def test_the_series_of_a_family_go_with_it(metrics):
    family = metrics.family("a", "", COUNTER)
    family.add({}, None).increment(1)
    family.close()
    family.close()
    assert family.closed
    assert metrics.text() == ""
    assert metrics.family("a", "", COUNTER).add({}, None).value() == 0


def test_closing_waits_for_nobody(metrics):
    """A garbage collection may close a family in the middle of whatever."""
    family = metrics.family("a", "", COUNTER)
    family.add({}, None)
    with metrics.locked():
        family.close()
    assert metrics.text() == ""


def test_a_series_that_another_handle_has_removed(metrics):
    first, second = (metrics.family("a", "", GAUGE) for _ in range(2))
    first.add({}, None).set(2)
    series = second.add({}, None)
    assert series.value() == 2
    first.close()
    for operation in (series.value, lambda: series.set(1), lambda: series.increment(1)):
        with pytest.raises(ServerError) as caught:
            operation()
        assert deviations.REMOVED_SERIES.server in caught.value.message
    assert second.add({}, None).value() == 0


@pytest.mark.parametrize(
    ("kind", "operation", "refused"),
    [
        (COUNTER, "set", "Set"),
        (COUNTER, "observe", "Observe"),
        (GAUGE, "observe", "Observe"),
        (HISTOGRAM, "increment", "Increment"),
        (HISTOGRAM, "set", "Set"),
        (HISTOGRAM, "value", "Value"),
    ],
)
def test_what_a_kind_does_not_do(metrics, kind, operation, refused):
    series = metrics.family("a", "", kind).add({}, [])
    with pytest.raises(ServerError) as caught:
        getattr(series, operation)(*() if operation == "value" else (1,))
    text = f"TRITONSERVER_METRIC_KIND_{kind.name} does not support {refused}"
    assert caught.value.message == text


def test_a_counter_counts_upwards(metrics):
    series = metrics.family("a", "", COUNTER).add({}, None)
    series.increment(0)
    with pytest.raises(ServerError, match="monotonically by non-negative values"):
        series.increment(-1)
    assert series.value() == 0
