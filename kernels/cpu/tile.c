/* The small matrix product: a block of MR rows by two vectors stays in registers over all of k. */
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/vec.h"

#if defined(__AVX512F__)
enum { MR = 12 };
#else
enum { MR = 6 };
#endif

typedef struct Block {
    const float *a, *b;
    float *c;
    ptrdiff_t a_row, a_col, ldb, ldc, a_tap, b_tap;
    int k, taps;
    bool accumulate;
} Block;

/* `rows` and `vectors` are constants wherever this is inlined, so that the loops over them unroll. */
__attribute__((always_inline)) static inline void block_product(const Block *p, int rows, int vectors) {
    Vec sum[MR][2];
    ptrdiff_t a_row = p->a_row, a_col = p->a_col, ldb = p->ldb;
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = p->accumulate ? *(const Vec *)(p->c + i * p->ldc + v * VEC) : (Vec){0};
    for (int tap = 0; tap < p->taps; tap++) {
        const float *a = p->a + tap * p->a_tap, *b = p->b + tap * p->b_tap;
        for (int k = 0; k < p->k; k++) {
            Vec b0 = *(const Vec *)b, b1 = vectors > 1 ? *(const Vec *)(b + VEC) : b0;
            for (int i = 0; i < rows; i++) {
                float x = a[i * a_row];
                sum[i][0] += b0 * x;
                if (vectors > 1) sum[i][1] += b1 * x;
            }
            a += a_col;
            b += ldb;
        }
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++) *(Vec *)(p->c + i * p->ldc + v * VEC) = sum[i][v];
}

#define CASE(rows)                                                                                                     \
    case rows:                                                                                                         \
        if (vectors > 1)                                                                                               \
            block_product(p, rows, 2);                                                                                 \
        else                                                                                                           \
            block_product(p, rows, 1);                                                                                 \
        break

static void block(const Block *p, int rows, int vectors) {
    switch (rows) {
        CASE(1);
        CASE(2);
        CASE(3);
        CASE(4);
        CASE(5);
        CASE(6);
#if defined(__AVX512F__)
        CASE(7);
        CASE(8);
        CASE(9);
        CASE(10);
        CASE(11);
        CASE(12);
#endif
    }
}

void tile_product(const TileProduct *p) {
    for (int m = 0; m < p->m; m += MR)
        for (int n = 0; n < p->n; n += 2 * VEC) {
            Block b = {.a = p->a + m * p->a_row,
                       .b = p->b + n,
                       .c = p->c + m * p->ldc + n,
                       .a_row = p->a_row,
                       .a_col = p->a_col,
                       .ldb = p->ldb,
                       .ldc = p->ldc,
                       .a_tap = p->a_tap,
                       .b_tap = p->b_tap,
                       .k = p->k,
                       .taps = p->taps ? p->taps : 1,
                       .accumulate = p->accumulate};
            block(&b, p->m - m < MR ? p->m - m : MR, p->n - n > VEC ? 2 : 1);
        }
}

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

/* A 4 × 4 block: pairs of columns are interleaved, then halves. */
static inline void transpose_four(float *to, ptrdiff_t ld, const float *from, ptrdiff_t from_ld) {
    Four a = *(const Four *)from, b = *(const Four *)(from + from_ld);
    Four c = *(const Four *)(from + 2 * from_ld), d = *(const Four *)(from + 3 * from_ld);
    Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    Four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(Four *)to = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(Four *)(to + ld) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    *(Four *)(to + 2 * ld) = __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5);
    *(Four *)(to + 3 * ld) = __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7);
}

void tile_transpose(float *to, ptrdiff_t ld, const float *from, ptrdiff_t from_ld, int rows, int cols, int padded) {
    int even_rows = rows / 4 * 4, even_cols = cols / 4 * 4;
    for (int c = 0; c < even_cols; c += 4)
        for (int r = 0; r < even_rows; r += 4) transpose_four(to + c * ld + r, ld, from + r * from_ld + c, from_ld);
    for (int c = 0; c < cols; c++) {
        for (int r = c < even_cols ? even_rows : 0; r < rows; r++) to[c * ld + r] = from[r * from_ld + c];
        for (int r = rows; r < padded; r++) to[c * ld + r] = 0.0f;
    }
}
