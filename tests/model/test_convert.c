#include "tests/model/torch_builder.h"

#include <signal.h>
#include <sys/resource.h>

#include "model/convert.h"
#include "model/safetensors.h"

#define FIXTURES "tests/fixtures/convert/"

static void same_tensors(const char *folder, const char *truth_path) {
    Error err = {0};
    TensorFiles *ours = tensors_open(folder, &err), *truth = tensors_open(truth_path, &err);
    assert_ok(ours && truth, &err);
    assert_int_equal(tensors_count(ours), tensors_count(truth));
    for (size_t i = 0; i < tensors_count(truth); i++) {
        const StoredTensor *expected = tensors_at(truth, i), *found = tensors_find(ours, expected->name);
        if (!found) fail_msg("%s is missing", expected->name);
        assert_int_equal(found->dtype, expected->dtype);
        assert_int_equal(found->dims, expected->dims);
        assert_memory_equal(found->shape, expected->shape, (size_t)expected->dims * sizeof(int64_t));
        assert_int_equal(found->bytes, expected->bytes);
        if (found->bytes) assert_memory_equal(found->data, expected->data, found->bytes);
    }
    tensors_close(ours);
    tensors_close(truth);
}

static bool has(const char *folder, const char *name) {
    char *path = path_join(folder, name, NULL);
    bool there = file_exists(path);
    free(path);
    return there;
}

static void convert(const char *source, const char *target, size_t shard_bytes, ConvertSummary *summary) {
    Error err = {0};
    assert_ok(convert_model(source, target, shard_bytes, summary, &err), &err);
}

static void test_single(void **state) {
    (void)state;
    ConvertSummary summary;
    char *out = test_path("single");
    convert(FIXTURES "single", out, CONVERT_SHARD_BYTES, &summary);
    assert_int_equal(summary.tensors, 26);
    assert_int_equal(summary.files, 1);
    same_tensors(out, FIXTURES "single.safetensors");
    assert_true(has(out, "config.json") && has(out, "tokenizer.json") && has(out, "merges.txt"));
    assert_false(has(out, "README.md") || has(out, "pytorch_model.bin") || has(out, "protocol4.pt"));
    Error err = {0};
    assert_false(convert_model(FIXTURES "single", out, CONVERT_SHARD_BYTES, &summary, &err));
    assert_non_null(strstr(err.text, "exists already"));
    free(out);
}

static void test_protocols(void **state) {
    (void)state;
    static const char *const files[] = {FIXTURES "single/protocol3.pt", FIXTURES "single/protocol4.pt",
                                        FIXTURES "single/protocol5.pt"};
    for (size_t i = 0; i < 3; i++) {
        ConvertSummary summary;
        char name[20];
        snprintf(name, sizeof name, "protocol%zu", i);
        char *out = test_path(name);
        convert(files[i], out, CONVERT_SHARD_BYTES, &summary);
        same_tensors(out, FIXTURES "single.safetensors");
        free(out);
    }
}

static void test_sharded(void **state) {
    (void)state;
    ConvertSummary summary;
    char *out = test_path("from-shards");
    convert(FIXTURES "sharded", out, CONVERT_SHARD_BYTES, &summary);
    assert_int_equal(summary.files, 1);
    same_tensors(out, FIXTURES "sharded.safetensors");
    free(out);
    out = test_path("to-shards");
    convert(FIXTURES "single", out, 100, &summary);
    assert_true(summary.files > 5);
    assert_true(has(out, "model.safetensors.index.json"));
    assert_false(has(out, "model.safetensors"));
    same_tensors(out, FIXTURES "single.safetensors");
    free(out);
}

static json_t *read_json(const char *folder, const char *name) {
    Error err = {0};
    char *path = path_join(folder, name, &err);
    json_t *json = json_read_file(path, 1 << 20, &err);
    assert_ok(json, &err);
    free(path);
    return json;
}

static void check_wavlm(const char *name, bool large) {
    ConvertSummary summary;
    char source[100], truth[100];
    snprintf(source, sizeof source, FIXTURES "%s.pt", name);
    snprintf(truth, sizeof truth, FIXTURES "%s.safetensors", name);
    char *out = test_path(name);
    convert(source, out, CONVERT_SHARD_BYTES, &summary);
    same_tensors(out, truth);
    json_t *config = read_json(out, "config.json"), *preprocessor = read_json(out, "preprocessor_config.json");
    const char *kind, *norm;
    int heads, buckets, distance, ffn, stable, normalize, kernel, stride;
    assert_int_equal(json_unpack(config, "{s:s, s:s, s:i, s:i, s:i, s:i, s:b, s:[i], s:[i]}", "model_type", &kind,
                                 "feat_extract_norm", &norm, "num_attention_heads", &heads, "num_buckets", &buckets,
                                 "max_bucket_distance", &distance, "intermediate_size", &ffn, "do_stable_layer_norm",
                                 &stable, "conv_kernel", &kernel, "conv_stride", &stride),
                     0);
    assert_string_equal(kind, "wavlm");
    assert_string_equal(norm, large ? "layer" : "group");
    assert_int_equal(heads, 2);
    assert_int_equal(buckets, 32);
    assert_int_equal(distance, 80);
    assert_int_equal(ffn, 48);
    assert_int_equal(stable, large);
    assert_int_equal(kernel, 10);
    assert_int_equal(stride, 5);
    json_t *conv = json_pack("[i,i,i,i,i,i,i]", 5, 2, 2, 2, 2, 2, 2);
    assert_true(json_equal(conv, json_object_get(config, "conv_stride")));
    assert_int_equal(json_unpack(preprocessor, "{s:b}", "do_normalize", &normalize), 0);
    assert_int_equal(normalize, large);
    json_decref(conv);
    json_decref(config);
    json_decref(preprocessor);
    free(out);
}

static void test_wavlm(void **state) {
    (void)state;
    check_wavlm("wavlm-base", false);
    check_wavlm("wavlm-large", true);
}

/* ---- what is refused ---- */

static char *source_folder(void) {
    Error err = {0};
    char *folder = test_path("source"), *config = test_path("source/config.json");
    assert_ok(folder_make(folder, &err) && file_write(config, "{}", 2, &err), &err);
    free(config);
    return folder;
}

/* Converting fails with one sentence that holds `part`, and leaves nothing. */
static void expect_refused(const char *source, const char *part) {
    Error err = {0};
    ConvertSummary summary;
    Names names;
    char *parent = test_path("refused"), *out = test_path("refused/out");
    assert_ok(folder_make(parent, &err), &err);
    bool ok = convert_model(source, out, CONVERT_SHARD_BYTES, &summary, &err);
    if (ok) fail_msg("accepted, expected \"%s\"", part);
    assert_int_equal(err.exit_code, EXIT_FAILED);
    if (!strstr(err.text, part)) fail_msg("expected \"%s\" in: %s", part, err.text);
    assert_ok(folder_list(parent, &names, &(Error){0}), &err);
    assert_int_equal(names.count, 0);
    names_free(&names);
    free(parent);
    free(out);
}

static void expect_archive_refused(const Text *archive, const char *part) {
    Error err = {0};
    char *folder = source_folder(), *path = test_path("source/pytorch_model.bin");
    assert_ok(file_write(path, archive->data, archive->length, &err), &err);
    expect_refused(folder, part);
    free(path);
    free(folder);
}

static void expect_pickle_refused(const char *bytes, size_t size, const char *part) {
    Text pickle = {0};
    text_add(&pickle, bytes, size);
    Text archive = torch_archive(&pickle, "0123456789abcdef", 16);
    expect_archive_refused(&archive, part);
    text_free(&archive);
    text_free(&pickle);
}

static void test_code_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *module, *name;
    } globals[] = {
        {"os", "system"},
        {"posix", "system"},
        {"nt", "system"},
        {"builtins", "eval"},
        {"builtins", "exec"},
        {"builtins", "getattr"},
        {"builtins", "__import__"},
        {"__builtin__", "eval"},
        {"subprocess", "Popen"},
        {"runpy", "run_path"},
        {"webbrowser", "open"},
        {"importlib", "import_module"},
        {"torch.hub", "load"},
        {"torch", "load"},
        {"torch._utils", "_rebuild_tensor_v2.__globals__"},
        {"torch._utils", "_rebuild_sparse_tensor"},
        {"torch.storage", "_load_from_bytes"},
        {"torch.nn.modules.linear", "Linear"},
        {"numpy.core.multiarray", "_reconstruct"},
        {"argparse", "Namespace"},
        {"collections", "OrderedDict.fromkeys"},
        {"_codecs", "encode"},
        {"pickle", "loads"},
        {"functools", "partial"},
    };
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        const char *module = globals[i].module, *name = globals[i].name;
        char part[200];
        snprintf(part, sizeof part, "asks for %s.%s: refused", module, name);
        Text by_line = {0}, stacked = {0}, inst = {0};
        text_addf(&by_line,
                  "\x80\x02"
                  "c%s\n%s\n(X",
                  module, name);
        text_add(&by_line, BYTES("\x04\0\0\0trueR."));
        expect_pickle_refused(by_line.data, by_line.length, part);
        text_add_string(&stacked, "\x80\x04");
        pickle_put_text(&stacked, module, strlen(module));
        pickle_put_text(&stacked, name, strlen(name));
        text_add(&stacked, BYTES("\x93)R."));
        expect_pickle_refused(stacked.data, stacked.length, part);
        text_addf(&inst, "\x80\x02(i%s\n%s\n.", module, name);
        expect_pickle_refused(inst.data, inst.length, part);
        text_free(&by_line);
        text_free(&stacked);
        text_free(&inst);
    }
}

static void test_other_ways_to_code(void **state) {
    (void)state;
    expect_pickle_refused(BYTES("\x80\x02(icollections\nOrderedDict\n."), "makes an object of collections.OrderedDict");
    expect_pickle_refused(BYTES("\x80\x02(ctorch\nFloatStorage\no."), "opcode 0x6f");
    expect_pickle_refused(BYTES("\x80\x02"
                                "ccollections\nOrderedDict\n)\x81."),
                          "opcode 0x81");
    expect_pickle_refused(BYTES("\x80\x02"
                                "ccollections\nOrderedDict\n)}\x92."),
                          "opcode 0x92");
    expect_pickle_refused(BYTES("\x80\x02\x82\x01."), "opcode 0x82"); /* extension registry */
    expect_pickle_refused(BYTES("\x80\x02Pstorage\n."), "opcode 0x50");
    expect_pickle_refused(BYTES("\x80\x02])R."), "calls what is no function");
    expect_pickle_refused(BYTES("\x80\x02})R."), "calls what is no function");
    expect_pickle_refused(BYTES("\x80\x02"
                                "ccollections\nOrderedDict\n]R."),
                          "calls what is no function");
    expect_pickle_refused(BYTES("\x80\x02"
                                "ccollections\nOrderedDict\n]\x85R."),
                          "in a way torch.save never does");
    expect_pickle_refused(BYTES("\x80\x02"
                                "ctorch\nFloatStorage\n)R."),
                          "in a way torch.save never does");
    expect_pickle_refused(BYTES("\x80\x02"
                                "ccollections\nOrderedDict\n}b."),
                          "may carry attributes");
    expect_pickle_refused(BYTES("\x80\x02N}b."), "may carry attributes");
    expect_pickle_refused(BYTES("\x80\x02"
                                "ctorch._utils\n_rebuild_parameter\nN\x85R."),
                          "in a way torch.save never does");
    expect_pickle_refused(BYTES("\x80\x02"
                                "ctorch._utils\n_rebuild_tensor_v2\n)R."),
                          "not described as torch.save");
    expect_pickle_refused(BYTES("\x80\x02K\x01Q."), "storage is not described");
    expect_pickle_refused(BYTES("\x80\x02)Q."), "storage is not described");
}

static void test_bombs(void **state) {
    (void)state;
    enum { MANY = 1000000, DOUBLINGS = 200 };
    Text marks = {0}, lists = {0}, tuples = {0}, doubling = {0}, circle = {0};
    text_add_string(&marks, "\x80\x02");
    text_add_string(&lists, "\x80\x02");
    text_add_string(&tuples, "\x80\x02N");
    for (int i = 0; i < MANY; i++) {
        text_add(&marks, "(", 1);
        text_add(&lists, "]", 1);
        text_add(&tuples, "\x85", 1);
    }
    for (int i = 1; i < MANY; i++) text_add(&lists, "a", 1);
    text_add(&lists, ".", 1);
    text_add(&tuples, ".", 1);
    expect_pickle_refused(marks.data, marks.length, "wants 1 bytes where 0 are left");
    expect_pickle_refused(lists.data, lists.length, "no dict of tensors");
    expect_pickle_refused(tuples.data, tuples.length, "no dict of tensors");
    text_add_string(&doubling, "\x80\x02]q");
    text_add(&doubling, "\0", 1);
    for (int i = 1; i < DOUBLINGS; i++) {
        char index = (char)i, before = (char)(i - 1);
        text_add(&doubling, "](h", 3);
        text_add(&doubling, &before, 1);
        text_add(&doubling, "h", 1);
        text_add(&doubling, &before, 1);
        text_add(&doubling, "eq", 2);
        text_add(&doubling, &index, 1);
    }
    text_add(&doubling, ".", 1);
    expect_pickle_refused(doubling.data, doubling.length, "no dict of tensors");
    text_add(&circle, BYTES("\x80\x02}q\0X\x05\0\0\0modelh\0s."));
    expect_pickle_refused(circle.data, circle.length, "no dict of tensors");
    expect_pickle_refused(BYTES("\x80\x02X\xff\xff\xff\xff"), "wants 4294967295 bytes");
    expect_pickle_refused(BYTES("\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f"), "wants 9223372036854775807 bytes");
    expect_pickle_refused(BYTES("\x80\x02\x8b\xff\xff\xff\xff"), "wants 4294967295 bytes");
    expect_pickle_refused(BYTES("\x80\x02Nr\xff\xff\xff\xff."), "absurd");
    expect_pickle_refused(BYTES("\x80\x02j\xff\xff\xff\xff."), "nothing is in the memo");
    expect_pickle_refused(BYTES("\x80\x01N."), "protocol 1");
    expect_pickle_refused(BYTES("\x80\xffN."), "protocol 255");
    text_free(&marks);
    text_free(&lists);
    text_free(&tuples);
    text_free(&doubling);
    text_free(&circle);
}

static void expect_tensor_refused(const TensorSpec *spec, const char *part) {
    Text pickle = pickle_of_tensor(spec);
    expect_pickle_refused(pickle.data, pickle.length, part);
    text_free(&pickle);
}

/* The storage holds 16 bytes. */
static void test_tensors_out_of_bounds(void **state) {
    (void)state;
    const TensorSpec good = {"FloatStorage", "0", 4, 0, 1, {4}, {1}};
    TensorSpec bad;
#define BAD(change, part)                                                                                              \
    do {                                                                                                               \
        bad = good;                                                                                                    \
        change;                                                                                                        \
        expect_tensor_refused(&bad, part);                                                                             \
    } while (0)
    BAD(bad.offset = 1, "outside its storage");
    BAD(bad.offset = INT64_MAX, "outside its storage");
    BAD(bad.offset = -1, "not described");
    BAD(bad.shape[0] = 5, "outside its storage");
    BAD(bad.shape[0] = -1, "at least 0");
    BAD(bad.stride[0] = 2, "outside its storage");
    BAD(bad.stride[0] = -1, "at least 0");
    BAD(bad.stride[0] = INT64_MAX, "outside its storage");
    BAD(bad.count = 5, "should hold 5 elements");
    BAD(bad.count = INT64_MAX, "should hold");
    BAD(bad.count = -1, "not described");
    BAD(bad.storage = "DoubleStorage", "should hold 4 elements");
    BAD(bad.storage = "ShortStorage", "asks for torch.ShortStorage");
    BAD(bad.key = "1", "not in the archive");
    BAD(bad.key = "../byteorder", "not in the archive");
    BAD(bad.dims = 9, "9 dimensions");
    BAD((bad.dims = 3, bad.shape[0] = bad.shape[1] = bad.shape[2] = INT64_C(1) << 40), "overflows");
    BAD((bad.shape[0] = INT64_C(1) << 40, bad.stride[0] = 0), "refused");
    BAD((bad.shape[0] = INT64_MAX, bad.stride[0] = 0), "overflows");
#undef BAD
}

/* The same tensor under many names would fill a disk from a small file. */
static void test_repeated_tensor(void **state) {
    (void)state;
    enum { STORAGE = 1 << 20, REPEATS = 100 };
    const TensorSpec spec = {"ByteStorage", "0", STORAGE, 0, 1, {STORAGE}, {1}};
    Text pickle = {0};
    text_add_string(&pickle, "\x80\x02}");
    for (int i = 0; i < REPEATS; i++) {
        char name[20];
        snprintf(name, sizeof name, "w%d", i);
        pickle_put_text(&pickle, name, strlen(name));
        pickle_put_tensor(&pickle, &spec);
        text_add_string(&pickle, "s");
    }
    text_add_string(&pickle, ".");
    char *storage = calloc(1, STORAGE);
    Text archive = torch_archive(&pickle, storage, STORAGE);
    expect_archive_refused(&archive, "more than twice");
    text_free(&archive);
    text_free(&pickle);
    free(storage);
}

static void test_archives(void **state) {
    (void)state;
    const TensorSpec good = {"FloatStorage", "0", 4, 0, 1, {4}, {1}};
    Text pickle = pickle_of_tensor(&good);
    static const struct {
        const char *names[3];
        int method;
        const char *byte_order, *part;
    } cases[] = {
        {{"archive/data.pkl", "archive/byteorder", "archive/data/0"}, 8, "little", "compressed"},
        {{"archive/data.pkl", "archive/byteorder", "archive/data/0"}, 0, "big", "little-endian"},
        {{"archive/data.pkl", "x/data.pkl", "archive/data/0"}, 0, "little", "two data.pkl"},
        {{"archive/data.pkl", "archive/data/0", "archive/data/0"}, 0, "little", "twice"},
        {{"data.pkl", "byteorder", "data/0"}, 0, "little", "no data.pkl"},
        {{"a/b/data.pkl", "archive/byteorder", "archive/data/0"}, 0, "little", "no data.pkl"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ZipBuilder zip = {0};
        zip_put(&zip, cases[i].names[0], pickle.data, pickle.length, cases[i].method);
        zip_put(&zip, cases[i].names[1], cases[i].byte_order, strlen(cases[i].byte_order), 0);
        zip_put(&zip, cases[i].names[2], "0123456789abcdef", 16, 0);
        zip_finish(&zip);
        expect_archive_refused(&zip.file, cases[i].part);
        text_free(&zip.file);
    }
    Text archive = torch_archive(&pickle, "0123456789abcdef", 16);
    char *storage = memmem(archive.data, archive.length, "0123456789abcdef", 16);
    storage[7] ^= 1;
    expect_archive_refused(&archive, "does not match its checksum");
    storage[7] ^= 1;
    archive.data[0] = 'Q'; /* of the first local header */
    expect_archive_refused(&archive, "does not begin as a zip archive");
    text_free(&archive);
    text_free(&pickle);
}

static void test_sources(void **state) {
    (void)state;
    expect_refused(FIXTURES "before-1.6.pt", "before 1.6");
    expect_refused(FIXTURES "none.pt", "cannot be opened");
    expect_refused(FIXTURES "single.safetensors", "not a PyTorch file");
    expect_refused(FIXTURES, "neither pytorch_model.bin nor");
    Error err = {0};
    char *folder = source_folder(), *index = test_path("source/pytorch_model.bin.index.json");
    static const struct {
        const char *index, *part;
    } cases[] = {
        {"{\"weight_map\": {\"a\": \"../x.bin\"}}", "not the name of a file"},
        {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "not the name of a file"},
        {"{\"weight_map\": {\"a\": \"none.bin\"}}", "cannot be opened"},
        {"{\"weight_map\": {\"a\": 1}}", "must be a string"},
        {"{\"weight_map\": 1}", "must be an object"},
        {"[", "not valid JSON"},
        {"{\"weight_map\": {\"a\": \"config.json\"}}", "not a PyTorch file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *bin = test_path("source/pytorch_model.bin");
        unlink(bin);
        free(bin);
        assert_ok(file_write(index, cases[i].index, strlen(cases[i].index), &err), &err);
        expect_refused(folder, cases[i].part);
    }
    free(index);
    free(folder);
}

/* cfg of a Microsoft checkpoint: {"cfg": {key: value}, "model": {"mask_emb": tensor}}. */
static void expect_cfg_refused(const char *key, const char *value, size_t value_size, const char *part) {
    const TensorSpec good = {"FloatStorage", "0", 4, 0, 1, {4}, {1}};
    Text pickle = {0};
    text_add_string(&pickle, "\x80\x02}");
    pickle_put_text(&pickle, BYTES("cfg"));
    text_add_string(&pickle, "}(");
    pickle_put_text(&pickle, BYTES("relative_position_embedding"));
    text_add_string(&pickle, "\x88");
    pickle_put_text(&pickle, BYTES("gru_rel_pos"));
    text_add_string(&pickle, "\x88");
    pickle_put_text(&pickle, key, strlen(key));
    text_add(&pickle, value, value_size);
    text_add_string(&pickle, "us");
    pickle_put_text(&pickle, BYTES("model"));
    text_add_string(&pickle, "}");
    pickle_put_text(&pickle, BYTES("mask_emb"));
    pickle_put_tensor(&pickle, &good);
    text_add_string(&pickle, "ss.");
    expect_pickle_refused(pickle.data, pickle.length, part);
    text_free(&pickle);
}

static void test_cfg(void **state) {
    (void)state;
    expect_cfg_refused("gru_rel_pos", BYTES("\x89"), "no gated relative positions");
    expect_cfg_refused("gru_rel_pos", BYTES("K\x01"), "must be True or False");
    expect_cfg_refused("encoder_layers", BYTES("X\x02\0\0\0ab"), "must be an integer");
    expect_cfg_refused("encoder_layers", BYTES("K\0"), "between 1 and");
    expect_cfg_refused("encoder_layers", BYTES("J\xff\xff\xff\x7f"), "between 1 and");
    expect_cfg_refused("dropout", BYTES("K\x02"), "between 0 and 1");
    expect_cfg_refused("extractor_mode", BYTES("X\x02\0\0\0ab"), "layer_norm, found \"ab\"");
    expect_cfg_refused("extractor_mode", BYTES("X\x02\0\0\0a\0"), "NUL");
    expect_cfg_refused("activation_fn", BYTES("X\x04\0\0\0relu"), "must be gelu");
    static const char *const convs[] = {"",
                                        "[",
                                        "[]",
                                        "[(1,2)]",
                                        "[(1,2,3)",
                                        "[(1,2,3)] *",
                                        "[(1,2,3)] * 17",
                                        "[(1,2,3)] * 999999",
                                        "[(0,2,3)]",
                                        "[(1,2,3)] + ",
                                        "[(1,2,9999999)]",
                                        "__import__('os')",
                                        "[(1,2,3)] x",
                                        "[(1,-2,3)]"};
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++) {
        Text value = {0};
        pickle_put_text(&value, convs[i], strlen(convs[i]));
        expect_cfg_refused("conv_feature_layers", value.data, value.length, "must look like");
        text_free(&value);
    }
}

bool command_convert(int argc, char **argv, Error *err);

static void test_command(void **state) {
    (void)state;
    Error err = {0};
    char *out = test_path("command");
    char *good[] = {"convert", FIXTURES "sharded", "-o", out, NULL};
    assert_ok(command_convert(4, good, &err), &err);
    same_tensors(out, FIXTURES "sharded.safetensors");
    assert_false(command_convert(2, good, &err));
    assert_int_equal(err.exit_code, EXIT_USAGE);
    assert_non_null(strstr(err.text, "-o DIR"));
    err = (Error){0};
    char *zero[] = {"convert", FIXTURES "sharded", "-o", out, "--shard-size", "0", NULL};
    assert_false(command_convert(6, zero, &err));
    assert_int_equal(err.exit_code, EXIT_USAGE);
    free(out);
}

/* Every write may fail; the folder then does not appear. */
static void test_full_disk(void **state) {
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t bytes = 0; bytes < 3000; bytes += 120) {
        struct rlimit limit;
        getrlimit(RLIMIT_FSIZE, &limit);
        limit.rlim_cur = bytes;
        setrlimit(RLIMIT_FSIZE, &limit);
        expect_refused(FIXTURES "single", "cannot be written");
        limit.rlim_cur = RLIM_INFINITY;
        setrlimit(RLIMIT_FSIZE, &limit);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single),          cmocka_unit_test(test_protocols),
        cmocka_unit_test(test_sharded),         cmocka_unit_test(test_wavlm),
        cmocka_unit_test(test_code_is_refused), cmocka_unit_test(test_other_ways_to_code),
        cmocka_unit_test(test_bombs),           cmocka_unit_test(test_tensors_out_of_bounds),
        cmocka_unit_test(test_repeated_tensor), cmocka_unit_test(test_archives),
        cmocka_unit_test(test_sources),         cmocka_unit_test(test_cfg),
        cmocka_unit_test(test_command),         cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, test_cleanup);
}
