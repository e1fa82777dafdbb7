/* The KV cache: appending, copying, and attention of single queries over it. */
#include <math.h>

#include "kernels/cpu/attention.h"

static bool slot_fits(const char *op, int64_t i, int32_t slot, int64_t rows, Tensor cache, int64_t capacity,
                      Error *err) {
    if (slot >= 0 && slot < cache.rows / capacity && rows >= 0 && rows <= capacity) return true;
    return fail(err, "%s: entry %lld wants %lld rows of slot %d, the cache has %lld slots of %lld", op, (long long)i,
                (long long)rows, slot, (long long)(cache.rows / capacity), (long long)capacity);
}

bool cpu_cache_append(Device *dev, const CacheAppendArgs *a, Error *err) {
    (void)dev;
    for (int64_t i = 0; i < a->k.rows; i++) {
        int64_t rows = a->position[i] < 0 ? -1 : (int64_t)a->position[i] + 1;
        if (!slot_fits("cache_append", i, a->slot[i], rows, a->k_cache, a->capacity, err)) return false;
    }
    size_t bytes = (size_t)a->k.cols * sizeof(float);
    for (int64_t i = 0; i < a->k.rows; i++) {
        int64_t to = a->slot[i] * a->capacity + a->position[i];
        memcpy(row_of(a->k_cache, to), row_of(a->k, i), bytes);
        memcpy(row_of(a->v_cache, to), row_of(a->v, i), bytes);
    }
    return true;
}

/* Room for what is copied, since a slot may be both read and overwritten: as many rows as slots hold,
 * a column block at a time. */
enum { COPY_COLUMNS = 64 };

size_t cpu_cache_copy_scratch(const CacheCopyArgs *a) {
    return (size_t)(a->count * a->capacity * least(COPY_COLUMNS, a->k_cache.cols)) * sizeof(float);
}

static void copy_columns(const CacheCopyArgs *a, Tensor cache, int64_t first, int64_t width, float *room) {
    size_t bytes = (size_t)width * sizeof(float);
    for (int32_t i = 0; i < a->count; i++)
        for (int64_t r = 0; r < a->length[i]; r++)
            memcpy(room + (i * a->capacity + r) * width, row_of(cache, a->from[i] * a->capacity + r) + first, bytes);
    for (int32_t i = 0; i < a->count; i++)
        for (int64_t r = 0; r < a->length[i]; r++)
            memcpy(row_of(cache, a->to[i] * a->capacity + r) + first, room + (i * a->capacity + r) * width, bytes);
}

bool cpu_cache_copy(Device *dev, const CacheCopyArgs *a, Error *err) {
    for (int32_t i = 0; i < a->count; i++)
        if (!slot_fits("cache_copy", i, a->from[i], a->length[i], a->k_cache, a->capacity, err) ||
            !slot_fits("cache_copy", i, a->to[i], a->length[i], a->k_cache, a->capacity, err))
            return false;
    float *room = device_scratch(dev, cpu_cache_copy_scratch(a), err);
    if (!room) return fail_in(err, "cache_copy");
    for (int64_t c = 0; c < a->k_cache.cols; c += COPY_COLUMNS) {
        int64_t width = least(COPY_COLUMNS, a->k_cache.cols - c);
        copy_columns(a, a->k_cache, c, width, room);
        copy_columns(a, a->v_cache, c, width, room);
    }
    return true;
}

/* One query head over all its keys, a few at a time. */
static void attend_cached(const AttentionCachedArgs *a, int64_t r, int head) {
    int kv_head = head / (a->heads / a->kv_heads);
    int64_t first = a->slot[r] * a->capacity, length = a->length[r];
    const float *q = head_row(a->q, r, head, a->dim);
    float s[KEYS], sum = 0.0f, most = -INFINITY, out[DIM_MAX] = {0};
    for (int64_t key = 0; key < length; key += KEYS) {
        int64_t keys = least(KEYS, length - key);
        for (int64_t j = 0; j < keys; j++)
            s[j] = a->scale * row_dot(q, head_row(a->k_cache, first + key + j, kv_head, a->dim), a->dim);
        float higher = fmaxf(most, row_max(s, keys)), shrink = vec_exp(most - higher);
        row_scale(out, shrink, a->dim);
        sum *= shrink;
        most = higher;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < keys; j++) sum += s[j] = vec_exp(s[j] - higher);
        for (int64_t j = 0; j < keys; j++)
            row_add(out, s[j], head_row(a->v_cache, first + key + j, kv_head, a->dim), a->dim);
    }
    float *to = head_row(a->out, r, head, a->dim);
    for (int c = 0; c < a->dim; c++) to[c] = sum > 0.0f ? out[c] / sum : 0.0f;
}

bool cpu_attention_cached(Device *dev, const AttentionCachedArgs *a, Error *err) {
    (void)dev;
    for (int64_t r = 0; r < a->q.rows; r++)
        if (!slot_fits("attention_cached", r, a->slot[r], a->length[r], a->k_cache, a->capacity, err)) return false;
#pragma omp parallel for collapse(2) schedule(static) if (a->q.rows * a->q.cols * a->longest > PARALLEL_FROM * 4)
    for (int64_t r = 0; r < a->q.rows; r++)
        for (int h = 0; h < a->heads; h++) attend_cached(a, r, h);
    return true;
}
