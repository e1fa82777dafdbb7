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

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

static inline Four folded(Vec v) {
    Four sum = *(const Four *)&v;
    for (int i = 4; i < VEC; i += 4) sum += *(const Four *)((const float *)&v + i);
    return sum;
}

/* s[j] = q · k_j for four keys, whose sums over lanes are taken together. */
static inline void four_dots(const float *q, const float *k, int64_t ld, int dim, float *s) {
    Vec a = {0}, b = {0}, c = {0}, d = {0};
    for (int i = 0; i < dim; i += VEC) {
        Vec x = *(const Vec *)(q + i);
        a += x * *(const Vec *)(k + i);
        b += x * *(const Vec *)(k + ld + i);
        c += x * *(const Vec *)(k + 2 * ld + i);
        d += x * *(const Vec *)(k + 3 * ld + i);
    }
    Four e = folded(a), f = folded(b), g = folded(c), h = folded(d);
    Four ef = __builtin_shufflevector(e, f, 0, 4, 1, 5) + __builtin_shufflevector(e, f, 2, 6, 3, 7);
    Four gh = __builtin_shufflevector(g, h, 0, 4, 1, 5) + __builtin_shufflevector(g, h, 2, 6, 3, 7);
    *(Four *)s = __builtin_shufflevector(ef, gh, 0, 1, 4, 5) + __builtin_shufflevector(ef, gh, 2, 3, 6, 7);
}

static void cached_scores(const AttentionCachedArgs *a, const float *q, const float *k, int64_t keys, float *s) {
    int64_t fours = a->dim % VEC == 0 ? keys / 4 * 4 : 0, ld = a->k_cache.ld;
    for (int64_t j = 0; j < fours; j += 4) four_dots(q, k + j * ld, ld, a->dim, s + j);
    for (int64_t j = fours; j < keys; j++) s[j] = row_dot(q, k + j * ld, a->dim);
    row_scale(s, a->scale, keys);
}

/* Query heads of a row that share a key head, so that keys and values are read once for them. */
enum { SHARING = 8 };

typedef struct CachedRow {
    float most[SHARING], sum[SHARING];
    float *s;   /* [SHARING][KEYS] */
    float *out; /* [SHARING][width] */
    int64_t width;
} CachedRow;

static void cached_softmax(CachedRow *c, int head, int64_t keys) {
    float *s = c->s + head * KEYS, *out = c->out + head * c->width;
    float most = fmaxf(c->most[head], row_max(s, keys)), sum = 0.0f;
    float shrink = vec_exp(c->most[head] - most);
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < keys; j++) {
        float e = vec_exp(s[j] - most);
        s[j] = e;
        sum += e;
    }
    if (shrink != 1.0f) row_scale(out, shrink, c->width);
    c->sum[head] = c->sum[head] * shrink + sum;
    c->most[head] = most;
}

static void attend_cached(const AttentionCachedArgs *a, int64_t r, int head, int heads, float *tile) {
    int kv_head = head / (a->heads / a->kv_heads);
    int64_t first = a->slot[r] * a->capacity, length = a->length[r], width = round_up(a->dim, VEC);
    CachedRow c = {.s = tile, .out = tile + SHARING * KEYS, .width = width};
    float *padded = c.out + SHARING * DIM_MAX;
    for (int h = 0; h < heads; h++) c.most[h] = -INFINITY;
    memset(c.out, 0, (size_t)(heads * width) * sizeof *c.out);
    for (int64_t key = 0; key < length; key += KEYS) {
        int64_t keys = least(KEYS, length - key);
        const float *k = head_row(a->k_cache, first + key, kv_head, a->dim);
        for (int h = 0; h < heads; h++) {
            cached_scores(a, head_row(a->q, r, head + h, a->dim), k, keys, c.s + h * KEYS);
            cached_softmax(&c, h, keys);
        }
        Operand v = attention_operand(a->v_cache, first + key, keys, kv_head, a->dim, padded);
        tile_product(&(TileProduct){.m = heads,
                                    .n = (int)width,
                                    .k = (int)keys,
                                    .a = c.s,
                                    .a_row = KEYS,
                                    .a_col = 1,
                                    .b = v.data,
                                    .ldb = v.ld,
                                    .c = c.out,
                                    .ldc = width,
                                    .accumulate = true});
    }
    for (int h = 0; h < heads; h++) {
        float *to = head_row(a->out, r, head + h, a->dim), share = c.sum[h] > 0.0f ? 1.0f / c.sum[h] : 0.0f;
        for (int i = 0; i < a->dim; i++) to[i] = c.out[h * width + i] * share;
    }
}

bool cpu_attention_cached(Device *dev, const AttentionCachedArgs *a, Error *err) {
    for (int64_t r = 0; r < a->q.rows; r++)
        if (!slot_fits("attention_cached", r, a->slot[r], a->length[r], a->k_cache, a->capacity, err)) return false;
    int group = a->heads / a->kv_heads, together = group < SHARING ? group : SHARING;
    int parts = (group + together - 1) / together;
#pragma omp parallel for collapse(3) schedule(dynamic) if (a->q.rows * a->q.cols * a->longest > PARALLEL_FROM * 4)
    for (int64_t r = 0; r < a->q.rows; r++)
        for (int h = 0; h < a->kv_heads; h++)
            for (int i = 0; i < parts; i++) {
                int from = i * together, heads = group - from < together ? group - from : together;
                attend_cached(a, r, h * group + from, heads, cpu_tile(dev));
            }
    return true;
}
