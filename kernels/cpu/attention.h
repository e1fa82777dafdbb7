/* What attention's forward and backward share: a block of queries of one head, and its scores
 * against a block of keys. Scores lie transposed, keys as rows, so that the softmax works on vectors
 * of queries and the keys and values are read where they are. Private to kernels/cpu/. */
#ifndef SEMOLLM_KERNELS_CPU_ATTENTION_H
#define SEMOLLM_KERNELS_CPU_ATTENTION_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/rows.h"

enum { QUERIES = 64, KEYS = 96, DIM_MAX = 128 };
enum { STRIP = 2 * VEC, ROWS = 24 }; /* causal products leave out what is masked in strips of these */

/* Queries at .. at+rows-1 (counted from the segment's first) of head `head`. */
typedef struct QueryBlock {
    const AttentionArgs *a;
    int64_t first_query, first_key; /* the segment's first rows */
    int64_t nq, nk;
    int64_t at, rows;
    int head;
} QueryBlock;

/* How many keys, from the segment's first, any query of the block sees. */
static inline int64_t keys_seen(const QueryBlock *b) {
    if (!b->a->causal) return b->nk;
    int64_t seen = b->nk - b->nq + b->at + b->rows;
    return seen < 0 ? 0 : least(seen, b->nk);
}

static inline float *head_row(Tensor t, int64_t row, int head, int dim) { return row_of(t, row) + (int64_t)head * dim; }

/* to[dim][QUERIES] = the block's rows of t, transposed, times `scale`. */
void attention_transpose(const QueryBlock *b, Tensor t, float scale, float *to);

/* s[j][i] = k_j · queries_i + gate_i · bias, for keys key .. key+keys-1; -inf where masked. `queries`
 * are transposed and scaled. */
void attention_scores(const QueryBlock *b, const float *queries, int64_t key, int64_t keys, float *s);

/* s[j][i] = value wherever query i does not see key j. */
void attention_fill_future(const QueryBlock *b, int64_t key, int64_t keys, float value, float *s);

/* Products over the pairs of the block's queries and the keys from `key` on, without most of those
 * that are masked. c[keys, queries] (what is left out is not written), */
void attention_score_product(const QueryBlock *b, int64_t key, int64_t keys, TileProduct p);
/* c[queries, n] = a[queries, keys]·b[keys, n], and */
void attention_query_product(const QueryBlock *b, int64_t key, int64_t keys, TileProduct p);
/* c[keys, n] = a[keys, queries]·b[queries, n], where a holds zeros for masked pairs. */
void attention_key_product(const QueryBlock *b, int64_t key, int64_t keys, TileProduct p);

/* Rows of one head as an operand of a product: where they are, or in `room` if they must be padded. */
typedef struct Operand {
    const float *data;
    ptrdiff_t ld;
} Operand;

Operand attention_operand(Tensor t, int64_t row, int64_t rows, int head, int dim, float *room);

#endif
