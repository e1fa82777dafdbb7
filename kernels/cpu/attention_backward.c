#include <math.h>

#include "kernels/cpu/attention.h"

/* A block of queries with all that the blocks of keys need of it, in a thread's tile. */
typedef struct Gradient {
    const AttentionBackwardArgs *b;
    QueryBlock block;
    float lse[QUERIES], along[QUERIES]; /* along: dout · out */
    float gate[QUERIES], dgate[QUERIES];
    float *queries, *douts; /* [dim][QUERIES], transposed */
    float *p, *ds;          /* [KEYS][QUERIES] */
    float *rows, *others;   /* room for padded operands, [KEYS][DIM_MAX] */
    float *sum;             /* room for a padded result, [KEYS][DIM_MAX] */
} Gradient;

static void gradient_begin(Gradient *g, float *tile) {
    const AttentionArgs *a = &g->b->forward;
    enum { BLOCK = KEYS * DIM_MAX };
    g->queries = tile;
    g->douts = tile + BLOCK;
    g->p = tile + 2 * BLOCK;
    g->ds = tile + 3 * BLOCK;
    g->rows = tile + 4 * BLOCK;
    g->others = tile + 5 * BLOCK;
    g->sum = tile + 6 * BLOCK;
    attention_transpose(&g->block, a->q, a->scale, g->queries);
    attention_transpose(&g->block, g->b->dout, 1.0f, g->douts);
    for (int64_t i = 0; i < QUERIES; i++) {
        bool real = i < g->block.rows;
        int64_t row = g->block.first_query + g->block.at + (real ? i : 0);
        float lse = row_of(a->lse, row)[g->block.head];
        g->lse[i] = real && lse != -INFINITY ? lse : INFINITY; /* exp(score - inf) = 0: no share in anything */
        g->along[i] = row_dot(head_row(g->b->dout, row, g->block.head, a->dim),
                              head_row(a->out, row, g->block.head, a->dim), a->dim);
        g->gate[i] = tensor_present(a->gate) ? row_of(a->gate, row)[g->block.head] : 1.0f;
        g->dgate[i] = 0.0f;
    }
}

typedef struct HeadRows {
    Tensor tensor;
    int64_t row, rows;
    int head;
} HeadRows;

typedef void BlockProduct(const QueryBlock *b, int64_t key, int64_t keys, TileProduct p);

/* Adds a·b to `rows` rows of one head of a tensor. */
static void add_product(Gradient *g, BlockProduct *product, int64_t key, int64_t keys, TileProduct p, HeadRows to) {
    int dim = g->b->forward.dim;
    p.n = (int)round_up(dim, VEC);
    if (p.n == dim) {
        p.c = head_row(to.tensor, to.row, to.head, dim);
        p.ldc = to.tensor.ld;
        p.accumulate = true;
        product(&g->block, key, keys, p);
        return;
    }
    p.c = g->sum;
    p.ldc = p.n;
    product(&g->block, key, keys, p);
    for (int64_t r = 0; r < to.rows; r++)
        row_add(head_row(to.tensor, to.row + r, to.head, dim), 1.0f, g->sum + r * p.n, dim);
}

static void bias_gradient(Gradient *g, int64_t key, int64_t keys) {
    const AttentionArgs *a = &g->b->forward;
    int64_t middle = (a->bias.cols - 1) / 2 + key - g->block.at, rows = g->block.rows;
    const float *bias = row_of(a->bias, g->block.head) + middle;
    float unscale = 1.0f / a->scale;
    float *dbias = tensor_present(g->b->dbias) ? row_of(g->b->dbias, g->block.head) + middle : NULL;
    for (int64_t j = 0; j < keys; j++) {
        const float *ds = g->ds + j * QUERIES; /* scaled, as the products want it; the bias is not */
        for (int64_t i = 0; i < rows; i++) g->dgate[i] += ds[i] * unscale * bias[j - i];
        for (int64_t i = 0; dbias && i < rows; i++) dbias[j - i] += ds[i] * unscale * g->gate[i];
    }
}

static void gradient_keys(Gradient *g, int64_t key, int64_t keys) {
    const AttentionArgs *a = &g->b->forward;
    int dim = a->dim, kv_head = g->block.head / (a->heads / a->kv_heads), width = (int)round_up(g->block.rows, VEC);
    int64_t row = g->block.first_key + key, query = g->block.first_query + g->block.at;
    attention_scores(&g->block, g->queries, key, keys, g->p);
    attention_score_product(&g->block, key, keys,
                            (TileProduct){.k = dim,
                                          .a = head_row(a->v, row, kv_head, dim),
                                          .a_row = a->v.ld,
                                          .a_col = 1,
                                          .b = g->douts,
                                          .ldb = QUERIES,
                                          .c = g->ds,
                                          .ldc = QUERIES});
    attention_fill_future(&g->block, key, keys, 0.0f, g->ds);
    for (int64_t j = 0; j < keys; j++) {
        float *p = g->p + j * QUERIES, *ds = g->ds + j * QUERIES;
#pragma omp simd
        for (int64_t i = 0; i < width; i++) {
            p[i] = vec_exp(p[i] - g->lse[i]);
            ds[i] = a->scale * p[i] * (ds[i] - g->along[i]);
        }
    }
    if (tensor_present(g->b->dbias) || tensor_present(g->b->dgate)) bias_gradient(g, key, keys);
    int64_t rows = g->block.rows;
    Operand dout = attention_operand(g->b->dout, query, rows, g->block.head, dim, g->rows);
    add_product(g, attention_key_product, key, keys,
                (TileProduct){.a = g->p, .a_row = QUERIES, .a_col = 1, .b = dout.data, .ldb = dout.ld},
                (HeadRows){g->b->dv, row, keys, kv_head});
    Operand q = attention_operand(a->q, query, rows, g->block.head, dim, g->rows);
    add_product(g, attention_key_product, key, keys,
                (TileProduct){.a = g->ds, .a_row = QUERIES, .a_col = 1, .b = q.data, .ldb = q.ld},
                (HeadRows){g->b->dk, row, keys, kv_head});
    Operand k = attention_operand(a->k, row, keys, kv_head, dim, g->others);
    add_product(g, attention_query_product, key, keys,
                (TileProduct){.a = g->ds, .a_row = 1, .a_col = QUERIES, .b = k.data, .ldb = k.ld},
                (HeadRows){g->b->dq, query, rows, g->block.head});
}

static void zero_head(Tensor t, int64_t first, int64_t rows, int head, int dim) {
    for (int64_t r = first; r < first + rows; r++) memset(head_row(t, r, head, dim), 0, (size_t)dim * sizeof(float));
}

/* All of a segment for one key head: its queries' heads one after the other, so that nobody else
 * writes to these columns and the order of adding is always the same. */
static void gradient_segment(const AttentionBackwardArgs *b, int32_t s, int kv_head, float *tile) {
    const AttentionArgs *a = &b->forward;
    int64_t first = a->queries.host[s], nq = a->queries.host[s + 1] - first;
    int64_t first_key = a->keys.host[s], nk = a->keys.host[s + 1] - first_key;
    int group = a->heads / a->kv_heads;
    zero_head(b->dk, first_key, nk, kv_head, a->dim);
    zero_head(b->dv, first_key, nk, kv_head, a->dim);
    for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
        zero_head(b->dq, first, nq, head, a->dim);
        for (int64_t at = 0; at < nq; at += QUERIES) {
            Gradient g = {.b = b,
                          .block = {.a = a,
                                    .first_query = first,
                                    .first_key = first_key,
                                    .nq = nq,
                                    .nk = nk,
                                    .at = at,
                                    .rows = least(QUERIES, nq - at),
                                    .head = head}};
            gradient_begin(&g, tile);
            int64_t seen = keys_seen(&g.block);
            for (int64_t key = 0; key < seen; key += KEYS) gradient_keys(&g, key, least(KEYS, seen - key));
            for (int64_t i = 0; tensor_present(b->dgate) && i < g.block.rows; i++)
                row_of(b->dgate, first + at + i)[head] = g.dgate[i];
        }
    }
}

static bool rotate_back(Device *dev, const AttentionBackwardArgs *b, Tensor x, int heads, Error *err) {
    RopeArgs args = {.x = x, .position = b->position, .table = b->rope, .heads = heads, .dim = b->forward.dim};
    args.inverse = true;
    return cpu_rope(dev, &args, err) || fail_in(err, "attention_backward");
}

static void gradients(Device *dev, const AttentionBackwardArgs *b) {
    const AttentionArgs *a = &b->forward;
    bool parallel = a->q.rows * a->heads * a->dim * a->keys.longest > PARALLEL_FROM * 4;
    if (tensor_present(b->dbias)) { /* shared by the segments: they take turns */
#pragma omp parallel for schedule(static) if (parallel)
        for (int h = 0; h < a->kv_heads; h++)
            for (int32_t s = 0; s < a->queries.count; s++) gradient_segment(b, s, h, cpu_tile(dev));
        return;
    }
#pragma omp parallel for collapse(2) schedule(dynamic) if (parallel)
    for (int32_t s = 0; s < a->queries.count; s++)
        for (int h = 0; h < a->kv_heads; h++) gradient_segment(b, s, h, cpu_tile(dev));
}

bool cpu_attention_backward(Device *dev, const AttentionBackwardArgs *b, Error *err) {
    gradients(dev, b);
    return !tensor_present(b->rope) ||
           (rotate_back(dev, b, b->dq, b->forward.heads, err) && rotate_back(dev, b, b->dk, b->forward.kv_heads, err));
}
