/* LoRA's skinny products without tensor cores, for odd sizes and fp32. */
#include "kernels/cuda/lora_walk.cuh"

template <typename T>
static __device__ __forceinline__ float masked_at(const Walk<T> &k, const LoraPart &p, int64_t row, int64_t c) {
    float v = to_float(k.large[row * k.ld + c]);
    if (k.gamma) v = to_float(from_float<T>(v * k.rstd[row * k.ldrstd] * to_float(k.gamma[c])));
    if (k.of_dy || !p.drops) return v;
    return v * dropout_factor(p.mask, random_row(p.mask.key, row), c);
}

/* A row a block, an inner column a warp. */
template <typename T> static __global__ void __launch_bounds__(THREADS) plain_inner_kernel(Walk<T> k, Inner<T> to) {
    int64_t row = blockIdx.x;
    int lane = (int)threadIdx.x % 32;
    for (int j = (int)threadIdx.x / 32; j < inner_cols(to, k.lora.rank); j += WARPS) {
        float total = 0.0f;
        if (j < k.lora.rank) {
            int i = part_of_inner(k.lora, j);
            const LoraPart &p = k.lora.part[i];
            int64_t begin = k.of_dy ? p.output : 0, end = k.of_dy ? p.output + p.outputs : k.cols;
            Strip strip = {i, begin, end, p.first, k.of_dy ? p.rank : k.lora.rank};
            for (int64_t c = begin + lane; c < end; c += 32)
                total += masked_at(k, p, row, c) * small_at(k, strip, c, k.of_dy ? j - p.first : j);
        }
        total = warp_sum(total);
        if (lane == 0) put_inner_element(to, row, j, k.lora.rank, total);
    }
}

/* An element of the gradients a thread, rows in order. */
template <typename T> static __global__ void __launch_bounds__(THREADS) plain_gradient_kernel(Walk<T> k, Gradients to) {
    int64_t item = (int64_t)blockIdx.x * THREADS + threadIdx.x, c = item % k.cols;
    int j = (int)(item / k.cols);
    if (j >= k.width) return;
    float *at = gradient_at(k, to, j, c), total = 0.0f;
    if (!at) return;
    const LoraPart &p = k.lora.part[k.of_dy ? part_of_output(k.lora, c) : part_of_inner(k.lora, j)];
    const T *low = k.low + (k.of_dy ? p.first + j : j);
    for (int64_t row = 0; row < k.rows; row++) total += to_float(low[row * k.ldlow]) * masked_at(k, p, row, c);
    *at += k.of_dy ? p.scale * total : total;
}

template <typename T> static bool plain(Device *dev, const Skinny *s, const LoraParts *lora, Error *err) {
    Walk<T> k = {};
    k.large = (const T *)s->large.data, k.ld = s->large.ld, k.rows = s->large.rows, k.cols = s->large.cols;
    k.low = (const T *)s->low.data, k.ldlow = s->low.ld;
    k.gamma = (const T *)s->gamma.data, k.rstd = (const float *)s->rstd.data, k.ldrstd = s->rstd.ld;
    k.lora = *lora, k.of_dy = s->of_dy;
    k.width = rank_across(s, lora);
    bool ok = true;
    if (wants_inner(s))
        ok = LAUNCH(dev, err, plain_inner_kernel<T>, dim3((unsigned)k.rows), THREADS, 0, k, inner_of<T>(s));
    if (ok && wants_gradient(s))
        ok = LAUNCH(dev, err, plain_gradient_kernel<T>, blocks_for(k.width * k.cols, THREADS), THREADS, 0, k,
                    gradients_of(s->gradient));
    return ok;
}

bool skinny_plain(Device *dev, const Skinny *s, const LoraParts *lora, Error *err) {
    return s->large.dtype == DTYPE_BF16 ? plain<bf16>(dev, s, lora, err) : plain<float>(dev, s, lora, err);
}
