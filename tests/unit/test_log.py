"""The server's log."""

import io
import os
import re
import threading

import pytest

from triton_stub.core.log import Log
from triton_stub.pb_utils.logger import LogLevel


def lines(log):
    return str(log).splitlines()


def test_a_line_has_the_servers_format():
    log = Log()
    log.write(LogLevel.WARNING, "careful", "/models/m/1/model.py", 7)
    assert re.fullmatch(
        rf'W\d{{4}} \d\d:\d\d:\d\d\.\d{{6}} {os.getpid()} model\.py:7\] "careful"', str(log)
    )


def test_a_line_that_no_server_listens_to_is_as_the_model_s_process_prints_it():
    log = Log()
    log.write_early(LogLevel.VERBOSE, 'say "it"\nonce', "/models/m/1/model.py", 7)
    first, second = lines(log)
    assert re.fullmatch(
        rf'I\d{{4}} \d\d:\d\d:\d\d\.\d{{6}} {os.getpid()} model\.py:7\]  say "it"', first
    )
    assert second == "once"
    assert log.records()[0].early


@pytest.mark.parametrize(
    ("level", "letter"),
    [
        (LogLevel.INFO, "I"),
        (LogLevel.WARNING, "W"),
        (LogLevel.ERROR, "E"),
        (LogLevel.VERBOSE, "I"),
    ],
)
def test_letter_of_a_level(level, letter):
    log = Log(verbose=True)
    log.write(level, "x", "f", 1)
    assert str(log).startswith(letter)


def test_a_message_stays_on_one_line_and_readable():
    log = Log()
    log.write(LogLevel.INFO, 'a\nb\t"c" \\ é漢', "f", 1)
    assert str(log).endswith(r'"a\nb\t\"c\" \\ é漢"')


def test_verbose_lines_need_a_verbose_log():
    log = Log()
    log.write(LogLevel.VERBOSE, "x", "f", 1)
    assert log.records() == []


def test_a_note_has_the_place_that_wrote_it():
    log = Log()
    log.note(LogLevel.INFO, "here")
    (record,) = log.records()
    assert record.file == "test_log.py"
    assert record.line == test_a_note_has_the_place_that_wrote_it.__code__.co_firstlineno + 2


def test_echo_prints_the_same_lines():
    echo = io.StringIO()
    log = Log(echo=echo)
    log.note(LogLevel.INFO, "one")
    log.note(LogLevel.ERROR, "two")
    assert echo.getvalue().splitlines() == lines(log)


def test_an_echo_that_is_closed_harms_nobody():
    echo = io.StringIO()
    echo.close()
    log = Log(echo=echo)
    log.note(LogLevel.INFO, "one")
    assert len(log.records()) == 1


def test_records_are_a_copy():
    log = Log()
    log.records().append("x")
    assert log.records() == []


def test_threads_do_not_mix_lines():
    echo = io.StringIO()
    log = Log(echo=echo)
    writers = [
        threading.Thread(target=lambda: [log.note(LogLevel.INFO, "word " * 20) for _ in range(50)])
        for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(log.records()) == 200
    assert echo.getvalue().splitlines() == lines(log)


def test_only_the_newest_lines_are_kept(monkeypatch):
    monkeypatch.setattr("triton_stub.core.log._KEPT", 3)
    log = Log()
    for number in range(5):
        log.note(LogLevel.INFO, str(number))
    assert [record.message for record in log.records()] == ["2", "3", "4"]


def test_an_object_that_logs_when_it_is_collected():
    class Echo(io.StringIO):
        def write(self, text):
            # As a garbage collection in the middle of a line may.
            if "first" in text:
                log.note(LogLevel.INFO, "second")
            return super().write(text)

    log = Log(echo=Echo())
    log.note(LogLevel.INFO, "first")
    assert [record.message for record in log.records()] == ["first", "second"]


def test_what_a_forked_worker_logs_does_not_get_here(monkeypatch):
    log = Log()
    monkeypatch.setattr("os.getpid", lambda: -1)
    log.note(LogLevel.INFO, "from elsewhere")
    assert log.records() == []
