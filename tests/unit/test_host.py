"""What instances share of a server."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from triton_stub.core.host import InstanceHost, ServerHost
from triton_stub.core.log import Log
from triton_stub.errors import ServerError


def test_an_instance_is_where_it_has_entered():
    host = InstanceHost(ServerHost(Log()), "m_0", "m")
    assert not host.is_here()
    host.enter()
    assert host.is_here()
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(host.is_here).result()


def test_nothing_is_known_of_the_model_s_own_threads_before_it_is_told():
    assert not InstanceHost(ServerHost(Log()), "m_0", "m").is_alone()


@pytest.mark.parametrize("explicit", [True, False])
def test_models_are_loaded_on_request_or_not(explicit):
    server = ServerHost(Log(), explicit=explicit)
    if explicit:
        server.check_explicit()
    else:
        with pytest.raises(ServerError, match="not allowed if polling is enabled"):
            server.check_explicit()


def test_a_server_that_was_not_started_starts_no_thread():
    before = threading.active_count()
    ServerHost(Log()).door.close()
    assert threading.active_count() == before
