/* Damaged and malicious model files, some thousands, all generated: each is read rightly or refused with
 * one clear sentence, and nothing half-written stays behind. The sanitizers' build is where this counts. */
#include "tests/model/torch_builder.h"

#include "model/convert.h"
#include "model/decoder.h"
#include "model/safetensors.h"
#include "model/wavlm.h"

enum { FLIPS = 1500, SEED = 20241124 };

static size_t cases; /* of the whole program, printed at its end */

static void check_sentence(const Error *err) {
    cases++;
    assert_true(err->exit_code == EXIT_FAILED || err->exit_code == EXIT_USAGE);
    assert_true(strlen(err->text) > 20);
    if (strchr(err->text, '\n')) fail_msg("more than one line: %s", err->text);
}

static void write_file(const char *path, const void *data, size_t size) {
    FILE *file = fopen(path, "wb"); /* no fsync: there are thousands */
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* ---- safetensors ---- */

static const char HEADER[] =
    "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
    "\"b\":{\"dtype\":\"BF16\",\"shape\":[5],\"data_offsets\":[24,34]},"
    "\"c\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[34,42]},"
    "\"d\":{\"dtype\":\"F16\",\"shape\":[0,9],\"data_offsets\":[42,42]}}";

static const char DATA[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEF"; /* 42 bytes */

static Text safetensors_file(const char *header, size_t header_size, uint64_t length, size_t data_size) {
    Text file = {0};
    put_number(&file, length, 8);
    text_add(&file, header, header_size);
    text_add(&file, DATA, data_size);
    return file;
}

/* Opens the file and touches every byte it gives out; false with a checked error if it is refused. */
static bool open_safetensors(const char *path, const Text *file, Error *err) {
    *err = (Error){0};
    write_file(path, file->data, file->length);
    TensorFiles *files = tensors_open(path, err);
    if (!files) {
        check_sentence(err);
        return false;
    }
    cases++;
    for (size_t i = 0; i < tensors_count(files); i++) {
        const StoredTensor *tensor = tensors_at(files, i);
        assert_ptr_equal(tensors_find(files, tensor->name), tensor);
        volatile unsigned char sum = 0;
        for (size_t b = 0; b < tensor->bytes; b++)
            sum = (unsigned char)(sum + ((const unsigned char *)tensor->data)[b]);
        float out[64];
        if (tensor->bytes <= sizeof out / 2)
            tensors_read(files, tensor->name, tensor->dims, tensor->shape, out, &(Error){0});
    }
    tensors_metadata(files, "format");
    tensors_close(files);
    return true;
}

static void test_safetensors_bytes(void **state) {
    (void)state;
    Error err;
    char *path = test_path("hostile.safetensors");
    Text good = safetensors_file(HEADER, sizeof HEADER - 1, sizeof HEADER - 1, 42);
    assert_ok(open_safetensors(path, &good, &err), &err);
    for (size_t size = 0; size < good.length; size++) {
        Text cut = {.data = good.data, .length = size};
        assert_false(open_safetensors(path, &cut, &err));
    }
    text_add(&good, "x", 1);
    assert_false(open_safetensors(path, &good, &err)); /* bytes that no tensor owns */
    good.length--;
    Rng rng = rng_stream(SEED, 0, 0, 0);
    for (int i = 0; i < FLIPS; i++) {
        size_t at = rng_below(&rng, (uint32_t)good.length);
        char before = good.data[at];
        good.data[at] = (char)(before ^ 1 << rng_below(&rng, 8));
        open_safetensors(path, &good, &err);
        if (i % 3) good.data[at] = before; /* others pile up */
        if (i % 30 == 0) {
            text_free(&good);
            good = safetensors_file(HEADER, sizeof HEADER - 1, sizeof HEADER - 1, 42);
        }
    }
    text_free(&good);
    free(path);
}

static void test_safetensors_lengths(void **state) {
    (void)state;
    static const uint64_t lengths[] = {
        0,         1,         7,          8,         sizeof HEADER, sizeof HEADER - 3, 100000000,
        100000001, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX,    UINT64_MAX - 7,    UINT64_MAX - 8};
    Error err;
    char *path = test_path("hostile.safetensors");
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        Text file = safetensors_file(HEADER, sizeof HEADER - 1, lengths[i], 42);
        assert_false(open_safetensors(path, &file, &err));
        text_free(&file);
    }
    free(path);
}

#define ENTRY(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_safetensors_headers(void **state) {
    (void)state;
    static const struct {
        const char *header, *part; /* of the error; null: the file is good */
        size_t data;
    } headers[] = {
        {"{}", NULL, 0},
        {"{}   ", NULL, 0},
        {"{\"a\":" ENTRY("F32", "[1]", "[0,4]") "}", NULL, 4},
        {"{\"a\":" ENTRY("F8_E4M3", "[4]", "[0,4]") "}", NULL, 4},
        {"{\"a\":" ENTRY("BOOL", "[4]", "[0,4]") "}", NULL, 4},
        {"{\"b\":" ENTRY("F16", "[1]", "[2,4]") ",\"a\":" ENTRY("F16", "[1]", "[0,2]") "}", NULL, 4},
        {"{}", "holds 4", 4},
        {"{} x", "not valid JSON", 0},
        {"{", "not valid JSON", 0},
        {" {}", "does not begin", 0},
        {"[]", "does not begin", 0},
        {"null", "does not begin", 0},
        {"{\"a\":1}", "must be an object", 4},
        {"{\"a\":null}", "must be an object", 4},
        {"{\"a\":[]}", "must be an object", 4},
        {"{\"a\":{}}", "\"dtype\" must be a string", 4},
        {"{\"a\":" ENTRY("F31", "[1]", "[0,4]") "}", "unknown dtype", 4},
        {"{\"a\":" ENTRY("f32", "[1]", "[0,4]") "}", "unknown dtype", 4},
        {"{\"a\":" ENTRY("F4", "[8]", "[0,4]") "}", "unknown dtype", 4},
        {"{\"a\":{\"dtype\":3,\"shape\":[1],\"data_offsets\":[0,4]}}", "must be a string", 4},
        {"{\"a\":{\"dtype\":\"F\\u0000\",\"shape\":[1],\"data_offsets\":[0,4]}}", "valid JSON", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", "\"shape\" must be", 4},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", "\"data_offsets\" must be", 4},
        {"{\"a\":" ENTRY("F32", "1", "[0,4]") "}", "\"shape\" must be an array", 4},
        {"{\"a\":" ENTRY("F32", "{}", "[0,4]") "}", "\"shape\" must be an array", 4},
        {"{\"a\":" ENTRY("F32", "[\"1\"]", "[0,4]") "}", "must be an integer", 4},
        {"{\"a\":" ENTRY("F32", "[1.0]", "[0,4]") "}", "must be an integer", 4},
        {"{\"a\":" ENTRY("F32", "[true]", "[0,4]") "}", "must be an integer", 4},
        {"{\"a\":" ENTRY("F32", "[-1]", "[0,4]") "}", "at least 0", 4},
        {"{\"a\":" ENTRY("F32", "[-1,-1]", "[0,4]") "}", "at least 0", 4},
        {"{\"a\":" ENTRY("F32", "[2]", "[0,4]") "}", "do not fill", 4},
        {"{\"a\":" ENTRY("F32", "[0]", "[0,4]") "}", "do not fill", 4},
        {"{\"a\":" ENTRY("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", "9 dimensions", 4},
        {"{\"a\":" ENTRY("F32", "[4611686018427387904,4]", "[0,0]") "}", "overflows", 4},
        {"{\"a\":" ENTRY("F32", "[4294967296,4294967296]", "[0,0]") "}", "overflows", 4},
        {"{\"a\":" ENTRY("F32", "[4611686018427387904]", "[0,0]") "}", "do not fill", 4},
        {"{\"a\":" ENTRY("U8", "[9223372036854775807,2]", "[0,4]") "}", "do not fill", 4},
        {"{\"a\":" ENTRY("F32", "[9223372036854775808]", "[0,4]") "}", "valid JSON", 4},
        {"{\"a\":" ENTRY("F32", "[1e400]", "[0,4]") "}", "valid JSON", 4},
        {"{\"a\":" ENTRY("F32", "[1]", "[0]") "}", "two integers", 4},
        {"{\"a\":" ENTRY("F32", "[1]", "[0,4,8]") "}", "two integers", 4},
        {"{\"a\":" ENTRY("F32", "[1]", "[0,\"4\"]") "}", "two integers", 4},
        {"{\"a\":" ENTRY("F32", "[1]", "[0,4.0]") "}", "two integers", 4},
        {"{\"a\":" ENTRY("F32", "[1]", "4") "}", "two integers", 4},
        {"{\"a\":" ENTRY("F32", "[1]", "[-4,0]") "}", "two integers", 4},
        {"{\"a\":" ENTRY("F32", "[1]", "[4,8]") "}", "two integers", 4},
        {"{\"a\":" ENTRY("F32", "[1]", "[0,9223372036854775807]") "}", "two integers", 4},
        {"{\"a\":" ENTRY("F32", "[1]", "[4,0]") "}", "before they begin", 4},
        {"{\"a\":" ENTRY("F32", "[1]", "[1,5]") "}", "begins at byte 1", 5},
        {"{\"a\":" ENTRY("F32", "[1]", "[0,4]") "}", "holds 5", 5},
        {"{\"a\":" ENTRY("F32", "[1]", "[0,4]") ",\"b\":" ENTRY("F32", "[1]", "[0,4]") "}", "gap or overlap", 4},
        {"{\"a\":" ENTRY("F32", "[1]", "[0,4]") ",\"b\":" ENTRY("F32", "[1]", "[2,6]") "}", "gap or overlap", 6},
        {"{\"a\":" ENTRY("F32", "[1]", "[0,4]") ",\"b\":" ENTRY("F32", "[1]", "[5,9]") "}", "gap or overlap", 9},
        {"{\"a\":" ENTRY("F32", "[1]", "[0,4]") ",\"a\":" ENTRY("F32", "[1]", "[4,8]") "}", "valid JSON", 8},
        {"{\"a\":" ENTRY("F32", "[1]", "[0,4]") ",\"\\u0061\":" ENTRY("F32", "[1]", "[4,8]") "}", "valid JSON", 8},
        {"{\"a\\u0000\":" ENTRY("F32", "[1]", "[0,4]") "}", "valid JSON", 4},
        {"{\"\xff\":" ENTRY("F32", "[1]", "[0,4]") "}", "valid JSON", 4},
        {"{\"\xc0\x80\":" ENTRY("F32", "[1]", "[0,4]") "}", "valid JSON", 4},
        {"{\"\xed\xa0\x80\":" ENTRY("F32", "[1]", "[0,4]") "}", "valid JSON", 4},
        {"{\"__metadata__\":1}", "must be an object", 0},
        {"{\"__metadata__\":{\"a\":1}}", "strings only", 0},
        {"{\"__metadata__\":{\"a\":{\"b\":\"c\"}}}", "strings only", 0},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", "valid JSON", 0},
    };
    char *path = test_path("hostile.safetensors");
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        Error err;
        size_t length = strlen(headers[i].header);
        Text file = safetensors_file(headers[i].header, length, length, headers[i].data);
        bool ok = open_safetensors(path, &file, &err);
        if (ok != !headers[i].part) fail_msg("header %s was %s", headers[i].header, ok ? "accepted" : err.text);
        if (!ok && !strstr(err.text, headers[i].part))
            fail_msg("header %s: expected \"%s\" in: %s", headers[i].header, headers[i].part, err.text);
        text_free(&file);
    }
    Text deep = {0};
    for (int i = 0; i < 100000; i++) text_add_string(&deep, "{\"a\":");
    Text file = safetensors_file(deep.data, deep.length, deep.length, 0);
    assert_false(open_safetensors(path, &file, &(Error){0}));
    text_free(&deep);
    text_free(&file);
    free(path);
}

/* ---- .bin files ---- */

typedef struct ConvertPaths {
    char *source, *config, *bin, *parent, *out;
} ConvertPaths;

static ConvertPaths convert_paths(void) {
    Error err = {0};
    ConvertPaths paths = {test_path("hostile"), test_path("hostile/config.json"),
                          test_path("hostile/pytorch_model.bin"), test_path("result"), test_path("result/out")};
    assert_ok(folder_make(paths.source, &err) && folder_make(paths.parent, &err), &err);
    write_file(paths.config, "{}", 2);
    return paths;
}

static void free_paths(ConvertPaths *paths) {
    free(paths->source);
    free(paths->config);
    free(paths->bin);
    free(paths->parent);
    free(paths->out);
}

static size_t names_in(const char *folder) {
    Names names;
    assert_true(folder_list(folder, &names, NULL));
    size_t count = names.count;
    names_free(&names);
    return count;
}

/* Converts the archive; what comes of it is a sound folder or a sentence and nothing. */
static bool convert_archive(const ConvertPaths *paths, const Text *archive) {
    Error err = {0};
    ConvertSummary summary;
    write_file(paths->bin, archive->data, archive->length);
    bool ok = convert_model(paths->source, paths->out, CONVERT_SHARD_BYTES, &summary, &err);
    if (!ok) {
        check_sentence(&err);
        assert_int_equal(names_in(paths->parent), 0);
        return false;
    }
    cases++;
    TensorFiles *files = tensors_open(paths->out, &err);
    assert_ok(files, &err);
    tensors_close(files);
    assert_ok(folder_remove(paths->out, &err), &err);
    return true;
}

static Text good_pickle(void) {
    const TensorSpec spec = {"FloatStorage", "0", 4, 1, 2, {1, 3}, {3, 1}};
    return pickle_of_tensor(&spec);
}

static void test_archive_bytes(void **state) {
    (void)state;
    ConvertPaths paths = convert_paths();
    Text pickle = good_pickle(), archive = torch_archive(&pickle, "0123456789abcdef", 16);
    assert_true(convert_archive(&paths, &archive));
    for (size_t size = 0; size < archive.length; size++) {
        Text cut = {.data = archive.data, .length = size};
        assert_false(convert_archive(&paths, &cut));
    }
    Rng rng = rng_stream(SEED, 1, 0, 0);
    for (int i = 0; i < FLIPS; i++) {
        size_t at = rng_below(&rng, (uint32_t)archive.length);
        char before = archive.data[at];
        archive.data[at] = (char)(before ^ 1 << rng_below(&rng, 8));
        convert_archive(&paths, &archive);
        archive.data[at] = before;
    }
    text_free(&pickle);
    text_free(&archive);
    free_paths(&paths);
}

/* The pickle is changed before it is packed, so that the checksums are right. */
static void test_pickle_bytes(void **state) {
    (void)state;
    ConvertPaths paths = convert_paths();
    Rng rng = rng_stream(SEED, 2, 0, 0);
    for (int i = 0; i < 2 * FLIPS; i++) {
        Text pickle = good_pickle();
        for (uint32_t change = rng_below(&rng, 3) + 1; change > 0; change--) {
            uint32_t at = rng_below(&rng, (uint32_t)pickle.length), from = rng_below(&rng, (uint32_t)pickle.length);
            switch (rng_below(&rng, 4)) {
            case 0:
                pickle.data[at] = (char)(pickle.data[at] ^ 1 << rng_below(&rng, 8));
                break;
            case 1:
                pickle.data[at] = (char)rng_below(&rng, 256);
                break;
            case 2: /* a stretch written over another */
                memmove(pickle.data + at, pickle.data + from, pickle.length - (at > from ? at : from));
                break;
            default:
                pickle.length = at + 1;
            }
        }
        Text archive = torch_archive(&pickle, "0123456789abcdef", 16);
        convert_archive(&paths, &archive);
        text_free(&pickle);
        text_free(&archive);
    }
    free_paths(&paths);
}

/* Numbers of the zip's own headers at their extremes. */
static void test_archive_numbers(void **state) {
    (void)state;
    static const uint32_t extremes[] = {0, 1, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
    ConvertPaths paths = convert_paths();
    Text pickle = good_pickle(), archive = torch_archive(&pickle, "0123456789abcdef", 16);
    const char *magics[] = {"PK\1\2", "PK\3\4", "PK\5\6"};
    for (size_t m = 0; m < 3; m++) {
        char *header = memmem(archive.data, archive.length, magics[m], 4);
        size_t room = (size_t)(archive.data + archive.length - header);
        for (size_t at = 4; at + 4 <= room && at < 46; at += 2)
            for (size_t e = 0; e < 6; e++) {
                char before[4];
                memcpy(before, header + at, 4);
                memcpy(header + at, &extremes[e], 4);
                convert_archive(&paths, &archive);
                memcpy(header + at, before, 4);
            }
    }
    text_free(&pickle);
    text_free(&archive);
    free_paths(&paths);
}

/* ---- config.json ---- */

static const char WAVLM_CONFIG[] =
    "{\"model_type\":\"wavlm\",\"hidden_size\":32,\"num_hidden_layers\":2,\"num_attention_heads\":2,"
    "\"intermediate_size\":48,\"conv_dim\":[16,16],\"conv_kernel\":[10,3],\"conv_stride\":[5,2],\"conv_bias\":false,"
    "\"num_conv_pos_embeddings\":16,\"num_conv_pos_embedding_groups\":4,\"num_buckets\":32,"
    "\"max_bucket_distance\":80,\"feat_extract_norm\":\"group\",\"do_stable_layer_norm\":false,"
    "\"layer_norm_eps\":1e-5,\"hidden_act\":\"gelu\",\"feat_extract_activation\":\"gelu\"}";

static const char DECODER_CONFIG[] =
    "{\"model_type\":\"llama\",\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":32,\"num_hidden_layers\":2,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":8,\"intermediate_size\":48,\"vocab_size\":64,"
    "\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"max_position_embeddings\":128,\"tie_word_embeddings\":true,"
    "\"hidden_act\":\"silu\",\"eos_token_id\":2,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,"
    "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,\"original_max_position_embeddings\":64},"
    "\"attention_bias\":false,\"mlp_bias\":false,\"torch_dtype\":\"float32\"}";

static bool read_wavlm_config(const char *folder, Error *err) {
    WavlmConfig config;
    return wavlm_config_read(&config, folder, err);
}

static bool read_decoder_config(const char *folder, Error *err) {
    DecoderConfig config;
    return decoder_config_read(&config, folder, err);
}

typedef bool ReadConfig(const char *folder, Error *err);

static bool try_config(ReadConfig *read, const char *text, size_t size) {
    Error err = {0};
    char *folder = test_path("configs"), *path = test_path("configs/config.json");
    assert_true(folder_make(folder, NULL));
    write_file(path, text, size);
    bool ok = read(folder, &err);
    if (ok)
        cases++;
    else
        check_sentence(&err);
    free(folder);
    free(path);
    return ok;
}

/* Every member of `object` replaced by every wrong thing, those of its own members too. */
static void try_members(ReadConfig *read, json_t *root, json_t *object) {
    static const char *const wrong[] = {"null",
                                        "-1",
                                        "0",
                                        "1",
                                        "3",
                                        "7.5",
                                        "-0.0",
                                        "1e308",
                                        "1e-320",
                                        "2147483648",
                                        "9223372036854775807",
                                        "-9223372036854775808",
                                        "\"\"",
                                        "\"x\"",
                                        "true",
                                        "false",
                                        "[]",
                                        "[null]",
                                        "[0]",
                                        "[-1, 3]",
                                        "[1e9, 2]",
                                        "[[1]]",
                                        "{}",
                                        "{\"rope_type\": \"yarn\"}"};
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(object, next, key, value) {
        char *name = strdup(key);
        json_t *kept = json_incref(value);
        if (json_is_object(value)) try_members(read, root, value);
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            json_object_set_new(object, name, json_loads(wrong[i], JSON_DECODE_ANY, NULL));
            char *text = json_dumps(root, JSON_COMPACT);
            try_config(read, text, strlen(text));
            free(text);
        }
        json_object_set_new(object, name, kept);
        free(name);
    }
}

static void try_all(ReadConfig *read, const char *config, uint32_t place) {
    size_t size = strlen(config);
    assert_true(try_config(read, config, size));
    json_t *root = json_loads(config, 0, NULL);
    try_members(read, root, root);
    json_decref(root);
    for (size_t cut = 0; cut < size; cut += 7) assert_false(try_config(read, config, cut));
    assert_false(try_config(read, BYTES("{}")) && read == read_decoder_config);
    assert_false(try_config(read, BYTES("[]")));
    assert_false(try_config(read, BYTES("null")));
    Rng rng = rng_stream(SEED, place, 0, 0);
    char *text = strdup(config);
    for (int i = 0; i < FLIPS / 3; i++) {
        size_t at = rng_below(&rng, (uint32_t)size);
        text[at] = (char)(config[at] ^ 1 << rng_below(&rng, 8));
        try_config(read, text, size);
        text[at] = config[at];
    }
    free(text);
}

static void test_wavlm_config(void **state) {
    (void)state;
    try_all(read_wavlm_config, WAVLM_CONFIG, 3);
}

static void test_decoder_config(void **state) {
    (void)state;
    try_all(read_decoder_config, DECODER_CONFIG, 4);
}

static int finish(void **state) {
    printf("%zu hostile model files\n", cases);
    return test_cleanup(state) || cases < 1000;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_safetensors_bytes),   cmocka_unit_test(test_safetensors_lengths),
        cmocka_unit_test(test_safetensors_headers), cmocka_unit_test(test_archive_bytes),
        cmocka_unit_test(test_pickle_bytes),        cmocka_unit_test(test_archive_numbers),
        cmocka_unit_test(test_wavlm_config),        cmocka_unit_test(test_decoder_config),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
