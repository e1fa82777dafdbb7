/* 1-D convolutions: the choice of a kernel, and the one that takes every shape and type. */
#include "kernels/cuda/conv.cuh"

enum { PLAIN = 32, PLAIN_THREADS = 256, PLAIN_EACH = PLAIN * PLAIN / PLAIN_THREADS };

/* y[t, o] = act(bias[o] + Σ_{j,c} weight[o, j·cin + c] · x[stride·t + j - left, c]) of a group, rows outside the
 * segment being zeros, or where `whole` all of a window that reaches outside; + x[t, o] where `residual`. */
template <typename T> struct ConvPlain {
    const T *x, *weight, *bias;
    T *y;
    const int32_t *from, *to; /* the segments of x and y */
    int64_t rows, x_ld, weight_ld, y_ld;
    int segments, cin, cout, kernel, stride, left, act;
    bool whole, residual;
};

/* Blocks of 32 rows (x) by 32 channels (y) of a group (z); 32 of the sum's terms at a time. */
template <typename T> __global__ void __launch_bounds__(PLAIN_THREADS) conv_plain(ConvPlain<T> a) {
    int64_t *origin = (int64_t *)shared_memory(), *first = origin + PLAIN, *end = first + PLAIN;
    float(*x)[PLAIN + 1] = (float(*)[PLAIN + 1])(end + PLAIN), (*weight)[PLAIN + 1] = x + PLAIN;
    int lane = (int)threadIdx.x % PLAIN, warp = (int)threadIdx.x / PLAIN, step = PLAIN_THREADS / PLAIN;
    int64_t row = (int64_t)blockIdx.x * PLAIN;
    int group = (int)blockIdx.z, channel = (int)blockIdx.y * PLAIN + lane, depth = a.kernel * a.cin;
    if (warp == 0) {
        bool live = row + lane < a.rows;
        int s = live ? segment_of(a.to, a.segments, row + lane) : 0;
        origin[lane] = live ? a.from[s] + (row + lane - a.to[s]) * a.stride - a.left : 0;
        first[lane] = live ? a.from[s] : 0;
        end[lane] = live ? a.from[s + 1] : 0;
        if (a.whole && origin[lane] + a.kernel > end[lane]) origin[lane] = end[lane];
    }
    float sum[PLAIN_EACH] = {0.0f};
    for (int k0 = 0; k0 < depth; k0 += PLAIN) {
        __syncthreads();
        int k = k0 + lane, tap = k / a.cin;
        for (int i = 0; i < PLAIN_EACH; i++) {
            int r = warp + i * step, o = (int)blockIdx.y * PLAIN + r;
            int64_t at = origin[r] + tap;
            bool inside = k < depth && at >= first[r] && at < end[r];
            x[r][lane] = inside ? to_float(a.x[at * a.x_ld + (int64_t)group * a.cin + k % a.cin]) : 0.0f;
            weight[r][lane] =
                k < depth && o < a.cout ? to_float(a.weight[((int64_t)group * a.cout + o) * a.weight_ld + k]) : 0.0f;
        }
        __syncthreads();
        for (int j = 0; j < PLAIN; j++)
            for (int i = 0; i < PLAIN_EACH; i++) sum[i] += x[warp + i * step][j] * weight[lane][j];
    }
    if (channel >= a.cout) return;
    int64_t o = (int64_t)group * a.cout + channel;
    float bias = a.bias ? to_float(a.bias[o]) : 0.0f;
    for (int i = 0; i < PLAIN_EACH; i++) {
        int64_t r = row + warp + i * step;
        if (r >= a.rows) return;
        float v = sum[i] + bias;
        v = a.act == ACT_GELU ? gelu(v) : a.act == ACT_RELU ? activate<ACT_RELU>(v) : v;
        a.y[r * a.y_ld + o] = from_float<T>(a.residual ? v + to_float(a.x[r * a.x_ld + o]) : v);
    }
}

template <typename T> static bool run_plain(Device *dev, const ConvPlain<T> &a, int groups, Error *err) {
    dim3 grid((unsigned)((a.rows + PLAIN - 1) / PLAIN), (unsigned)((a.cout + PLAIN - 1) / PLAIN), (unsigned)groups);
    size_t shared = 3 * PLAIN * sizeof(int64_t) + 2 * PLAIN * (PLAIN + 1) * sizeof(float);
    return LAUNCH(dev, err, (conv_plain<T>), grid, dim3(PLAIN_THREADS), shared, a);
}

template <typename T> static bool conv_any(Device *dev, const ConvArgs *a, Error *err) {
    ConvPlain<T> p = {};
    p.x = (const T *)a->x.data, p.x_ld = a->x.ld;
    p.weight = (const T *)a->weight.data, p.weight_ld = a->weight.ld;
    p.bias = (const T *)a->bias.data;
    p.y = (T *)a->y.data, p.y_ld = a->y.ld;
    p.from = a->in_segments.device, p.to = a->out_segments.device, p.segments = a->out_segments.count;
    p.rows = a->y.rows;
    p.cin = 1, p.cout = (int)a->y.cols;
    p.kernel = a->kernel, p.stride = a->stride;
    p.act = a->act;
    p.whole = true;
    return run_plain(dev, p, 1, err);
}

template <typename T> static bool pos_conv_any(Device *dev, const PosConvArgs *a, Error *err) {
    ConvPlain<T> p = {};
    p.x = (const T *)a->x.data, p.x_ld = a->x.ld;
    p.weight = (const T *)a->weight.data, p.weight_ld = a->weight.ld;
    p.bias = (const T *)a->bias.data;
    p.y = (T *)a->y.data, p.y_ld = a->y.ld;
    p.from = p.to = a->segments.device, p.segments = a->segments.count;
    p.rows = a->y.rows;
    p.cin = p.cout = (int)(a->x.cols / a->groups);
    p.kernel = a->kernel, p.stride = 1, p.left = a->kernel / 2;
    p.act = ACT_GELU;
    p.residual = true;
    return run_plain(dev, p, a->groups, err);
}

extern "C" {

bool cuda_conv(Device *dev, const ConvArgs *a, Error *err) {
    bool narrow = conv_is_narrow(dev, a), apart = a->gamma.data && !(narrow && conv_narrow_norms(a));
    ConvArgs c = *a;
    if (apart) c.gamma = c.beta = Tensor{}, c.act = ACT_NONE;
    bool ok = narrow                     ? conv_narrow(dev, &c, err)
              : dev->dtype == DTYPE_BF16 ? conv_any<bf16>(dev, &c, err)
                                         : conv_any<float>(dev, &c, err);
    LayerNormArgs norm = {};
    norm.x = norm.y = a->y;
    norm.gamma = a->gamma, norm.beta = a->beta;
    norm.eps = a->eps, norm.act = a->act;
    return ok && (!apart || cuda_layer_norm(dev, &norm, err));
}

size_t cuda_conv_scratch(const Device *dev, const ConvArgs *a) {
    (void)dev, (void)a;
    return 0;
}

bool cuda_pos_conv(Device *dev, const PosConvArgs *a, Error *err) {
    if (pos_conv_is_tiled(dev, a)) return pos_conv_tiled(dev, a, err);
    return dev->dtype == DTYPE_BF16 ? pos_conv_any<bf16>(dev, a, err) : pos_conv_any<float>(dev, a, err);
}

size_t cuda_pos_conv_scratch(const Device *dev, const PosConvArgs *a) {
    (void)dev, (void)a;
    return 0;
}
}
