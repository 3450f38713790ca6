"""Ids and names over HTTP that are no plain text: any bytes, and what is behind a zero."""

from __future__ import annotations

import pytest
from test_http_errors import same

A = b'{"name":"A","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}'
B = A.replace(b'"A"', b'"B"')
BOTH = b'"inputs":[%s,%s]' % (A, B)
ODD_BYTES = {
    "an id": b'{"id":"\xc3\xa9\xff",%s}' % BOTH,
    "an id up to a zero": b'{"id":"a\\u0000b",%s}' % BOTH,
    "an id of a pair": b'{"id":"\\ud83d\\ude00",%s}' % BOTH,
    "an id of half a pair": b'{"id":"\\ud83d",%s}' % BOTH,
    "an id beside what is refused": b'{"id":"\xff\xc3\xa9","inputs":[%s,%s]}' % (A, A),
    "an input": b"{%s}" % BOTH.replace(b'"A"', b'"\xffA"'),
    "an input in UTF-8": b"{%s}" % BOTH.replace(b'"A"', b'"A\xc3\xa9"'),
    "an input up to a zero": b"{%s}" % BOTH.replace(b'"A"', b'"A\\u0000x"'),
    "a datatype": b"{%s}" % BOTH.replace(b"FP32", b"FP\xff"),
    "a datatype up to a zero": b"{%s}" % BOTH.replace(b"FP32", b"FP32\\u0000x"),
    "an output": b'{%s,"outputs":[{"name":"SUM\xff"}]}' % BOTH,
    "an output up to a zero": b'{%s,"outputs":[{"name":"SUM\\u0000x"}]}' % BOTH,
    "a region": (
        b'{%s,"outputs":[{"name":"SUM","parameters":'
        b'{"shared_memory_region":"\xff\xc3\xa9","shared_memory_byte_size":16}}]}' % BOTH
    ),
    "a parameter": b'{%s,"parameters":{"k\xff":"v\xff\xc3\xa9"}}' % BOTH,
    "a parameter up to a zero": b'{%s,"parameters":{"k\\u0000x":1}}' % BOTH,
    "a sequence": b'{%s,"parameters":{"sequence_id":"\xff\\u0000"}}' % BOTH,
}


@pytest.mark.rule("5.4-names")
@pytest.mark.parametrize("body", ODD_BYTES.values(), ids=ODD_BYTES)
def test_odd_bytes(both_urls: tuple[str, str], body: bytes) -> None:
    same(both_urls, "POST", "/v2/models/add/infer", body)
