/* Matrix products by cuBLASLt, which is opened at run time. The algorithms it deems best for a shape are
 * timed once and the fastest is kept: in a table, on disk, and with a run's checkpoints. */
#include <ctype.h>
#include <cublasLt.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "kernels/cuda/cuda.h"

#define LIBRARY_FUNCTIONS(X)                                                                                           \
    X(Create)                                                                                                          \
    X(Destroy)                                                                                                         \
    X(GetVersion)                                                                                                      \
    X(GetStatusString)                                                                                                 \
    X(Matmul)                                                                                                          \
    X(MatmulAlgoGetHeuristic)                                                                                          \
    X(MatmulAlgoCheck)                                                                                                 \
    X(MatmulDescCreate)                                                                                                \
    X(MatmulDescDestroy)                                                                                               \
    X(MatmulDescSetAttribute)                                                                                          \
    X(MatrixLayoutCreate)                                                                                              \
    X(MatrixLayoutDestroy)                                                                                             \
    X(MatmulPreferenceCreate)                                                                                          \
    X(MatmulPreferenceDestroy)                                                                                         \
    X(MatmulPreferenceSetAttribute)

typedef struct Library {
    void *opened;
#define MEMBER(name) __typeof__(cublasLt##name) *name;
    LIBRARY_FUNCTIONS(MEMBER)
#undef MEMBER
} Library;

/* What an algorithm is chosen for. */
enum {
    KEY_M,
    KEY_N,
    KEY_K,
    KEY_TRANSPOSE_A,
    KEY_TRANSPOSE_B,
    KEY_DTYPE,
    KEY_C_DTYPE,
    KEY_BIAS,
    KEY_RELU,
    KEY_ADDS, /* 1: to what c holds; 2: to a residual of its own */
    KEY_ALIGN_A,
    KEY_ALIGN_B,
    KEY_ALIGN_C, /* the residual's, where it is less */
    KEY_FIELDS
};
static const char *const KEY_NAMES[KEY_FIELDS] = {"m",       "n",       "k",      "transpose_a", "transpose_b",
                                                  "dtype",   "c_dtype", "bias",   "relu",        "adds",
                                                  "align_a", "align_b", "align_c"};

typedef struct Choice {
    int64_t key[KEY_FIELDS];
    cublasLtMatmulAlgo_t algorithm;
    double microseconds; /* 0: not timed */
    bool checked;        /* it was seen to be one that this library can run */
} Choice;

typedef struct CudaGemms {
    Library lt;
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t preference;
    void *workspace;
    cudaEvent_t start, stop;
    bool tunes;
    Choice *choices;
    size_t count, capacity;
    bool changed;
    char *cache; /* its file; null: none */
} CudaGemms;

static const size_t WORKSPACE = 32 << 20;
enum { CANDIDATES = 8, ROUNDS = 5 };

/* ---- the library ---- */

static bool load_library(Library *lt, Error *err) {
    const char *named = getenv("SEMOLLM_CUBLASLT");
    if (named) {
        lt->opened = dlopen(named, RTLD_NOW | RTLD_LOCAL);
        return lt->opened || fail(err, "SEMOLLM_CUBLASLT: %s", dlerror());
    }
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so",
                                        "/usr/local/cuda/lib64/libcublasLt.so"};
    for (size_t i = 0; i < sizeof names / sizeof *names && !lt->opened; i++)
        lt->opened = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return lt->opened ||
           fail(err, "cuBLASLt (libcublasLt.so.13 or .12) was not found: install the CUDA libraries, name "
                     "the file in SEMOLLM_CUBLASLT, or choose the CPU device");
}

static bool open_library(Library *lt, Error *err) {
    if (!load_library(lt, err)) return false;
#define LOAD(name)                                                                                                     \
    *(void **)&lt->name = dlsym(lt->opened, "cublasLt" #name);                                                         \
    if (!lt->name) return fail(err, "cuBLASLt: the library has no cublasLt" #name "; install version 12 or 13");
    LIBRARY_FUNCTIONS(LOAD)
#undef LOAD
    return true;
}

/* Where CUDA itself has failed, that is the error. */
static bool lt_ok(const CudaGemms *gemms, cublasStatus_t status, const char *call, Error *err) {
    if (status == CUBLAS_STATUS_SUCCESS) return true;
    cudaError_t fault = cudaGetLastError();
    if (fault != cudaSuccess) return cuda_ok(fault, call, err);
    return fail(err, "%s failed: %s", call, gemms->lt.GetStatusString(status));
}

#define LT(gemms, function, err, ...) lt_ok(gemms, (gemms)->lt.function(__VA_ARGS__), "cublasLt" #function, err)

/* ---- a product as cuBLASLt sees it ---- */

/* It counts columns first, so a row-major matrix is its transpose there: cᵀ = op(b)ᵀ·op(a)ᵀ. */
typedef struct Problem {
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, c;  /* ours */
    cublasLtMatrixLayout_t residual; /* c's, where the product reads what it writes, or reads none */
} Problem;

static cudaDataType_t cuda_type(DType dtype) { return dtype == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F; }

static bool describe_product(const CudaGemms *gemms, const CudaGemm *g, cublasLtMatmulDesc_t product, Error *err) {
    cublasOperation_t first = g->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t second = g->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    if (g->bias)
        epilogue = g->act == ACT_RELU ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
    else if (g->act == ACT_RELU)
        epilogue = CUBLASLT_EPILOGUE_RELU;
#define SET(attribute, value)                                                                                          \
    LT(gemms, MatmulDescSetAttribute, err, product, CUBLASLT_MATMUL_DESC_##attribute, &(value), sizeof(value))
    return SET(TRANSA, first) && SET(TRANSB, second) && SET(EPILOGUE, epilogue) &&
           (!g->bias || SET(BIAS_POINTER, g->bias));
#undef SET
}

/* Whether it adds up what does not lie in c. */
static bool adds_another(const CudaGemm *g) { return g->beta != 0.0f && g->residual != g->c; }

static bool describe_residual(const CudaGemms *gemms, const CudaGemm *g, Problem *p, Error *err) {
    p->residual = p->c;
    return !adds_another(g) || LT(gemms, MatrixLayoutCreate, err, &p->residual, cuda_type(g->c_dtype), (uint64_t)g->n,
                                  (uint64_t)g->m, g->ld_residual);
}

static bool describe(const CudaGemms *gemms, const CudaGemm *g, Problem *p, Error *err) {
    cudaDataType_t type = cuda_type(g->dtype);
    uint64_t a_rows = (uint64_t)(g->transpose_a ? g->m : g->k), a_cols = (uint64_t)(g->transpose_a ? g->k : g->m);
    uint64_t b_rows = (uint64_t)(g->transpose_b ? g->k : g->n), b_cols = (uint64_t)(g->transpose_b ? g->n : g->k);
    return LT(gemms, MatmulDescCreate, err, &p->product, CUBLAS_COMPUTE_32F, CUDA_R_32F) &&
           describe_product(gemms, g, p->product, err) &&
           LT(gemms, MatrixLayoutCreate, err, &p->a, type, a_rows, a_cols, g->lda) &&
           LT(gemms, MatrixLayoutCreate, err, &p->b, type, b_rows, b_cols, g->ldb) &&
           LT(gemms, MatrixLayoutCreate, err, &p->c, cuda_type(g->c_dtype), (uint64_t)g->n, (uint64_t)g->m, g->ldc) &&
           describe_residual(gemms, g, p, err);
}

static void forget(const CudaGemms *gemms, Problem *p) {
    if (p->residual && p->residual != p->c) gemms->lt.MatrixLayoutDestroy(p->residual);
    if (p->c) gemms->lt.MatrixLayoutDestroy(p->c);
    if (p->b) gemms->lt.MatrixLayoutDestroy(p->b);
    if (p->a) gemms->lt.MatrixLayoutDestroy(p->a);
    if (p->product) gemms->lt.MatmulDescDestroy(p->product);
}

/* Enqueues the product, its result in `to`. */
static cublasStatus_t enqueue(const Device *dev, const CudaGemm *g, const Problem *p,
                              const cublasLtMatmulAlgo_t *algorithm, void *to) {
    const CudaGemms *gemms = dev->cuda->gemms;
    const void *residual = adds_another(g) ? g->residual : g->c;
    return gemms->lt.Matmul(gemms->handle, p->product, &g->alpha, g->b, p->b, g->a, p->a, &g->beta, residual,
                            p->residual, to, p->c, algorithm, gemms->workspace, WORKSPACE, cuda_stream(dev));
}

/* ---- choosing ---- */

/* Numbers of tokens differ from batch to batch: what is chosen for one serves those near it, 256 more or less, or of
 * very many (the encoder's convolutions) one or two in a hundred. */
static int64_t bucket(int64_t tokens) {
    int64_t power = 1;
    while (power < tokens) power *= 2;
    if (tokens <= 256) return power;
    int64_t step = power / 128 > 256 ? power / 128 : 256;
    return (tokens + step - 1) / step * step;
}

/* The largest power of two, up to 16, that divides every row's address. */
static int64_t alignment(const void *data, int64_t ld, DType dtype) {
    uintptr_t bits = (uintptr_t)data | (uintptr_t)ld * dtype_size(dtype) | 16;
    return (int64_t)(bits & -bits);
}

static void key_of(const CudaGemm *g, int64_t key[KEY_FIELDS]) {
    key[KEY_M] = g->transpose_a ? g->m : bucket(g->m);
    key[KEY_N] = g->n;
    key[KEY_K] = g->transpose_a ? bucket(g->k) : g->k; /* aᵀ·b adds up over tokens */
    key[KEY_TRANSPOSE_A] = g->transpose_a;
    key[KEY_TRANSPOSE_B] = g->transpose_b;
    key[KEY_DTYPE] = g->dtype;
    key[KEY_C_DTYPE] = g->c_dtype;
    key[KEY_BIAS] = g->bias != NULL;
    key[KEY_RELU] = g->act == ACT_RELU;
    key[KEY_ADDS] = adds_another(g) ? 2 : g->beta != 0.0f;
    key[KEY_ALIGN_A] = alignment(g->a, g->lda, g->dtype);
    key[KEY_ALIGN_B] = alignment(g->b, g->ldb, g->dtype);
    key[KEY_ALIGN_C] = alignment(g->c, g->ldc, g->c_dtype);
    int64_t residual = adds_another(g) ? alignment(g->residual, g->ld_residual, g->c_dtype) : key[KEY_ALIGN_C];
    if (residual < key[KEY_ALIGN_C]) key[KEY_ALIGN_C] = residual;
}

static Choice *find(const CudaGemms *gemms, const int64_t key[KEY_FIELDS]) {
    for (size_t i = 0; i < gemms->count; i++)
        if (memcmp(gemms->choices[i].key, key, sizeof gemms->choices[i].key) == 0) return &gemms->choices[i];
    return NULL;
}

static bool keep(CudaGemms *gemms, const Choice *choice, Error *err) {
    Choice *same = find(gemms, choice->key);
    if (!same) {
        if (!memory_grow(&gemms->choices, gemms->count, &gemms->capacity, sizeof *gemms->choices, err)) return false;
        same = &gemms->choices[gemms->count++];
    }
    *same = *choice;
    gemms->changed = true;
    return true;
}

/* Its best guesses, best first, at least one. */
static bool candidates(const CudaGemms *gemms, const CudaGemm *g, const Problem *p, const int64_t key[KEY_FIELDS],
                       cublasLtMatmulHeuristicResult_t found[CANDIDATES], int *count, Error *err) {
    uint32_t a = (uint32_t)key[KEY_ALIGN_A], b = (uint32_t)key[KEY_ALIGN_B], c = (uint32_t)key[KEY_ALIGN_C];
    /* Partial sums are added in fp32, never in bf16. */
    uint32_t reduction =
        g->c_dtype == DTYPE_F32 ? CUBLASLT_REDUCTION_SCHEME_MASK : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
#define SET(attribute, value)                                                                                          \
    LT(gemms, MatmulPreferenceSetAttribute, err, gemms->preference, CUBLASLT_MATMUL_PREF_##attribute, &(value),        \
       sizeof(value))
    if (!SET(MIN_ALIGNMENT_A_BYTES, b) || !SET(MIN_ALIGNMENT_B_BYTES, a) || !SET(MIN_ALIGNMENT_C_BYTES, c) ||
        !SET(MIN_ALIGNMENT_D_BYTES, c) || !SET(REDUCTION_SCHEME_MASK, reduction))
        return false;
#undef SET
    cublasStatus_t status = gemms->lt.MatmulAlgoGetHeuristic(gemms->handle, p->product, p->b, p->a, p->residual, p->c,
                                                             gemms->preference, CANDIDATES, found, count);
    if (status == CUBLAS_STATUS_SUCCESS && *count > 0) return true;
    if (status == CUBLAS_STATUS_SUCCESS) status = CUBLAS_STATUS_NOT_SUPPORTED;
    lt_ok(gemms, status, "cublasLtMatmulAlgoGetHeuristic", err);
    return fail_in(err, "a product of %s [%" PRId64 ", %" PRId64 "] and [%" PRId64 ", %" PRId64 "] to %s",
                   dtype_name(g->dtype), g->m, g->k, g->k, g->n, dtype_name(g->c_dtype));
}

/* Microseconds of one run, after one to warm up; negative where it does not run. */
static double time_one(const Device *dev, const CudaGemm *g, const Problem *p, const cublasLtMatmulAlgo_t *algorithm,
                       void *to) {
    const CudaGemms *gemms = dev->cuda->gemms;
    float milliseconds;
    bool ok = enqueue(dev, g, p, algorithm, to) == CUBLAS_STATUS_SUCCESS &&
              cudaEventRecord(gemms->start, cuda_stream(dev)) == cudaSuccess;
    for (int i = 0; i < ROUNDS && ok; i++) ok = enqueue(dev, g, p, algorithm, to) == CUBLAS_STATUS_SUCCESS;
    ok = ok && cudaEventRecord(gemms->stop, cuda_stream(dev)) == cudaSuccess &&
         cudaEventSynchronize(gemms->stop) == cudaSuccess &&
         cudaEventElapsedTime(&milliseconds, gemms->start, gemms->stop) == cudaSuccess;
    return ok ? 1e3 * (double)milliseconds / ROUNDS : -1.0;
}

/* What c holds is added to only once, so where it is wanted the trials write elsewhere; without room for that
 * the library's first guess it is. */
static void time_all(const Device *dev, const CudaGemm *g, const Problem *p,
                     const cublasLtMatmulHeuristicResult_t *found, int count, Choice *choice) {
    void *to = g->c;
    size_t bytes = (size_t)((g->m - 1) * g->ldc + g->n) * dtype_size(g->c_dtype);
    if (g->beta != 0.0f && !adds_another(g) && cudaMalloc(&to, bytes) != cudaSuccess) {
        cudaGetLastError();
        return;
    }
    for (int i = 0; i < count; i++) {
        double took = time_one(dev, g, p, &found[i].algo, to);
        if (took < 0.0 || (choice->microseconds > 0.0 && took >= choice->microseconds)) continue;
        choice->algorithm = found[i].algo;
        choice->microseconds = took;
    }
    if (to != g->c) cudaFree(to);
}

static bool choose(const Device *dev, const CudaGemm *g, const Problem *p, Choice *choice, Error *err) {
    CudaGemms *gemms = dev->cuda->gemms;
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    int count = 0;
    if (!candidates(gemms, g, p, choice->key, found, &count, err)) return false;
    choice->algorithm = found[0].algo;
    choice->checked = true;
    if (!gemms->tunes || dev->cuda->recording) return true;
    time_all(dev, g, p, found, count, choice);
    return keep(gemms, choice, err);
}

/* Whether the library can run what a file says was chosen. */
static bool runs(const CudaGemms *gemms, const Problem *p, const cublasLtMatmulAlgo_t *algorithm) {
    cublasLtMatmulHeuristicResult_t result;
    return gemms->lt.MatmulAlgoCheck(gemms->handle, p->product, p->b, p->a, p->residual, p->c, algorithm, &result) ==
               CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= WORKSPACE;
}

static bool algorithm_for(const Device *dev, const CudaGemm *g, const Problem *p, Choice *choice, Error *err) {
    key_of(g, choice->key);
    Choice *known = find(dev->cuda->gemms, choice->key);
    if (!known || !(known->checked || runs(dev->cuda->gemms, p, &known->algorithm)))
        return choose(dev, g, p, choice, err);
    known->checked = true;
    *choice = *known;
    return true;
}

/* What was chosen for a neighbour in the bucket may refuse these very sizes: then the first guess for them. */
static bool run_product(const Device *dev, const CudaGemm *g, const Problem *p, Error *err) {
    const CudaGemms *gemms = dev->cuda->gemms;
    Choice choice = {.microseconds = 0.0};
    if (!algorithm_for(dev, g, p, &choice, err)) return false;
    cublasStatus_t status = enqueue(dev, g, p, &choice.algorithm, g->c);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
        cublasLtMatmulHeuristicResult_t found[CANDIDATES];
        int count = 0;
        if (!candidates(gemms, g, p, choice.key, found, &count, err)) return false;
        status = enqueue(dev, g, p, &found[0].algo, g->c);
    }
    return lt_ok(gemms, status, "cublasLtMatmul", err);
}

bool cuda_product(Device *dev, const CudaGemm *g, Error *err) {
    Problem p = {0};
    bool ok = CUDA(cudaSetDevice(dev->cuda->index), err) && describe(dev->cuda->gemms, g, &p, err) &&
              run_product(dev, g, &p, err);
    forget(dev->cuda->gemms, &p);
    return ok;
}

/* ---- tables ---- */

static json_t *choice_json(const Choice *choice) {
    json_t *json = json_object();
    bool ok = json != NULL;
    for (int i = 0; i < KEY_FIELDS; i++)
        ok = ok && !json_object_set_new(json, KEY_NAMES[i], json_integer(choice->key[i]));
    char hex[16 * sizeof choice->algorithm.data / sizeof choice->algorithm.data[0] + 1];
    for (size_t i = 0; i < sizeof choice->algorithm.data / sizeof choice->algorithm.data[0]; i++)
        snprintf(hex + 16 * i, 17, "%016" PRIx64, choice->algorithm.data[i]);
    ok = ok && !json_object_set_new(json, "algorithm", json_string(hex)) &&
         !json_object_set_new(json, "microseconds", json_real(choice->microseconds));
    if (ok) return json;
    json_decref(json);
    return NULL;
}

static json_t *table_json(const Device *dev, Error *err) {
    const CudaGemms *gemms = dev->cuda->gemms;
    json_t *json = json_object(), *list = json_array();
    bool ok = json && list && !json_object_set_new(json, "gpu", json_string(dev->cuda->name)) &&
              !json_object_set_new(json, "cublaslt", json_integer((json_int_t)gemms->lt.GetVersion()));
    for (size_t i = 0; i < gemms->count && ok; i++) ok = !json_array_append_new(list, choice_json(&gemms->choices[i]));
    ok = ok && !json_object_set(json, "gemms", list);
    json_decref(list);
    if (ok) return json;
    json_decref(json);
    fail(err, "out of memory for the table of matrix products");
    return NULL;
}

static bool choice_from(const json_t *json, Choice *choice, const char *where, Error *err) {
    *choice = (Choice){.microseconds = 0.0};
    for (int i = 0; i < KEY_FIELDS; i++)
        if (!json_get_int(json, KEY_NAMES[i], 0, INT64_MAX, &choice->key[i], where, err)) return false;
    const char *hex;
    size_t words = sizeof choice->algorithm.data / sizeof choice->algorithm.data[0];
    if (!json_get_string(json, "algorithm", &hex, where, err) ||
        !json_get_number(json, "microseconds", &choice->microseconds, where, err))
        return false;
    bool ok = strlen(hex) == 16 * words && strspn(hex, "0123456789abcdef") == 16 * words;
    for (size_t i = 0; i < words && ok; i++) ok = sscanf(hex + 16 * i, "%16" SCNx64, &choice->algorithm.data[i]) == 1;
    return ok || fail(err, "%s: \"algorithm\" is not %zu hexadecimal digits", where, 16 * words);
}

/* Takes over a table where it is of such a GPU and this very library. */
static bool adopt(Device *dev, const json_t *json, const char *where, bool *fits, Error *err) {
    CudaGemms *gemms = dev->cuda->gemms;
    const char *gpu;
    int64_t version;
    if (!json_get_string(json, "gpu", &gpu, where, err) ||
        !json_get_int(json, "cublaslt", 0, INT64_MAX, &version, where, err))
        return false;
    *fits = strcmp(gpu, dev->cuda->name) == 0 && version == (int64_t)gemms->lt.GetVersion();
    const json_t *list = json_object_get(json, "gemms");
    for (size_t i = 0; i < json_array_size(list) && *fits; i++) {
        Choice choice;
        if (!choice_from(json_array_get(list, i), &choice, where, err) || !keep(gemms, &choice, err)) return false;
    }
    return true;
}

char *cuda_device_algorithms(const Device *dev, Error *err) {
    json_t *json = table_json(dev, err);
    char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    json_decref(json);
    if (json && !text) fail(err, "out of memory for the table of matrix products");
    return text;
}

bool cuda_device_use_algorithms(Device *dev, const char *text, bool *fits, Error *err) {
    static const char name[] = "the table of matrix products";
    json_t *json = json_read_text(text, strlen(text), name, err);
    bool ok = json && adopt(dev, json, name, fits, err);
    json_decref(json);
    return ok;
}

/* ---- the table on disk ---- */

static char *cache_path(const Device *dev) {
    const char *root = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char gpu[sizeof dev->cuda->name], *path;
    snprintf(gpu, sizeof gpu, "%s", dev->cuda->name);
    for (char *c = gpu; *c; c++)
        if (!isalnum((unsigned char)*c)) *c = '-';
    size_t version = dev->cuda->gemms->lt.GetVersion();
    if (root && *root)
        path = text_format(NULL, "%s/semollm/gemm-%s-%zu.json", root, gpu, version);
    else
        path = home ? text_format(NULL, "%s/.cache/semollm/gemm-%s-%zu.json", home, gpu, version) : NULL;
    return path;
}

/* A cache that cannot be read or written costs time, no more. */
static void read_cache(Device *dev) {
    CudaGemms *gemms = dev->cuda->gemms;
    json_t *json = gemms->cache && file_exists(gemms->cache) ? json_read_file(gemms->cache, 64 << 20, NULL) : NULL;
    bool fits;
    if (json) adopt(dev, json, gemms->cache, &fits, NULL);
    json_decref(json);
    gemms->changed = false;
}

static void write_cache(const Device *dev) {
    const CudaGemms *gemms = dev->cuda->gemms;
    if (!gemms->cache || !gemms->changed) return;
    char *folder = path_folder(gemms->cache, NULL);
    json_t *json = table_json(dev, NULL);
    if (folder && json && folder_make(folder, NULL)) json_write_file(json, gemms->cache, NULL);
    json_decref(json);
    free(folder);
}

/* ---- opening and closing ---- */

static bool open_preference(CudaGemms *gemms, Error *err) {
    return LT(gemms, MatmulPreferenceCreate, err, &gemms->preference) &&
           LT(gemms, MatmulPreferenceSetAttribute, err, gemms->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
              &WORKSPACE, sizeof WORKSPACE);
}

bool cuda_gemms_open(Device *dev, Error *err) {
    CudaGemms *gemms = dev->cuda->gemms = memory_new(1, sizeof *gemms, err);
    if (!gemms || !open_library(&gemms->lt, err) || !LT(gemms, Create, err, &gemms->handle) ||
        !open_preference(gemms, err) || !CUDA(cudaMalloc(&gemms->workspace, WORKSPACE), err) ||
        !CUDA(cudaEventCreate(&gemms->start), err) || !CUDA(cudaEventCreate(&gemms->stop), err))
        return false;
    const char *tune = getenv("SEMOLLM_GEMM_TUNE");
    gemms->tunes = !tune || strcmp(tune, "0") != 0;
    if (gemms->tunes) gemms->cache = cache_path(dev);
    read_cache(dev);
    return true;
}

void cuda_gemms_close(Device *dev) {
    CudaGemms *gemms = dev->cuda->gemms;
    if (gemms->handle) write_cache(dev);
    if (gemms->stop) cudaEventDestroy(gemms->stop);
    if (gemms->start) cudaEventDestroy(gemms->start);
    cudaFree(gemms->workspace);
    if (gemms->preference) gemms->lt.MatmulPreferenceDestroy(gemms->preference);
    if (gemms->handle) gemms->lt.Destroy(gemms->handle);
    if (gemms->lt.opened) dlclose(gemms->lt.opened);
    free(gemms->choices);
    free(gemms->cache);
    free(gemms);
    dev->cuda->gemms = NULL;
}
