"""Values of tritonserver's flags; its own words are compared in tests/conformance."""

import pytest

from triton_stub.cli import values


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (values.boolean, "TRUE", True),
        (values.boolean, "on", True),
        (values.boolean, "0", False),
        (values.boolean, "Off", False),
        (values.integer, "-12", -12),
        (values.integer, "+12", 12),
        (values.verbosity, "true", 1),
        (values.verbosity, "False", 0),
        (values.verbosity, "3", 3),
        (values.port, "0", 0),
        (values.port, "65535", 65535),
        (values.size, "4294967296", 2**32),
        (values.pattern, "^x-", "^x-"),
        (values.seconds, "0", 0),
        (values.seconds, "0.25", 0.25),
        (values.cache_setting, "local,size=1=2", ("local", "size", "1=2")),
        (values.metrics_setting, "a=1,b=2", ("a", "1,b=2")),
        (values.trace_setting, "rate=1", ("", "rate", "1")),
        (values.trace_setting, "Triton,file=a,b=c", ("triton", "file", "a,b=c")),
        (values.trace_level, "min", "TIMESTAMPS"),
        (values.trace_level, "tensors", "TENSORS"),
        (values.trace_level, "False", "OFF"),
        (values.choice("--x", "one", "two"), "TWO", "two"),
    ],
)
def test_what_they_mean(convert, text, value):
    assert convert(text) == value


@pytest.mark.parametrize(
    ("convert", "text", "told"),
    [
        (values.boolean, "yes", "invalid value for bool option: yes (expected true or false)"),
        (values.integer, "", "Invalid option value. Got "),
        (values.integer, "1.5", "Invalid option value. Got 1.5"),
        (values.integer, "1_0", "Invalid option value. Got 1_0"),
        (values.integer, "12abc", "Invalid option value. Got 12abc"),
        (values.integer, "2147483648", "Provided option value is out of bound. Got 2147483648"),
        (values.port, "65536", "expected 1 to 65535, or 0 for a free port; got 65536"),
        (values.port, "-1", "expected 1 to 65535, or 0 for a free port; got -1"),
        (values.size, "0", "Error: --http-max-input-size must be greater than 0."),
        (values.size, "x", "Invalid option value. Got x"),
        (
            values.pattern,
            "(",
            "expected a regular expression, got (: missing ), unterminated "
            "subpattern at position 0",
        ),
        (values.seconds, "-1", "expected a number of seconds, 0 or more; got -1"),
        (values.seconds, "inf", "Invalid option value. Got inf"),
        (values.seconds, "nan", "Invalid option value. Got nan"),
        (values.seconds, "1e30", "Provided option value is out of bound. Got 1e30"),
        (
            values.choice("--x", "ONE", "Two", "3", fold=False),
            "one",
            "invalid argument for --x (expected ONE, Two or 3)",
        ),
        (values.trace_level, "x", "invalid value for trace level option: x"),
    ],
)
def test_what_they_may_not_be(convert, text, told):
    with pytest.raises(ValueError, match=r".*") as caught:
        convert(text)
    assert str(caught.value) == told
