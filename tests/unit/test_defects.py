"""What becomes of an error that nobody has foreseen."""

from triton_stub.core.log import Log, LogSettings
from triton_stub.endpoints.defects import defect
from triton_stub.errors import StatusCode


def test_the_client_is_told_what_and_the_log_where():
    log = Log(LogSettings())
    try:
        {}["nothing"]
    except KeyError as error:
        told = defect(log, error)
    assert told.code is StatusCode.INTERNAL
    assert "KeyError: 'nothing'. This is a defect of triton_stub" in told.message
    assert "test_the_client_is_told_what_and_the_log_where" in str(log)
