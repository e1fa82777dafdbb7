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

void tile_transpose(float *to, ptrdiff_t ld, const float *from, ptrdiff_t from_ld, int rows, int cols, int padded) {
    for (int c0 = 0; c0 < cols; c0 += 16) { /* blocks, so that the lines read and written stay in the cache */
        int c1 = c0 + 16 < cols ? c0 + 16 : cols;
        for (int r = 0; r < rows; r++)
            for (int c = c0; c < c1; c++) to[c * ld + r] = from[r * from_ld + c];
        for (int c = c0; c < c1; c++)
            for (int r = rows; r < padded; r++) to[c * ld + r] = 0.0f;
    }
}
