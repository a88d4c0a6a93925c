"""Values survive the wire; bytes that are no value are refused and nothing else happens."""

from __future__ import annotations

import contextlib
import math
import os
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.sandbox.inside.wire import (
    MAX_DEPTH,
    EndOfStream,
    FrameBuffer,
    FrameTooLong,
    Opaque,
    WireError,
    decode,
    encode,
    frame,
    read_frame,
    write_all,
)

hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
    | st.fractions()
    | st.decimals(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(hashable, inner, max_size=3) | st.sets(hashable, max_size=3)
    ),
    max_leaves=10,
)


@given(values)
@settings(deadline=None)
def test_values_survive(value: object) -> None:
    again = decode(encode(value))

    assert again == value
    assert type(again) is type(value)


def test_values_that_equality_does_not_tell_apart() -> None:
    assert math.isnan(decode(encode(math.nan)))
    assert math.copysign(1, decode(encode(-0.0))) == -1
    assert decode(encode(True)) is True
    assert type(decode(encode(Decimal("1.0")))) is Decimal
    assert type(decode(encode(Fraction(2)))) is Fraction
    assert decode(encode("\ud800")) == "\ud800"
    assert list(decode(encode({"b": 1, "a": 2}))) == ["b", "a"]
    assert decode(encode(16**5000)) == 16**5000


def test_opaque_keeps_its_name_and_truth() -> None:
    opaque = decode(encode([Opaque("map", False)]))[0]

    assert (opaque.type_name, bool(opaque)) == ("map", False)
    assert opaque == opaque
    assert opaque != Opaque("map", False)


@given(st.binary(max_size=40))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    with contextlib.suppress(WireError):
        decode(data)


@given(values, st.data())
@settings(deadline=None)
def test_spoilt_bytes_are_a_value_or_refused(value: object, data: st.DataObject) -> None:
    spoilt = bytearray(encode(value))
    place = data.draw(st.integers(0, len(spoilt) - 1))
    spoilt[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        decode(bytes(spoilt))


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"i", b"i1", b"NN", b"s5:abc", b"l2:N", b"l99999999999:N", b"l-1:", b"S1:l0:", b"s1:\xff", b"d1:Ns0:N"],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode(data)


def test_depth_is_bounded_both_ways() -> None:
    deep: list[object] = []
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]

    with pytest.raises(WireError, match="nested deeper"):
        encode(deep)
    with pytest.raises(WireError, match="nested deeper"):
        decode(b"l1:" * (MAX_DEPTH + 2) + b"N")


@pytest.mark.parametrize("value", [object(), range(3), type("L", (list,), {})()])
def test_what_is_not_plain_is_refused(value: object) -> None:
    with pytest.raises(WireError, match="is not plain"):
        encode(value)


def test_frames_through_a_pipe() -> None:
    source, target = os.pipe()
    try:
        write_all(target, frame([1, "two"]) + frame(None))

        assert read_frame(source, 100) == [1, "two"]
        assert read_frame(source, 100) is None

        write_all(target, frame("x" * 200))
        with pytest.raises(FrameTooLong):
            read_frame(source, 100)
    finally:
        os.close(target)
    os.read(source, 1000)
    with pytest.raises(EndOfStream):
        read_frame(source, 100)
    os.close(source)


def test_frames_in_pieces() -> None:
    buffer = FrameBuffer(100)
    found = []
    for byte in frame("one") + frame("two"):
        buffer.feed(bytes([byte]))
        data = buffer.take()
        if data is not None:
            found.append(decode(data))

    assert found == ["one", "two"]
    assert not buffer

    buffer.feed((101).to_bytes(4, "big"))
    with pytest.raises(FrameTooLong):
        buffer.take()
