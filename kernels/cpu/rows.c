#include "kernels/cpu/rows.h"

#include "kernels/cpu/cpu.h"

void rows_finish(float *y, int64_t ld, int64_t rows, int64_t cols, const float *bias, Activation act) {
    for (int64_t r = 0; r < rows; r++, y += ld) {
        if (bias) row_add(y, 1.0f, bias, cols);
        row_activate(y, y, cols, act);
    }
}

void rows_sum_columns(Tensor x, float *sum) {
    enum { BLOCK = 64 };
#pragma omp parallel for schedule(static) if (x.rows * x.cols > PARALLEL_FROM)
    for (int64_t c = 0; c < x.cols; c += BLOCK) {
        int64_t width = least(BLOCK, x.cols - c);
        float part[BLOCK] = {0};
        for (int64_t r = 0; r < x.rows; r++) row_add(part, 1.0f, row_of(x, r) + c, width);
        row_add(sum + c, 1.0f, part, width);
    }
}
