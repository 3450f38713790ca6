"""``MetricFamily`` and ``Metric`` of an instance; the conformance suite has every text."""

import gc

import pytest
from instances import Lines, Surroundings

from triton_stub.pb_utils.errors import TritonModelException
from triton_stub.pb_utils.metrics import MetricFamily


@pytest.fixture
def host():
    return Surroundings(Lines(), "m_0")


@pytest.fixture
def families(host):
    return MetricFamily._for_host(host)


def test_metrics_reach_the_server(host, families):
    family = families("a", "d", families.COUNTER)
    family.Metric({"x": "1"}).increment(2)
    assert host.metrics.text().endswith('a{x="1"} 2\n')
    assert family.Metric({"x": "1"}).value() == 2


def test_what_the_server_refuses_is_told_with_the_instance(families):
    with pytest.raises(TritonModelException) as caught:
        families("", "", families.GAUGE)
    assert str(caught.value) == (
        "Error when creating MetricFamily: Failed to process the request for model 'm_0', message: "
        "Invalid metric name"
    )


def test_metrics_of_a_family_that_is_gone(host, families):
    family = families("a", "", families.GAUGE)
    metric = family.Metric()
    del family
    gc.collect()
    assert host.metrics.text() == ""
    with pytest.raises(TritonModelException, match="'MetricFamily' has been deleted"):
        metric.value()


def test_what_lives_until_the_end_stays(host, families):
    family = families("a", "", families.GAUGE)
    family.Metric()
    host.ended = True
    del family
    gc.collect()
    assert host.metrics.text() != ""


def test_a_family_that_could_not_be_made_can_be_dropped(families):
    with pytest.raises(TypeError):
        families("a")
    gc.collect()


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ({"a": 1}, "attempt to access JSON non-string as string"),
        ({"a\0b": "x"}, "attempt to access non-existing object member 'a'"),
        ({"a": "\ud800"}, "The surrogate pair in string is invalid. at 7"),
        ({"a": "\\\ud83d\ude00", "b": "\ud83dx"}, "invalid. at 30"),
    ],
)
def test_labels_as_the_server_reads_them(families, labels, text):
    with pytest.raises(TritonModelException) as caught:
        families("a", "", families.GAUGE).Metric(labels)
    assert text in str(caught.value)


def test_two_servers_know_nothing_of_each_other(host, families):
    other = Surroundings(Lines(), "m_0")
    family = MetricFamily._for_host(other)("a", "", families.GAUGE)
    family.Metric()
    assert host.metrics.text() == ""
