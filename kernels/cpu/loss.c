/* The loss and what the optimizer does. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"
#include "kernels/softmax.h"

/* Of vocabularies of 150 thousand, fp32's sums are taken a stretch at a time, so that none is long. */
enum { EXP_BLOCK = 1024 };

static int64_t block_end(int64_t first, int64_t n) { return first + EXP_BLOCK < n ? first + EXP_BLOCK : n; }

static float row_exp(float *to, const float *x, float most, int64_t n) {
    double total = 0.0;
    for (int64_t first = 0; first < n; first += EXP_BLOCK) {
        float sum = 0.0f;
        const int64_t end = block_end(first, n);
#pragma omp simd reduction(+ : sum)
        for (int64_t i = first; i < end; i++) {
            float e = vec_exp(x[i] - most);
            to[i] = e;
            sum += e;
        }
        total += (double)sum;
    }
    return (float)total;
}

static float row_exp_sum(const float *x, float most, int64_t n) {
    double total = 0.0;
    for (int64_t first = 0; first < n; first += EXP_BLOCK) {
        float sum = 0.0f;
        const int64_t end = block_end(first, n);
#pragma omp simd reduction(+ : sum)
        for (int64_t i = first; i < end; i++) sum += vec_exp(x[i] - most);
        total += (double)sum;
    }
    return (float)total;
}

bool cpu_cross_entropy(Device *dev, const CrossEntropyArgs *a, Error *err) {
    (void)dev;
    int64_t n = a->logits.rows, vocab = a->logits.cols;
    for (int64_t r = 0; r < n; r++)
        if (a->target[r] < 0 || a->target[r] >= vocab)
            return fail(err, "cross_entropy: target %d of row %lld is outside the vocabulary of %lld", a->target[r],
                        (long long)r, (long long)vocab);
#pragma omp parallel for schedule(static) if (n * vocab > PARALLEL_FROM)
    for (int64_t r = 0; r < n; r++) {
        float *x = row_of(a->logits, r), most = row_max(x, vocab), at = x[a->target[r]];
        float sum = a->gradient ? row_exp(x, x, most, vocab) : row_exp_sum(x, most, vocab);
        floats(a->row_loss)[r] = logf(sum) - (at - most);
        if (!a->gradient) continue;
        row_scale(x, a->scale / sum, vocab);
        x[a->target[r]] -= a->scale;
    }
    return true;
}

void softmax_terms(float *x, int64_t count) { row_exp(x, x, row_max(x, count), count); }

static int32_t first_equal(const float *x, float value, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (x[i] == value) return (int32_t)i;
    return 0;
}

bool cpu_greedy(Device *dev, const GreedyArgs *a, Error *err) {
    (void)dev, (void)err;
    int64_t n = a->logits.rows, vocab = a->logits.cols;
#pragma omp parallel for schedule(static) if (n * vocab > PARALLEL_FROM)
    for (int64_t r = 0; r < n; r++) {
        const float *x = row_of(a->logits, r);
        float most = row_max(x, vocab);
        ((int32_t *)a->token.data)[r] = first_equal(x, most, vocab);
        floats(a->logit)[r] = most;
        floats(a->log_sum)[r] = most + logf(row_exp_sum(x, most, vocab));
    }
    return true;
}

enum { SUM_BLOCK = 16384 };

static int64_t sum_blocks(Tensor x) { return x.rows * ((x.cols + SUM_BLOCK - 1) / SUM_BLOCK); }

size_t cpu_sum_squares_scratch(const SumSquaresArgs *a) { return (size_t)sum_blocks(a->x) * sizeof(double); }

bool cpu_sum_squares(Device *dev, const SumSquaresArgs *a, Error *err) {
    double *part = device_scratch(dev, cpu_sum_squares_scratch(a), err), total = 0.0;
    if (!part) return fail_in(err, "sum_squares");
    int64_t blocks = sum_blocks(a->x), row_blocks = a->x.rows ? blocks / a->x.rows : 0;
#pragma omp parallel for schedule(static) if (a->x.rows * a->x.cols > PARALLEL_FROM)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t first = b % row_blocks * SUM_BLOCK, count = least(SUM_BLOCK, a->x.cols - first);
        const float *x = row_of(a->x, b / row_blocks) + first;
        double sum = 0.0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < count; i++) sum += (double)x[i] * (double)x[i];
        part[b] = sum;
    }
    for (int64_t b = 0; b < blocks; b++) total += part[b];
    *(double *)a->out.data = total;
    return true;
}

/* What gradients are multiplied by; false where their norm is not finite. */
static bool clipped_scale(const AdamwArgs *a, float *scale) {
    *scale = a->grad_scale;
    if (!tensor_present(a->norm_squared)) return true;
    double squares = *(const double *)a->norm_squared.data, norm = (double)a->grad_scale * sqrt(squares);
    if (a->max_norm > 0.0 && norm > a->max_norm) *scale *= (float)(a->max_norm / (norm + 1e-6));
    return isfinite(squares);
}

static void adamw_segment(const AdamwArgs *a, const AdamwSegment *s, float scale) {
    double correction1 = 1.0 - pow((double)a->beta1, (double)a->step);
    double correction2 = 1.0 - pow((double)a->beta2, (double)a->step);
    float rate = (float)((double)s->lr / correction1), root = (float)sqrt(correction2);
    float keep = 1.0f - s->lr * s->decay, beta2 = a->beta2, eps = a->eps;
    float blend1 = 1.0f - a->beta1, blend2 = 1.0f - a->beta2;
    float *p = floats(a->param) + s->offset, *m = floats(a->m) + s->offset, *v = floats(a->v) + s->offset;
    const float *grad = floats(a->grad) + s->offset;
#pragma omp parallel for simd schedule(static) if (s->count > PARALLEL_FROM)
    for (int64_t i = 0; i < s->count; i++) {
        float g = scale * grad[i];
        m[i] += blend1 * (g - m[i]);
        v[i] = beta2 * v[i] + blend2 * g * g;
        p[i] = keep * p[i] - rate * m[i] / (sqrtf(v[i]) / root + eps);
    }
}

bool cpu_adamw(Device *dev, const AdamwArgs *a, Error *err) {
    (void)dev, (void)err;
    float scale;
    if (!clipped_scale(a, &scale)) return true;
    for (int i = 0; i < a->segment_count; i++) adamw_segment(a, &a->segments[i], scale);
    return true;
}
