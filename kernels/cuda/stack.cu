/* Stacking frames to rows, and back. A block takes one stacked row: it finds the row's segment once and then
 * moves its k frames. */
#include "kernels/cuda/eight.cuh"
#include "kernels/cuda/rows.cuh"

enum { THREADS = 256, EACH = 2 };

struct Stack {
    const int32_t *frames, *rows; /* cu_seqlens */
    int segments, k;
    void *x, *y;
    const float *side;
    int64_t h, p, x_ld, y_ld, side_ld;
};

/* The frames of a stacked row: `count` of its k lie within the segment. */
struct Frames {
    int64_t first;
    int count;
};

static __device__ Frames frames_of(const Stack &s, int row) {
    int segment = segment_of(s.rows, s.segments, row);
    int64_t first = s.frames[segment] + (int64_t)(row - s.rows[segment]) * s.k;
    return Frames{first, (int)min((int64_t)s.k, s.frames[segment + 1] - first)};
}

/* By one thread for its block. */
static __device__ __forceinline__ Frames block_frames(const Stack &s) {
    Frames *shared = (Frames *)shared_memory();
    if (threadIdx.x == 0) *shared = frames_of(s, (int)blockIdx.x);
    __syncthreads();
    return *shared;
}

template <typename T, int WIDTH> __global__ void __launch_bounds__(THREADS) stack_kernel(Stack s) {
    Frames f = block_frames(s);
    T *y = (T *)s.y + (int64_t)blockIdx.x * s.y_ld;
    int frame = (int)(s.h + s.p), cols = s.k * frame;
    for (int first = (int)threadIdx.x * WIDTH; first < cols; first += EACH * THREADS * WIDTH) {
        Raw<T, WIDTH> raw[EACH];
        float side[EACH];
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            int column = first + e * THREADS * WIDTH, j = column / frame, c = column % frame;
            if (j < f.count && c < s.h) take(raw[e], (const T *)s.x + (f.first + j) * s.x_ld + c);
            if (j < f.count && c >= s.h) side[e] = s.side[(f.first + j) * s.side_ld + (c - s.h)];
        }
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            int column = first + e * THREADS * WIDTH, j = column / frame, c = column % frame;
            if (column >= cols) break;
            float value[WIDTH];
            unpack(value, raw[e]);
#pragma unroll
            for (int i = 0; i < WIDTH; i++) value[i] = j >= f.count ? 0.0f : c >= s.h ? side[e] : value[i];
            put<WIDTH>(y + column, value);
        }
    }
}

template <typename T, int WIDTH> __global__ void __launch_bounds__(THREADS) unstack_kernel(Stack s) {
    Frames f = block_frames(s);
    const T *y = (const T *)s.y + (int64_t)blockIdx.x * s.y_ld;
    int h = (int)s.h, frame = (int)(s.h + s.p), cols = f.count * h;
    for (int first = (int)threadIdx.x * WIDTH; first < cols; first += EACH * THREADS * WIDTH) {
        Raw<T, WIDTH> raw[EACH];
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            int c = first + e * THREADS * WIDTH;
            if (c < cols) take(raw[e], y + c / h * frame + c % h);
        }
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            int c = first + e * THREADS * WIDTH;
            if (c >= cols) break;
            float value[WIDTH];
            unpack(value, raw[e]);
            put<WIDTH>((T *)s.x + (f.first + c / h) * s.x_ld + c % h, value);
        }
    }
}

/* Whether frames can be moved in vectors: then they have no side columns. */
static bool whole_vectors(Tensor x, Tensor y, int64_t p) { return p == 0 && rows_vectors(x) && rows_vectors(y); }

static Stack stack_of(Packed frames, Packed rows, int k, Tensor x, Tensor y, int64_t p) {
    Stack s = {};
    s.frames = frames.device, s.rows = rows.device, s.segments = rows.count, s.k = k;
    s.x = x.data, s.x_ld = x.ld, s.h = x.cols, s.p = p;
    s.y = y.data, s.y_ld = y.ld;
    return s;
}

/* A block a row of `y`. */
static bool each_row(Device *dev, Error *err, const char *name, void (*kernel)(Stack), int64_t rows, Stack s) {
    return launch(dev, err, name, kernel, blocks_for(rows, 1), dim3(THREADS), sizeof(Frames), s);
}

extern "C" bool cuda_stack_frames(Device *dev, const StackFramesArgs *a, Error *err) {
    Stack s = stack_of(a->frames, a->rows, a->k, a->x, a->y, a->side.data ? a->side.cols : 0);
    s.side = (const float *)a->side.data, s.side_ld = a->side.ld;
    bool vectors = whole_vectors(a->x, a->y, s.p);
    void (*bf16_kernel)(Stack) = vectors ? stack_kernel<bf16, 8> : stack_kernel<bf16, 1>;
    void (*float_kernel)(Stack) = vectors ? stack_kernel<float, 4> : stack_kernel<float, 1>;
    return each_row(dev, err, "stack_frames", dev->dtype == DTYPE_BF16 ? bf16_kernel : float_kernel, a->y.rows, s);
}

extern "C" bool cuda_stack_frames_backward(Device *dev, const StackFramesBackwardArgs *a, Error *err) {
    Stack s = stack_of(a->frames, a->rows, a->k, a->dx, a->dy, a->side);
    bool vectors = whole_vectors(a->dx, a->dy, s.p);
    void (*bf16_kernel)(Stack) = vectors ? unstack_kernel<bf16, 8> : unstack_kernel<bf16, 1>;
    void (*float_kernel)(Stack) = vectors ? unstack_kernel<float, 4> : unstack_kernel<float, 1>;
    return each_row(dev, err, "stack_frames_backward", dev->dtype == DTYPE_BF16 ? bf16_kernel : float_kernel,
                    a->dy.rows, s);
}

extern "C" size_t cuda_stack_frames_scratch(const Device *, const StackFramesArgs *) { return 0; }
extern "C" size_t cuda_stack_frames_backward_scratch(const Device *, const StackFramesBackwardArgs *) { return 0; }
