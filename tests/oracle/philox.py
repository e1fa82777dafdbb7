"""Random numbers as base/rng.h makes them, so that C and Python draw the same weights and waves."""

import numpy as np

PLACE_INIT = 0x1000


def words(key, count, place, sample, step=0):
    """Words 0 .. count-1 of the stream {i / 4, place, sample, step}."""
    n = (count + 3) // 4
    c = [np.arange(n, dtype=np.uint32)] + [np.full(n, v, np.uint32) for v in (place, sample, step)]
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c[0].astype(np.uint64)
        p1 = np.uint64(0xCD9E8D57) * c[2].astype(np.uint64)
        high0, high1 = (p0 >> np.uint64(32)).astype(np.uint32), (p1 >> np.uint64(32)).astype(np.uint32)
        c = [high1 ^ c[1] ^ np.uint32(k0), p1.astype(np.uint32), high0 ^ c[3] ^ np.uint32(k1), p0.astype(np.uint32)]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, 1).reshape(-1)[:count]


def uniform(key, count, place, sample, step=0):
    """rng_uniform: float32 arithmetic, the half added included."""
    high = (words(key, count, place, sample, step) >> np.uint32(8)).astype(np.float32)
    return (high + np.float32(0.5)) * np.float32(2.0**-24)


def signed(key, count, place, sample, offset=0.0, scale=1.0):
    """offset + scale · (2u - 1), rounded once to float32."""
    return (offset + scale * (2.0 * uniform(key, count, place, sample).astype(np.float64) - 1.0)).astype(np.float32)
