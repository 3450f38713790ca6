"""tritonserver's flags: those that do nothing here, and those that are refused."""

import pytest
from cli_process import parsed, refused

from triton_stub.cli import flags


@pytest.mark.parametrize("flag", flags.NO_EFFECT)
def test_what_only_tunes_is_taken_with_a_note(flag):
    assert parsed().notes == []
    assert parsed(f"{flag}=1").notes == [f"{flag} has no effect: {flags.NO_EFFECT[flag]}"]
    assert len(parsed(f"{flag}=1", flag, "2").notes) == 1


@pytest.mark.parametrize("flag", flags.REFUSED)
def test_what_is_not_imitated_is_refused(flag, capsys):
    harmless, why = flags.REFUSED[flag]
    value = "text" if harmless is None else str(not harmless)
    assert f"{flag} is refused: {why}" in refused(capsys, "serve", "models", f"{flag}={value}")


@pytest.mark.parametrize(
    "flag", [flag for flag, (value, _) in flags.REFUSED.items() if value is not None]
)
def test_what_happens_anyway_may_be_asked_for(flag, capsys):
    harmless, _ = flags.REFUSED[flag]
    assert parsed(f"{flag}={harmless}").notes == []
    assert "invalid value for bool option: x" in refused(capsys, "serve", "models", f"{flag}=x")


def test_no_flag_is_in_two_tables():
    assert not flags.NO_EFFECT.keys() & flags.REFUSED.keys()
