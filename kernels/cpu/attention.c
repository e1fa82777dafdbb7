#include "kernels/cpu/attention.h"

#include <math.h>

/* The softmax so far of a block of queries. */
typedef struct Online {
    float most[QUERIES], sum[QUERIES];
    float *out; /* [QUERIES][width] */
    int64_t width;
} Online;

/* Turns scores into probabilities relative to the new maximum and scales what was summed before. */
static void online_update(Online *o, int64_t rows, int64_t keys, float *s) {
    float most[QUERIES], shrink[QUERIES];
    int64_t padded = round_up(rows, VEC);
    memcpy(most, o->most, sizeof most);
    for (int64_t j = 0; j < keys; j++)
#pragma omp simd
        for (int64_t i = 0; i < padded; i++) most[i] = s[j * QUERIES + i] > most[i] ? s[j * QUERIES + i] : most[i];
#pragma omp simd
    for (int64_t i = 0; i < padded; i++) {
        float base = most[i] == -INFINITY ? 0.0f : most[i]; /* nothing seen yet: no NaN from -inf + inf */
        shrink[i] = vec_exp(o->most[i] - base);
        o->most[i] = most[i];
        most[i] = base;
        o->sum[i] *= shrink[i];
    }
    for (int64_t j = 0; j < keys; j++)
#pragma omp simd
        for (int64_t i = 0; i < padded; i++) {
            float e = vec_exp(s[j * QUERIES + i] - most[i]);
            s[j * QUERIES + i] = e;
            o->sum[i] += e;
        }
    for (int64_t i = 0; i < rows; i++)
        if (shrink[i] != 1.0f) row_scale(o->out + i * o->width, shrink[i], o->width);
}

static void write_out(const QueryBlock *b, const Online *o) {
    const AttentionArgs *a = b->a;
    for (int64_t i = 0; i < b->rows; i++) {
        int64_t row = b->first_query + b->at + i;
        float *out = head_row(a->out, row, b->head, a->dim);
        float share = o->sum[i] > 0.0f ? 1.0f / o->sum[i] : 0.0f;
        const float *from = o->out + i * o->width;
#pragma omp simd
        for (int64_t c = 0; c < a->dim; c++) out[c] = from[c] * share;
        if (tensor_present(a->lse))
            row_of(a->lse, row)[b->head] = o->sum[i] > 0.0f ? o->most[i] + logf(o->sum[i]) : -INFINITY;
    }
}

static void attend(const QueryBlock *b, float *tile) {
    const AttentionArgs *a = b->a;
    int64_t width = round_up(a->dim, VEC), seen = keys_seen(b);
    float *queries = tile, *s = queries + DIM_MAX * QUERIES, *padded = s + KEYS * QUERIES;
    Online o = {.out = padded + KEYS * DIM_MAX, .width = width};
    for (int i = 0; i < QUERIES; i++) o.most[i] = -INFINITY;
    memset(o.out, 0, (size_t)(QUERIES * width) * sizeof(float));
    attention_transpose(b, a->q, a->scale, queries);
    for (int64_t key = 0; key < seen; key += KEYS) {
        int64_t keys = least(KEYS, seen - key);
        attention_scores(b, queries, key, keys, s);
        online_update(&o, b->rows, keys, s);
        Operand v =
            attention_operand(a->v, b->first_key + key, keys, b->head / (a->heads / a->kv_heads), a->dim, padded);
        attention_query_product(b, key, keys,
                                (TileProduct){.n = (int)width,
                                              .a = s,
                                              .a_row = 1,
                                              .a_col = QUERIES,
                                              .b = v.data,
                                              .ldb = v.ld,
                                              .c = o.out,
                                              .ldc = width,
                                              .accumulate = true});
    }
    write_out(b, &o);
}

bool cpu_attention(Device *dev, const AttentionArgs *a, Error *err) {
    (void)err;
    int64_t blocks = (a->queries.longest + QUERIES - 1) / QUERIES;
    int64_t work = a->q.rows * a->heads * a->dim * a->keys.longest;
#pragma omp parallel for collapse(3) schedule(dynamic) if (work > PARALLEL_FROM * 8)
    for (int32_t s = 0; s < a->queries.count; s++)
        for (int h = 0; h < a->heads; h++)
            for (int64_t i = 0; i < blocks; i++) {
                int64_t first = a->queries.host[s], nq = a->queries.host[s + 1] - first, at = i * QUERIES;
                int64_t first_key = a->keys.host[s], nk = a->keys.host[s + 1] - first_key;
                if (at < nq)
                    attend(&(QueryBlock){.a = a,
                                         .first_query = first,
                                         .first_key = first_key,
                                         .nq = nq,
                                         .nk = nk,
                                         .at = at,
                                         .rows = least(QUERIES, nq - at),
                                         .head = h},
                           cpu_tile(dev));
            }
    return true;
}
