/* Ranks. The program starts itself under mpirun: `test_comm CASE DEVICE` is what a rank does. Sums are of numbers
 * whose sums are exact, so that they must be equal; those of other numbers must be the same on all ranks. */
#include "tests/test.h"

#include <sys/wait.h>
#include <time.h>

#include "kernels/kernels.h"

enum { NO_MPI = 77, MOST = 65537, TOLD = 42 };

/* ---- what a rank does ---- */

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            printf("rank %d, line %d: %s: %s\n", comm_rank(comm), __LINE__, #condition, err->text);                    \
            return false;                                                                                              \
        }                                                                                                              \
    } while (0)

static bool same_everywhere(Comm *comm, const void *data, size_t bytes, Error *err) {
    uint64_t hash = 14695981039346656037u, all[8];
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ ((const unsigned char *)data)[i]) * 1099511628211u;
    CHECK(comm_exchange(comm, &hash, sizeof hash, all, err));
    for (int r = 0; r < comm_size(comm); r++) CHECK(all[r] == hash);
    return true;
}

static double crafted(int rank, int64_t i) { return (double)((i * 7 + rank * 13) % 1021) - 500.25; }

static void fill(void *host, DType dtype, int64_t count, int rank, bool exact) {
    for (int64_t i = 0; i < count; i++) {
        double value = exact ? crafted(rank, i) : crafted(rank, i) * 0.1 / (double)(i + 3 + rank);
        if (dtype == DTYPE_F64)
            ((double *)host)[i] = value;
        else
            ((float *)host)[i] = (float)value;
    }
}

static bool sums_are_exact(Comm *comm, const void *host, DType dtype, int64_t count, const Error *err) {
    for (int64_t i = 0; i < count; i++) {
        double want = 0;
        for (int r = 0; r < comm_size(comm); r++) want += crafted(r, i);
        CHECK((dtype == DTYPE_F64 ? ((const double *)host)[i] : (double)((const float *)host)[i]) == want);
    }
    return true;
}

static bool sum_case(Comm *comm, Device *dev, DType dtype, int64_t count, bool exact, Error *err) {
    static _Alignas(64) char host[MOST * sizeof(double)];
    size_t bytes = (size_t)count * dtype_size(dtype);
    void *data = device_alloc(dev, bytes, err);
    CHECK(data);
    fill(host, dtype, count, comm_rank(comm), exact);
    CHECK(device_upload(dev, data, host, bytes, err));
    CHECK(comm_exchange(comm, NULL, 0, NULL, err));
    CHECK(comm_sum(comm, data, dtype, count, err));
    CHECK(device_download(dev, host, data, bytes, err));
    device_free(dev, data);
    return (!exact || sums_are_exact(comm, host, dtype, count, err)) && same_everywhere(comm, host, bytes, err);
}

static bool test_sums(Comm *comm, Device *dev, Error *err) {
    static const int64_t COUNTS[] = {0, 1, 2, 7, 1000, MOST};
    for (size_t c = 0; c < sizeof COUNTS / sizeof *COUNTS; c++)
        for (int exact = 0; exact < 2; exact++)
            if (!sum_case(comm, dev, DTYPE_F32, COUNTS[c], exact, err) ||
                !sum_case(comm, dev, DTYPE_F64, COUNTS[c], exact, err))
                return false;
    return true;
}

/* Messages, and spans of which rank 1's is empty. */
static bool test_messages(Comm *comm, Error *err) {
    int mine[2] = {comm_rank(comm), 100 - comm_rank(comm)}, all[2 * 8];
    CHECK(comm_exchange(comm, mine, sizeof mine, all, err));
    for (int r = 0; r < comm_size(comm); r++) CHECK(all[2 * r] == r && all[2 * r + 1] == 100 - r);
    size_t first[9] = {0};
    for (int r = 0; r < comm_size(comm); r++) first[r + 1] = first[r] + (r == 1 ? 0 : 1000 + (size_t)r);
    unsigned char data[8 * 1100] = {0};
    for (size_t i = first[mine[0]]; i < first[mine[0] + 1]; i++) data[i] = (unsigned char)(i * 31 + 1);
    CHECK(comm_collect(comm, data, first, err));
    for (size_t i = 0; i < first[comm_size(comm)]; i++) CHECK(data[i] == (unsigned char)(i * 31 + 1));
    CHECK(comm_local_size(comm) == comm_size(comm) && comm_local_rank(comm) == comm_rank(comm));
    return true;
}

static bool test_work(Comm *comm, const char *device, Error *err) {
    Device *dev = strcmp(device, "cpu") ? device_open_cuda(0, DTYPE_F32, err) : device_open(DEVICE_CPU, 1, err);
    if (device_cuda_count(&(Error){0}) > 1 && strcmp(device, "cpu") != 0) {
        device_close(dev);
        dev = device_open_cuda(comm_local_rank(comm), DTYPE_F32, err);
    }
    CHECK(dev);
    CHECK(comm_join(comm, dev, err));
    bool ok = test_messages(comm, err) && test_sums(comm, dev, err);
    ok = comm_close(comm, ok, err);
    device_close(dev);
    return ok;
}

/* The last rank fails while the others are at work: each hears of it where it next meets them. */
static bool test_failure(Comm *comm, Error *err) {
    int last = comm_size(comm) - 1, meetings = 0;
    CHECK(comm_exchange(comm, NULL, 0, NULL, err));
    bool ok = comm_rank(comm) < last || fail_usage(err, "a reason");
    while (ok && meetings < 3) ok = comm_exchange(comm, NULL, 0, NULL, err) && ++meetings;
    ok = comm_close(comm, ok, err);
    return !ok && meetings == 0 && err->exit_code == EXIT_USAGE && !*err->text;
}

static bool test_all_fail(Comm *comm, Error *err) {
    bool ok = comm_close(comm, fail_usage(err, "the reason of all"), err);
    return !ok && err->exit_code == EXIT_USAGE && !*err->text;
}

/* One has failed when the others are long at work, and ends them. */
static bool test_abort(Comm *comm, Error *err) {
    if (comm_rank(comm) > 0) return comm_close(comm, fail_usage(err, "a reason not to wait"), err);
    nanosleep(&(struct timespec){.tv_sec = 60}, NULL);
    return false;
}

static int act(const char *name, const char *device) {
    Error err = {0};
    Comm *comm;
    if (!comm_open(&comm, &err) && strstr(err.text, "no MPI")) return NO_MPI;
    if (!comm) printf("%s\n", err.text);
    if (!comm) return 1;
    bool ok = !strcmp(name, "work")      ? test_work(comm, device, &err)
              : !strcmp(name, "failure") ? test_failure(comm, &err)
              : !strcmp(name, "all")     ? test_all_fail(comm, &err)
                                         : test_abort(comm, &err);
    return ok ? 0 : 1;
}

/* ---- starting ranks ---- */

static const char *program;

/* Their exit status, what they print in `output`; skips where no ranks can be started. */
static int start(int ranks, const char *name, const char *device, char *output, size_t size) {
    char *command =
        text_format(NULL, "ASAN_OPTIONS=detect_leaks=0 tests/mpirun.sh %d %s %s %s 2>&1", ranks, program, name, device);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t used = fread(output, 1, size - 1, pipe);
    output[used] = '\0';
    int status = pclose(pipe);
    free(command);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NO_MPI) {
        printf("skipped: no MPI\n");
        skip();
    }
    return WEXITSTATUS(status);
}

/* `said`: all that they are to say. */
static void expect(int ranks, const char *name, const char *device, const char *said) {
    char output[4096];
    int status = start(ranks, name, device, output, sizeof output);
    if (status || strcmp(output, said)) fail_msg("%d ranks, %s: exit %d: %s", ranks, name, status, output);
}

static void test_cpu(void **state) {
    (void)state;
    for (int ranks = 2; ranks <= 4; ranks++) expect(ranks, "work", "cpu", "");
}

/* On the emulator with the stand-in for NCCL; with NCCL itself where there are two GPUs. */
static void test_cuda(void **state) {
    (void)state;
    Error err = {0};
    int count = device_cuda_count(&err);
    if (count < 2 && !(count == 1 && getenv("SEMOLLM_NCCL"))) {
        printf("skipped: no two GPUs\n");
        skip();
    }
    expect(2, "work", "cuda", "");
}

static void test_failures(void **state) {
    (void)state;
    expect(2, "failure", "cpu", "semollm: rank 1: a reason\n");
    expect(4, "failure", "cpu", "semollm: rank 3: a reason\n");
    expect(3, "all", "cpu", "semollm: the reason of all\n");
    char output[4096];
    time_t began = time(NULL);
    assert_int_equal(start(2, "abort", "cpu", output, sizeof output), EXIT_USAGE);
    assert_non_null(strstr(output, "semollm: rank 1: a reason not to wait\n"));
    assert_true(time(NULL) - began < 20);
}

/* ---- one process ---- */

static void test_alone(void **state) {
    (void)state;
    Error err = {0};
    Comm *comm = (Comm *)&err;
    assert_true(comm_open(&comm, &err) && comm_alone("this", &err));
    assert_null(comm);
    assert_true(comm_rank(comm) == 0 && comm_size(comm) == 1);
    int message = TOLD, heard = 0;
    float value = 3;
    size_t first[] = {0, sizeof value};
    assert_true(comm_join(comm, NULL, &err) && comm_exchange(comm, &message, sizeof message, &heard, &err));
    assert_true(comm_sum(comm, &value, DTYPE_F32, 1, &err) && comm_collect(comm, &value, first, &err));
    assert_true(heard == TOLD && value == 3);
    assert_true(comm_close(comm, true, &err) && !comm_close(comm, false, &err));
    assert_int_equal(err.exit_code, EXIT_DONE);
}

/* Processes that were started together and cannot reach each other must not work side by side. */
static void test_launchers(void **state) {
    (void)state;
    static const char *const VARIABLES[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "WORLD_SIZE"};
    Comm *comm;
    for (size_t i = 0; i < sizeof VARIABLES / sizeof *VARIABLES; i++) {
        Error err = {0};
        setenv(VARIABLES[i], "2", 1);
        if (i == 3) setenv("LOCAL_RANK", "0", 1);
        assert_false(comm_alone("this", &err));
        assert_int_equal(err.exit_code, EXIT_USAGE);
        assert_non_null(strstr(err.text, VARIABLES[i]));
        setenv(VARIABLES[i], "1", 1);
        assert_true(comm_alone("this", &err) && comm_open(&comm, &err) && !comm);
        unsetenv(VARIABLES[i]);
    }
    Error err = {0};
    setenv("SLURM_STEP_NUM_TASKS", "2", 1); /* of the daemons that mpirun starts so */
    setenv("OMPI_COMM_WORLD_SIZE", "1", 1);
    assert_true(comm_alone("this", &err));
    unsetenv("SLURM_STEP_NUM_TASKS");
    unsetenv("OMPI_COMM_WORLD_SIZE");
}

int main(int argc, char **argv) {
    if (argc == 3) return act(argv[1], argv[2]);
    program = argv[0];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone), cmocka_unit_test(test_launchers), cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_cuda),  cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
