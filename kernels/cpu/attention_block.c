#include <math.h>

#include "kernels/cpu/attention.h"

void attention_transpose(const QueryBlock *b, Tensor t, float scale, float *to) {
    int dim = b->a->dim;
    tile_transpose(to, QUERIES, head_row(t, b->first_query + b->at, b->head, dim), t.ld, (int)b->rows, dim,
                   (int)round_up(b->rows, VEC));
    if (scale == 1.0f) return;
    for (int c = 0; c < dim; c++) row_scale(to + c * QUERIES, scale, round_up(b->rows, VEC));
}

Operand attention_operand(Tensor t, int64_t row, int64_t rows, int head, int dim, float *room) {
    if (dim % VEC == 0) return (Operand){head_row(t, row, head, dim), t.ld};
    int64_t width = round_up(dim, VEC);
    for (int64_t r = 0; r < rows; r++) {
        memcpy(room + r * width, head_row(t, row + r, head, dim), (size_t)dim * sizeof *room);
        memset(room + r * width + dim, 0, (size_t)(width - dim) * sizeof *room);
    }
    return (Operand){room, width};
}

static void add_bias(const QueryBlock *b, int64_t key, int64_t keys, float *s) {
    const AttentionArgs *a = b->a;
    /* Backwards from the bias of the first query: the next query is one place further left. */
    const float *bias = row_of(a->bias, b->head) + (a->bias.cols - 1) / 2 + key - b->at;
    float gate[QUERIES];
    for (int64_t i = 0; i < b->rows; i++)
        gate[i] = tensor_present(a->gate) ? row_of(a->gate, b->first_query + b->at + i)[b->head] : 1.0f;
    for (int64_t j = 0; j < keys; j++, s += QUERIES, bias++)
#pragma omp simd
        for (int64_t i = 0; i < b->rows; i++) s[i] += gate[i] * bias[-i];
}

/* How many of `keys` keys from `key` on query i of the block sees. */
static int64_t keys_of(const QueryBlock *b, int64_t key, int64_t keys, int64_t i) {
    if (!b->a->causal) return keys;
    int64_t seen = b->nk - b->nq + b->at + i + 1 - key;
    return seen < 0 ? 0 : least(seen, keys);
}

/* The first query of the block that sees key `key`. */
static int64_t query_of(const QueryBlock *b, int64_t key) {
    if (!b->a->causal) return 0;
    int64_t blind = key - (b->nk - b->nq) - b->at;
    return blind < 0 ? 0 : least(blind, b->rows);
}

void attention_fill_future(const QueryBlock *b, int64_t key, int64_t keys, float value, float *s) {
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < query_of(b, key + j); i++) s[j * QUERIES + i] = value;
}

void attention_score_product(const QueryBlock *b, int64_t key, int64_t keys, TileProduct p) {
    int width = (int)round_up(b->rows, VEC);
    for (int first = 0; first < width; first += STRIP) {
        TileProduct part = p;
        part.n = width - first < STRIP ? width - first : STRIP;
        part.m = (int)keys_of(b, key, keys, first + part.n - 1);
        part.b += first;
        part.c += first;
        tile_product(&part);
    }
}

void attention_query_product(const QueryBlock *b, int64_t key, int64_t keys, TileProduct p) {
    int step = b->a->causal ? ROWS : QUERIES;
    for (int first = 0; first < b->rows; first += step) {
        TileProduct part = p;
        part.m = (int)least(step, b->rows - first);
        part.k = (int)keys_of(b, key, keys, first + part.m - 1);
        part.a += first * p.a_row;
        part.c += first * p.ldc;
        tile_product(&part);
    }
}

void attention_key_product(const QueryBlock *b, int64_t key, int64_t keys, TileProduct p) {
    int step = b->a->causal ? ROWS : KEYS;
    for (int first = 0; first < keys; first += step) {
        TileProduct part = p;
        int64_t query = query_of(b, key + first);
        part.m = (int)least(step, keys - first);
        part.k = (int)(b->rows - query);
        part.a += first * p.a_row + query * p.a_col;
        part.b += query * p.ldb;
        part.c += first * p.ldc;
        tile_product(&part);
    }
}

void attention_scores(const QueryBlock *b, const float *queries, int64_t key, int64_t keys, float *s) {
    const AttentionArgs *a = b->a;
    int kv_head = b->head / (a->heads / a->kv_heads);
    attention_score_product(b, key, keys,
                            (TileProduct){.k = a->dim,
                                          .a = head_row(a->k, b->first_key + key, kv_head, a->dim),
                                          .a_row = a->k.ld,
                                          .a_col = 1,
                                          .b = queries,
                                          .ldb = QUERIES,
                                          .c = s,
                                          .ldc = QUERIES});
    if (tensor_present(a->bias)) add_bias(b, key, keys, s);
    attention_fill_future(b, key, keys, -INFINITY, s);
}
