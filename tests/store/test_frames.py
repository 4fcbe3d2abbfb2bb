"""The kernel decodes Blosc frames as Blosc does, and leaves to Blosc what it does not know."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import blosc

from cytolabe.store.array_spec import ArraySpec
from cytolabe.store.frames import decode_frame
from cytolabe.store.gaps import is_sealed
from cytolabe.store.native import decoder, is_native
from cytolabe.store.shards import encode_shard, sealed_frame

pytestmark = pytest.mark.skipif(not is_native(), reason="no zstd library shows its functions here")


def decoded(frame, n_values):
    values = np.full(n_values, 7, dtype=np.uint32)
    done = decode_frame(
        np.frombuffer(frame, dtype=np.uint8), decoder(), (np.empty(4 * n_values, dtype=np.uint8), values)
    )
    return values if done else None


@given(
    seed=st.integers(0, 99),
    size=st.sampled_from([1, 2, 4]),
    n_values=st.sampled_from([1, 3, 64, 1000, 16_384, 40_000]),
    largest=st.sampled_from([1, 3, 200, 60_000]),
    shuffle=st.sampled_from([blosc.NOSHUFFLE, blosc.SHUFFLE, blosc.BITSHUFFLE]),
    compressor=st.sampled_from([b"zstd", b"lz4"]),
)
@settings(max_examples=120, deadline=None)
def test_the_kernel_decodes_what_blosc_decodes_or_declines(seed, size, n_values, largest, shuffle, compressor):
    kind = np.dtype(f"u{size}")
    values = np.random.default_rng(seed).integers(0, min(largest, np.iinfo(kind).max), n_values, endpoint=True)
    frame = blosc.compress(values.astype(kind), compressor, 1, shuffle, 0)
    found = decoded(frame, n_values)
    is_ours = compressor == b"zstd" and shuffle == blosc.SHUFFLE and n_values >= 64
    assert found is not None or not is_ours
    if found is not None:
        assert np.array_equal(found, values)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_frame_with_any_bytes_in_it_never_reads_or_writes_beyond_its_buffers(data):
    values = np.random.default_rng(1).integers(0, 500, 3000).astype(np.uint16)
    frame = bytearray(blosc.compress(values, b"zstd", 1, blosc.SHUFFLE, 2048))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, min(60, len(frame) - 1)))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(frame)))
    decoded(bytes(frame[:cut]) or b"x", 3000)


def test_one_flipped_bit_breaks_the_checksum_of_a_frame():
    frame = np.frombuffer(sealed_frame(np.arange(500, dtype=np.uint16)), dtype=np.uint8)
    assert is_sealed(frame)
    for position in range(len(frame)):
        damaged = frame.copy()
        damaged[position] ^= 4
        assert not is_sealed(damaged)


def test_small_partitions_are_given_more_time_and_read_by_the_kernel_as_the_others_are():
    values = np.random.default_rng(0).geometric(0.6, size=40_000).astype(np.uint8)
    small = ArraySpec(dtype=np.dtype("u1"), n_values=len(values))
    large = ArraySpec(dtype=np.dtype("u1"), n_values=1 << 21)
    assert (small.level, large.level) == (7, 1)
    frames = [encode_shard(values, spec) for spec in (small, large)]
    assert len(frames[0]) < 0.95 * len(frames[1])
    frame = np.frombuffer(sealed_frame(values[:16_384], level=7), dtype=np.uint8)[:-4]
    decoded = np.zeros(16_384, dtype=np.uint32)
    assert decode_frame(frame, decoder(), (np.zeros(16_384, dtype=np.uint8), decoded))
    assert np.array_equal(decoded, values[:16_384])
