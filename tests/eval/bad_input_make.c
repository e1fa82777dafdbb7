/* For tests/e2e/bad_input.sh: sounds, damaged copies of files, and files made to harm.
 *     sound FILE SAMPLES HZ        a tone (0 Hz: digital silence) as 16 kHz .wav or .flac
 *     damage IN OUT KIND SEED      a copy, damaged the same way for the same seed (see DAMAGES)
 *     hostile KIND FOLDER          files of a kind, each wrong in its own way (see HOSTILE)
 *     objects FILE                 exits 0 if every line is a JSON object */
#include "tests/model/torch_builder.h"

#include <inttypes.h>
#include <math.h>

#include "data/shards_format.h"

enum { BYTES_MAX = 64 << 20 };

static int die(const char *what, const Error *err) {
    fprintf(stderr, "bad_input_make: %s: %s\n", what, err ? err->text : "wrong usage");
    return EXIT_USAGE;
}

static Text read_text(const char *path) {
    Error err = {0};
    Text text = {0};
    text.data = file_read(path, BYTES_MAX, &text.length, &err);
    if (!text.data) exit(die(path, &err));
    text.capacity = text.length + 1;
    return text;
}

static void write_text(const char *path, const Text *text) {
    FILE *file = fopen(path, "wb"); /* no fsync: there are hundreds */
    if (!file || fwrite(text->data, 1, text->length, file) != text->length || fclose(file) != 0) exit(die(path, NULL));
}

/* ---- sounds ---- */

static int sound(const char *path, int64_t count, double hertz) {
    Error err = {0};
    bool flac = strstr(path, ".flac") != NULL;
    Audio audio = {memory_new((size_t)count, sizeof(float), &err), count, AUDIO_RATE};
    for (int64_t i = 0; hertz > 0 && i < count; i++) {
        double t = (double)i / AUDIO_RATE, phase = 2 * 3.14159265358979 * hertz * t;
        double syllable = 0.55 + 0.45 * sin(2 * 3.14159265358979 * 5 * t);
        audio.samples[i] = (float)(0.3 * syllable * (sin(phase) + 0.5 * sin(2 * phase) + 0.3 * sin(3 * phase)));
    }
    Text file = {0};
    if (count == 0) { /* audio_encode takes no empty sound: a WAV header without samples */
        text_add(&file, BYTES("RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\0\0\0\0"));
    } else if (!audio_encode(&audio, flac ? AUDIO_FLAC : AUDIO_WAV, (unsigned char **)&file.data, &file.length, &err)) {
        return die(path, &err);
    }
    write_text(path, &file);
    free(file.data);
    audio_free(&audio);
    return EXIT_DONE;
}

/* ---- damage ---- */

static void damage_cut(Text *text, Rng *rng) { text->length = rng_below(rng, (uint32_t)text->length); }

static void flip(Text *text, Rng *rng, size_t within) {
    uint32_t limit = (uint32_t)(within < text->length ? within : text->length);
    if (limit) text->data[rng_below(rng, limit)] ^= (char)(1 << rng_below(rng, 8));
}

static void damage_flip(Text *text, Rng *rng) { flip(text, rng, text->length); }

static void damage_head(Text *text, Rng *rng) { /* where formats keep their numbers */
    for (uint32_t flips = 1 + rng_below(rng, 3); flips > 0; flips--) flip(text, rng, 96);
}

static void damage_stretch(Text *text, Rng *rng) { /* a stretch of random bytes */
    uint32_t at = rng_below(rng, (uint32_t)text->length), size = 1 + rng_below(rng, 64);
    for (uint32_t i = at; i < at + size && i < text->length; i++) text->data[i] = (char)rng_below(rng, 256);
}

static void damage_grow(Text *text, Rng *rng) { /* bytes that nothing announces */
    for (uint32_t size = 1 + rng_below(rng, 5000); size > 0; size--) {
        char byte = (char)rng_below(rng, 256);
        text_add(text, &byte, 1);
    }
}

static json_t *hostile_value(Rng *rng) {
    switch (rng_below(rng, 14)) {
    case 0:
        return json_null();
    case 1:
        return json_integer(-1);
    case 2:
        return json_integer(0);
    case 3:
        return json_integer(INT64_MAX);
    case 4:
        return json_integer(INT64_MIN);
    case 5:
        return json_real(1e308);
    case 6:
        return json_real(-0.5);
    case 7:
        return json_string("");
    case 8:
        return json_string("../../../../etc/passwd");
    case 9:
        return json_string("%s%n\n\x1b[2J");
    case 10:
        return json_array();
    case 11:
        return json_object();
    case 12:
        return json_true();
    default:
        return json_integer((int64_t)1 << 32);
    }
}

static void spoil(json_t *node, Rng *rng);

static void spoil_member(json_t *object, Rng *rng) {
    uint32_t chosen = rng_below(rng, (uint32_t)json_object_size(object));
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        if (chosen-- > 0) continue;
        bool deeper = (json_is_object(value) || json_is_array(value)) && rng_below(rng, 4) > 0;
        if (deeper)
            spoil(value, rng);
        else if (rng_below(rng, 5) == 0)
            json_object_del(object, key);
        else
            json_object_set_new(object, key, hostile_value(rng));
        return;
    }
}

static void spoil_item(json_t *array, Rng *rng) {
    uint32_t chosen = rng_below(rng, (uint32_t)json_array_size(array));
    json_t *value = json_array_get(array, chosen);
    bool deeper = (json_is_object(value) || json_is_array(value)) && rng_below(rng, 4) > 0;
    if (deeper)
        spoil(value, rng);
    else if (rng_below(rng, 4) == 0)
        json_array_remove(array, chosen);
    else if (rng_below(rng, 4) == 0)
        json_array_append(array, value);
    else
        json_array_set_new(array, chosen, hostile_value(rng));
}

static void spoil(json_t *node, Rng *rng) {
    if (json_is_object(node) && json_object_size(node)) spoil_member(node, rng);
    if (json_is_array(node) && json_array_size(node)) spoil_item(node, rng);
}

/* One value somewhere in a JSON text becomes another, goes, or comes twice. */
static void spoil_text(const char *data, size_t size, Rng *rng, Text *out) {
    json_t *json = json_loadb(data, size, 0, NULL);
    if (!json) exit(die("not JSON", NULL));
    spoil(json, rng);
    char *dump = json_dumps(json, JSON_COMPACT);
    text_add_string(out, dump);
    free(dump);
    json_decref(json);
}

static void damage_value(Text *text, Rng *rng) {
    Text out = {0};
    spoil_text(text->data, text->length, rng, &out);
    text_free(text);
    *text = out;
}

/* index.json begins with a hash of the rest: right again after the change, so that what follows is read. */
static void damage_index(Text *text, Rng *rng) {
    char *body = strchr(text->data, '\n') + 1;
    Text object = {0}, out = {0};
    text_addf(&object, "{%s", body);
    damage_value(&object, rng);
    text_addf(&out, "{\"xxh64\": \"%016" PRIx64 "\",\n%s", bytes_hash(object.data + 1, object.length - 1),
              object.data + 1);
    text_free(&object);
    text_free(text);
    *text = out;
}

/* A line of a manifest, or of a YAML file (what stands after its colon). */
static char *random_line(Text *text, Rng *rng, size_t *length) {
    size_t lines = 0;
    for (size_t i = 0; i < text->length; i++) lines += text->data[i] == '\n';
    char *line = text->data;
    for (uint32_t chosen = rng_below(rng, (uint32_t)lines); chosen > 0; chosen--) line = strchr(line, '\n') + 1;
    *length = (size_t)(strchr(line, '\n') - line);
    return line;
}

static void replace(Text *text, char *at, size_t length, const char *with) {
    Text out = {0};
    text_add(&out, text->data, (size_t)(at - text->data));
    text_add_string(&out, with);
    text_add_string(&out, at + length);
    text_free(text);
    *text = out;
}

static void damage_line(Text *text, Rng *rng) {
    size_t length;
    char *line = random_line(text, rng, &length);
    Text spoilt = {0};
    spoil_text(line, length, rng, &spoilt);
    replace(text, line, length, spoilt.data);
    text_free(&spoilt);
}

static void damage_yaml(Text *text, Rng *rng) {
    static const char *const VALUES[] = {" -1", " 0",    " 1e400", " [",  " {a: b}",  " *x",   " 99999999999999999999",
                                         " \"", " .nan", "",       " []", " &a [*a]", " true", " 9223372036854775807"};
    size_t length;
    char *line, *colon;
    do {
        line = random_line(text, rng, &length);
        colon = memchr(line, ':', length);
    } while (!colon);
    const char *value = VALUES[rng_below(rng, sizeof VALUES / sizeof *VALUES)];
    replace(text, colon + 1, (size_t)(line + length - colon - 1), value);
}

static const struct {
    const char *name;
    void (*damage)(Text *text, Rng *rng);
} DAMAGES[] = {{"cut", damage_cut},         {"flip", damage_flip}, {"head", damage_head},
               {"stretch", damage_stretch}, {"grow", damage_grow}, {"value", damage_value},
               {"index", damage_index},     {"line", damage_line}, {"yaml", damage_yaml}};

static int damage(char **arguments) {
    Text text = read_text(arguments[0]);
    Rng rng = rng_stream(strtoull(arguments[3], NULL, 10), 0, 0, 0);
    for (size_t i = 0; i < sizeof DAMAGES / sizeof *DAMAGES; i++)
        if (!strcmp(DAMAGES[i].name, arguments[2])) {
            DAMAGES[i].damage(&text, &rng);
            write_text(arguments[1], &text);
            text_free(&text);
            return EXIT_DONE;
        }
    return die(arguments[2], NULL);
}

/* ---- files made to harm ---- */

static void put_file(const char *folder, int number, const char *ending, const Text *text) {
    char name[64];
    snprintf(name, sizeof name, "%02d%s", number, ending);
    Error err = {0};
    char *path = path_join(folder, name, &err);
    if (!path) exit(die(folder, &err));
    write_text(path, text);
    free(path);
}

static void hostile_safetensors(const char *folder) {
    static const char *const HEADERS[] = {
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,17]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[-16,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807,9223372036854775807],\"data_offsets\":[0,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,18446744073709551616]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
        "\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
        "{\"a\":{\"dtype\":\"OBJECT\",\"shape\":[4],\"data_offsets\":[0,16]}}",
        "{\"a\":{\"shape\":[4],\"data_offsets\":[0,16]}}",
        "{\"a\":[]}",
        "[]",
        "null",
        "{}",
        "\xff\xfe\xfd",
    };
    static const uint64_t LENGTHS[] = {0,         1, 1 << 20, UINT32_MAX, (uint64_t)1 << 62, INT64_MAX, UINT64_MAX - 7,
                                       UINT64_MAX};
    int number = 0;
    for (size_t i = 0; i < sizeof HEADERS / sizeof *HEADERS; i++) {
        Text file = {0};
        put_number(&file, strlen(HEADERS[i]), 8);
        text_add_string(&file, HEADERS[i]);
        text_add(&file, "0123456789abcdef", 16);
        put_file(folder, number++, ".safetensors", &file);
        text_free(&file);
    }
    for (size_t i = 0; i < sizeof LENGTHS / sizeof *LENGTHS; i++) {
        Text file = {0};
        put_number(&file, LENGTHS[i], 8);
        text_add_string(&file, HEADERS[0]);
        put_file(folder, number++, ".safetensors", &file);
        text_free(&file);
    }
    Text nested = {0};
    put_number(&nested, 200000, 8);
    for (int i = 0; i < 200000; i++) text_add(&nested, "[", 1);
    put_file(folder, number, ".safetensors", &nested);
    text_free(&nested);
}

static void put_archive(const char *folder, int number, const Text *pickle) {
    Text archive = torch_archive(pickle, "0123456789abcdef", 16);
    put_file(folder, number, ".pt", &archive);
    text_free(&archive);
}

/* Each would run `touch ran` where pickles are run, as the archive's pickle and as a file of its own. */
static void hostile_pickles(const char *folder) {
    static const char *const CODES[] = {
        "cposix\nsystem\n(S'touch ran'\ntR.",
        "cos\nsystem\n(S'touch ran'\ntR.",
        "c__builtin__\neval\n(S'__import__(\"os\").system(\"touch ran\")'\ntR.",
        "cbuiltins\nexec\n(S'open(\"ran\",\"w\")'\ntR.",
        "(S'touch ran'\nios\nsystem\n.",
        "(cos\nsystem\nS'touch ran'\no.",
        "csubprocess\nPopen\n((S'touch'\nS'ran'\nltR.",
        "\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x09touch ran\x85R.",
        "\x80\x02"
        "cos\nsystem\n\x8c\x09touch ran\x85\x81.",
        "ccollections\nOrderedDict\n)Rcos\nsystem\n(S'touch ran'\ntRb.",
        "ctorch._utils\n_rebuild_tensor_v2\n(cos\nsystem\n(S'touch ran'\ntRtR.",
        "cbuiltins\ngetattr\n(cos\nposix\nS'system'\ntR(S'touch ran'\ntR.",
    };
    int number = 0;
    for (size_t i = 0; i < sizeof CODES / sizeof *CODES; i++) {
        Text pickle = {0};
        text_add_string(&pickle, CODES[i]);
        put_archive(folder, number++, &pickle);
        put_file(folder, number++, ".pt", &pickle);
        text_free(&pickle);
    }
    static const TensorSpec SPECS[] = {
        {"FloatStorage", "0", INT64_MAX, 0, 1, {INT64_MAX}, {1}},
        {"FloatStorage", "0", 4, 0, 2, {INT64_MAX, INT64_MAX}, {0, 0}},
        {"FloatStorage", "0", 4, -1, 1, {4}, {1}},
        {"FloatStorage", "0", 4, 0, 1, {4}, {INT64_MAX}},
        {"FloatStorage", "../../0", 4, 0, 1, {4}, {1}},
        {"UntypedSystem", "0", 4, 0, 1, {4}, {1}},
    };
    for (size_t i = 0; i < sizeof SPECS / sizeof *SPECS; i++) {
        Text pickle = {0};
        text_add(&pickle, BYTES("\x80\x02}"));
        pickle_put_text(&pickle, BYTES("weight"));
        pickle_put_tensor(&pickle, &SPECS[i]);
        text_add(&pickle, BYTES("s."));
        put_archive(folder, number++, &pickle);
        text_free(&pickle);
    }
}

/* RIFF sizes and formats that lie. */
static void hostile_sounds(const char *folder) {
    static const char *const HEADS[] = {
        "RIFF____WAVEfmt \x10___\1_\1_\x80\x3e___}__\2_\x10_data\xff\xff\xff\xff", /* _: a zero byte */
        "RIFF____WAVEfmt \x10___\1___\x80\x3e___}__\2_\x10_data\x10___",           /* no channel */
        "RIFF____WAVEfmt \x10___\1_\xff\xff\x80\x3e___}__\2_\x10_data\x10___",     /* 65535 of them */
        "RIFF____WAVEfmt \x10___\1_\1______}__\2_\x10_data\x10___",                /* 0 Hz */
        "RIFF____WAVEfmt \x10___\1_\1_\xff\xff\xff\x7f_}__\2_\x10_data\x10___",    /* 2 GHz */
        "RIFF____WAVEfmt \x10___\1_\1_\1____}__\2_\x10_data\x10___",               /* 1 Hz */
        "RIFF____WAVEfmt \x10___\3_\1_\x80\x3e___\xfa__\4_\x20_data\x10___",       /* floats */
        "RIFF____WAVEfmt \xff\xff\xff\xff\1_\1_",
        "RIFF____WAVE",
        "RIFF",
        "fLaC",
        "OggS",
        "ID3\x03_____\x7f",
        "FORM____AIFFCOMM",
        "",
    };
    int number = 0;
    for (size_t i = 0; i < sizeof HEADS / sizeof *HEADS; i++) {
        Text file = {0};
        text_add_string(&file, HEADS[i]);
        for (size_t k = 0; k < file.length; k++)
            if (file.data[k] == '_') file.data[k] = '\0';
        if (number == 6) text_add(&file, BYTES("\0\0\xc0\x7f\0\0\x80\x7f\0\0\xc0\xff\0\0\x80\xff")); /* NaN, infinity */
        if (!file.data) text_add(&file, "", 0);
        put_file(folder, number++, ".wav", &file);
        text_free(&file);
    }
}

static void hostile_json(const char *folder) {
    static const char *const TEXTS[] = {
        "",
        "null",
        "[]",
        "{}",
        "\"text\"",
        "{\"a\":1}{",
        "{\"model_type\":1}",
        "\xef\xbb\xbf{}",
        "{\"a\":\"\xff\"}",
        "{\"model_type\":\"llama\",\"model_type\":\"llama\"}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[\"a b\"]}}",
        "{\"model_type\":\"llama\",\"hidden_size\":1000000000000,\"num_hidden_layers\":1000000000}",
        "{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4000000000},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[\"a b\"]}}",
    };
    int number = 0;
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        Text file = {0};
        text_add(&file, TEXTS[i], strlen(TEXTS[i]));
        put_file(folder, number++, ".json", &file);
        text_free(&file);
    }
    Text nested = {0};
    for (int i = 0; i < 200000; i++) text_add(&nested, "{\"a\":", 5);
    put_file(folder, number, ".json", &nested);
    text_free(&nested);
}

static void hostile_yaml(const char *folder) {
    static const char *const TEXTS[] = {
        "",
        "model",
        "- 1\n",
        "train: {steps: 5, steps: 6}\n",
        "trian: {steps: 5}\n",
        "a: &a [*a]\n",
        "train: {lr: }\n",
        "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n",
        "\t: \t",
        "!!python/object/apply:os.system [touch ran]\n",
        "---\na: 1\n---\nb: 2\n",
        "\xff\xfe",
        "{{{{{{{{{{",
    };
    int number = 0;
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        Text file = {0};
        text_add(&file, TEXTS[i], strlen(TEXTS[i]));
        put_file(folder, number++, ".yaml", &file);
        text_free(&file);
    }
    Text nested = {0};
    for (int i = 0; i < 100000; i++) text_add(&nested, "[", 1);
    put_file(folder, number, ".yaml", &nested);
    text_free(&nested);
}

static void hostile_tables(const char *folder) {
    static const char *const TEXTS[] = {
        "",
        "audio\n",
        "audio,emotion\n",
        "audio,emotion\n00.csv,\n",
        "audio,emotion\n../nowhere.wav,sad\n",
        "audio,emotion\n\"00.csv,sad\n",
        "audio,emotion\n00.csv,sad,more,still\n",
        "audio,emotion,start\n00.csv,sad,-1\n",
        "audio,emotion,start\n00.csv,sad,nan\n",
        "audio,emotion,start,end\n00.csv,sad,2,1\n",
        "audio,emotion,gender\n00.csv,sad,robot\n",
        "audio,emotion,id\n00.csv,sad,a\n00.csv,sad,a\n",
        "audio,audio,emotion\n00.csv,00.csv,sad\n",
        "audio,emotion\n00.csv,\xff\xfe\n",
        "audio,emotion\n/etc,sad\n",
    };
    int number = 0;
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        Text file = {0};
        text_add(&file, TEXTS[i], strlen(TEXTS[i]));
        put_file(folder, number++, ".csv", &file);
        text_free(&file);
    }
}

static const struct {
    const char *name;
    void (*make)(const char *folder);
} HOSTILE[] = {{"safetensors", hostile_safetensors},
               {"pickle", hostile_pickles},
               {"sound", hostile_sounds},
               {"json", hostile_json},
               {"yaml", hostile_yaml},
               {"table", hostile_tables}};

static int hostile(const char *kind, const char *folder) {
    Error err = {0};
    for (size_t i = 0; i < sizeof HOSTILE / sizeof *HOSTILE; i++)
        if (!strcmp(HOSTILE[i].name, kind)) {
            if (!folder_make(folder, &err)) return die(folder, &err);
            HOSTILE[i].make(folder);
            return EXIT_DONE;
        }
    return die(kind, NULL);
}

/* ---- answers ---- */

static int objects(const char *path) {
    Text text = read_text(path);
    size_t lines = 0;
    for (char *line = text.data, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, lines++) {
        json_t *json = json_loadb(line, (size_t)(end - line), 0, NULL);
        bool object = json_is_object(json);
        json_decref(json);
        if (!object) return EXIT_FAILED;
    }
    bool whole = lines && text.data[text.length - 1] == '\n';
    text_free(&text);
    return whole ? EXIT_DONE : EXIT_FAILED;
}

int main(int argc, char **argv) {
    if (argc == 5 && !strcmp(argv[1], "sound")) return sound(argv[2], atoll(argv[3]), atof(argv[4]));
    if (argc == 6 && !strcmp(argv[1], "damage")) return damage(argv + 2);
    if (argc == 4 && !strcmp(argv[1], "hostile")) return hostile(argv[2], argv[3]);
    if (argc == 3 && !strcmp(argv[1], "objects")) return objects(argv[2]);
    return die("usage: sound, damage, hostile or objects", NULL);
}
