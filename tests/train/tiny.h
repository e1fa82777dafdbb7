/* A whole run's input in one folder, made from the counter-based RNG: tiny encoder and LLM with random
 * weights, a byte tokenizer, shards of noise with invented features, and a config. */
#ifndef SEMOLLM_TESTS_TRAIN_TINY_H
#define SEMOLLM_TESTS_TRAIN_TINY_H

#include "tests/test.h"

#include <math.h>

#include "train/train.h"

enum { TINY_KEY = 4711, TINY_TENSORS_MAX = 128, TINY_H = 32, TINY_CONV = 16, TINY_D = 32, TINY_VOCAB = 260 };

typedef struct TinyTensors {
    StoredTensor items[TINY_TENSORS_MAX];
    size_t count;
} TinyTensors;

/* U(offset - scale, offset + scale). */
static inline void tiny_tensor(TinyTensors *set, const char *name, double offset, double scale, int dims,
                               const int64_t *shape) {
    size_t count = 1;
    for (int i = 0; i < dims; i++) count *= (size_t)shape[i];
    float *values = malloc(count * sizeof *values);
    if (!values || set->count == TINY_TENSORS_MAX) abort();
    Rng rng = rng_stream(TINY_KEY, PLACE_INIT, (uint32_t)set->count, 0);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(offset + scale * (2.0 * (double)rng_uniform(rng_next(&rng)) - 1.0));
    StoredTensor *tensor = &set->items[set->count++];
    *tensor = (StoredTensor){
        .name = strdup(name), .dtype = DTYPE_F32, .dims = dims, .data = values, .bytes = count * sizeof *values};
    memcpy(tensor->shape, shape, (size_t)dims * sizeof *shape);
}

static inline void tiny_matrix(TinyTensors *set, const char *name, int64_t rows, int64_t cols) {
    tiny_tensor(set, name, 0, 1.7 / sqrt((double)cols), 2, (int64_t[]){rows, cols});
}

static inline void tiny_vector(TinyTensors *set, const char *name, double offset, double scale, int64_t size) {
    tiny_tensor(set, name, offset, scale, 1, &size);
}

static inline void tiny_write(TinyTensors *set, const char *folder, const char *config) {
    Error err = {0};
    char *path = text_format(&err, "%s/model.safetensors", folder), *json = text_format(&err, "%s/config.json", folder);
    if (!folder_make(folder, &err) || !tensors_write(path, set->items, set->count, NULL, &err) ||
        !file_write(json, config, strlen(config), &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    for (size_t i = 0; i < set->count; i++) {
        free((void *)(uintptr_t)set->items[i].data);
        free((void *)(uintptr_t)set->items[i].name);
    }
    free(path);
    free(json);
}

static inline void tiny_layer(TinyTensors *set, const char *prefix, const char *name, int64_t rows, int64_t cols) {
    char full[200];
    snprintf(full, sizeof full, "%s.%s.weight", prefix, name);
    if (rows)
        tiny_matrix(set, full, rows, cols);
    else
        tiny_vector(set, full, 1, 0.2, cols);
    snprintf(full, sizeof full, "%s.%s.bias", prefix, name);
    tiny_vector(set, full, 0, 0.1, rows ? rows : cols);
}

static inline void tiny_encoder(const char *folder) {
    static const int KERNELS[] = {10, 3, 3, 3, 3, 2, 2};
    static const char CONFIG[] =
        "{\"model_type\": \"wavlm\", \"hidden_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 2,\n"
        " \"intermediate_size\": 48, \"conv_dim\": [16, 16, 16, 16, 16, 16, 16], \"conv_kernel\": [10, 3, 3, 3, 3, 2, "
        "2],\n"
        " \"conv_stride\": [5, 2, 2, 2, 2, 2, 2], \"conv_bias\": false, \"feat_extract_norm\": \"group\",\n"
        " \"do_stable_layer_norm\": false, \"num_conv_pos_embeddings\": 16, \"num_conv_pos_embedding_groups\": 4,\n"
        " \"num_buckets\": 320, \"max_bucket_distance\": 800, \"layer_norm_eps\": 1e-5, \"hidden_act\": \"gelu\",\n"
        " \"feat_extract_activation\": \"gelu\", \"num_feat_extract_layers\": 7}\n";
    TinyTensors set = {.count = 0};
    char name[200];
    for (int i = 0; i < 7; i++) {
        int64_t shape[] = {TINY_CONV, i ? TINY_CONV : 1, KERNELS[i]};
        snprintf(name, sizeof name, "feature_extractor.conv_layers.%d.conv.weight", i);
        tiny_tensor(&set, name, 0, 1.7 / sqrt((double)(shape[1] * shape[2])), 3, shape);
    }
    tiny_layer(&set, "feature_extractor.conv_layers.0", "layer_norm", 0, TINY_CONV);
    tiny_layer(&set, "feature_projection", "layer_norm", 0, TINY_CONV);
    tiny_layer(&set, "feature_projection", "projection", TINY_H, TINY_CONV);
    tiny_vector(&set, "encoder.pos_conv_embed.conv.bias", 0, 0.1, TINY_H);
    tiny_tensor(&set, "encoder.pos_conv_embed.conv.weight_g", 1, 0.3, 3, (int64_t[]){1, 1, 16});
    tiny_tensor(&set, "encoder.pos_conv_embed.conv.weight_v", 0, 1, 3, (int64_t[]){TINY_H, TINY_H / 4, 16});
    tiny_layer(&set, "encoder", "layer_norm", 0, TINY_H);
    for (int i = 0; i < 2; i++) {
        static const char *const MAPS[] = {"attention.q_proj", "attention.k_proj", "attention.v_proj",
                                           "attention.out_proj"};
        char prefix[100];
        snprintf(prefix, sizeof prefix, "encoder.layers.%d", i);
        for (int m = 0; m < 4; m++) tiny_layer(&set, prefix, MAPS[m], TINY_H, TINY_H);
        snprintf(name, sizeof name, "%s.attention.gru_rel_pos_const", prefix);
        tiny_tensor(&set, name, 1, 0.2, 4, (int64_t[]){1, 2, 1, 1});
        tiny_layer(&set, prefix, "attention.gru_rel_pos_linear", 8, TINY_H / 2);
        if (i == 0) tiny_matrix(&set, "encoder.layers.0.attention.rel_attn_embed.weight", 320, 2);
        tiny_layer(&set, prefix, "layer_norm", 0, TINY_H);
        tiny_layer(&set, prefix, "final_layer_norm", 0, TINY_H);
        tiny_layer(&set, prefix, "feed_forward.intermediate_dense", 48, TINY_H);
        tiny_layer(&set, prefix, "feed_forward.output_dense", TINY_H, 48);
    }
    tiny_write(&set, folder, CONFIG);
}

/* Byte-level BPE without merges: ids 0..255 are the bytes, then three special tokens and an unused id. */
static inline void tiny_tokenizer(const char *folder) {
    static const char *const SPECIAL[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    Error err = {0};
    json_t *vocab = json_object(), *added = json_array();
    uint32_t next = 256;
    for (int byte = 0; byte < 256; byte++) { /* GPT-2's printable stand-ins for bytes */
        bool plain = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        uint32_t point = plain ? (uint32_t)byte : next++;
        char text[3] = {(char)point, 0, 0};
        if (point >= 128) {
            text[0] = (char)(0xC0 | point >> 6);
            text[1] = (char)(0x80 | (point & 63));
        }
        json_object_set_new(vocab, text, json_integer(byte));
    }
    for (int i = 0; i < 3; i++) {
        json_object_set_new(vocab, SPECIAL[i], json_integer(256 + i));
        json_array_append_new(added,
                              json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", 256 + i, "content", SPECIAL[i],
                                        "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1));
    }
    json_t *byte_level = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets",
                                   1, "use_regex", 1);
    json_t *json =
        json_pack("{s:s, s:n, s:n, s:o, s:n, s:O, s:n, s:o, s:{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:[]}}",
                  "version", "1.0", "truncation", "padding", "added_tokens", added, "normalizer", "pre_tokenizer",
                  byte_level, "post_processor", "decoder", byte_level, "model", "type", "BPE", "dropout", "unk_token",
                  "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0, "ignore_merges",
                  0, "vocab", vocab, "merges");
    char *path = text_format(&err, "%s/tokenizer.json", folder);
    if (!json || !json_write_file(json, path, &err)) abort();
    json_decref(json);
    free(path);
}

/* `norm` is what the last norm's weights lie around: huge ones overflow every loss. */
static inline void tiny_llm(const char *folder, double norm) {
    static const char CONFIG[] =
        "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 32,\n"
        " \"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"intermediate_size\": "
        "48,\n"
        " \"vocab_size\": 260, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"max_position_embeddings\": 512,\n"
        " \"tie_word_embeddings\": true, \"hidden_act\": \"silu\", \"bos_token_id\": 256, \"eos_token_id\": 258}\n";
    TinyTensors set = {.count = 0};
    char name[200];
    tiny_tensor(&set, "model.embed_tokens.weight", 0, 0.6, 2, (int64_t[]){TINY_VOCAB, TINY_D});
    for (int i = 0; i < 2; i++) {
        static const struct {
            const char *name;
            int rows, cols;
        } MAPS[] = {{"self_attn.q_proj", 32, 32}, {"self_attn.k_proj", 16, 32}, {"self_attn.v_proj", 16, 32},
                    {"self_attn.o_proj", 32, 32}, {"mlp.gate_proj", 48, 32},    {"mlp.up_proj", 48, 32},
                    {"mlp.down_proj", 32, 48}};
        for (size_t m = 0; m < sizeof MAPS / sizeof *MAPS; m++) {
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", i, MAPS[m].name);
            tiny_matrix(&set, name, MAPS[m].rows, MAPS[m].cols);
        }
        snprintf(name, sizeof name, "model.layers.%d.input_layernorm.weight", i);
        tiny_vector(&set, name, 1, 0.2, TINY_D);
        snprintf(name, sizeof name, "model.layers.%d.post_attention_layernorm.weight", i);
        tiny_vector(&set, name, 1, 0.2, TINY_D);
    }
    tiny_vector(&set, "model.norm.weight", norm, 0.2, TINY_D);
    tiny_write(&set, folder, CONFIG);
    tiny_tokenizer(folder);
}

static inline void tiny_clip(const char *path, int number, int64_t samples) {
    Error err = {0};
    Audio audio = {.samples = malloc((size_t)samples * sizeof(float)), .count = samples, .rate = AUDIO_RATE};
    Rng rng = rng_stream(TINY_KEY, 1, (uint32_t)number, 1);
    double tone = 0.02 + 0.01 * (number % 2);
    for (int64_t i = 0; i < samples; i++)
        audio.samples[i] = (float)(0.3 * sin(tone * (double)i) + 0.1 * (double)(rng_uniform(rng_next(&rng)) - 0.5f));
    unsigned char *bytes;
    size_t size;
    if (!audio_encode(&audio, AUDIO_FLAC, &bytes, &size, &err) || !file_write(path, bytes, size, &err)) abort();
    free(bytes);
    audio_free(&audio);
}

/* Speakers s0 .. s3 in turn, two emotions; `samples` of clip i is 5000 + 640 · (i % 7). */
static inline void tiny_shards(const char *folder, int clips) {
    Error err = {0};
    char *corpus = text_format(&err, "%s/corpus", folder), *shards = text_format(&err, "%s/shards", folder);
    char *path = text_format(&err, "%s/m.jsonl", corpus);
    if (!folder_make(corpus, &err)) abort();
    Text lines = {0};
    for (int i = 0; i < clips; i++) {
        char *clip = text_format(&err, "%s/%d.flac", corpus, i);
        tiny_clip(clip, i, 5000 + 640 * (i % 7));
        text_addf(&lines,
                  "{\"id\": \"clip%d\", \"corpus\": \"tiny\", \"audio\": \"%d.flac\", \"speaker\": \"s%d\", "
                  "\"gender\": \"%s\", \"emotion\": \"%s\", \"features\": {\"f0_median_hz\": %d, "
                  "\"intensity_mean_db\": %d, \"articulation_rate_syll_s\": %d.5}}\n",
                  i, i, i / 2 % 4, i / 2 % 2 ? "male" : "female", i % 2 ? "happy" : "sad", 100 + 11 * (i % 10),
                  50 + i % 9, 3 + i % 4);
        free(clip);
    }
    Manifest manifest;
    ShardOptions options = shard_options_default();
    options.threads = 1;
    if (!file_write(path, lines.data, lines.length, &err) || !manifest_read(&manifest, path, &err) ||
        !shards_write(&manifest, shards, &options, &err)) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    manifest_free(&manifest);
    text_free(&lines);
    free(corpus);
    free(shards);
    free(path);
}

static inline void tiny_config(const char *folder) {
    Error err = {0};
    char *text =
        text_format(&err,
                    "model:\n"
                    "  encoder: %s/encoder\n"
                    "  llm: %s/llm\n"
                    "  template: chatml\n"
                    "  adapter: {stack: 4, hidden: 24, prosody: energy, prosody_scale: 2, dropout: 0.1, noise: 0.2}\n"
                    "  lora: {rank: 4, alpha: 8, dropout: 0.1, targets: [all]}\n"
                    "data:\n"
                    "  shards: %s/shards\n"
                    "  test: {speakers: [s3]}\n"
                    "  validation: {speakers: [s2]}\n"
                    "prompt: {user: \"Emotion?\", response: [emotion, gender, pitch]}\n"
                    "train: {epochs: 2.5, batch_clips: 2, accumulate: 2, lr: 5e-3, warmup: 3, checkpoint_every: 7,\n"
                    "  validate_every: 5, seed: 9, threads: 2}\n"
                    "device: {threads: 1}\n"
                    "output: %s/run\n",
                    folder, folder, folder, folder);
    char *path = text_format(&err, "%s/config.yaml", folder);
    if (!file_write(path, text, strlen(text), &err)) abort();
    free(text);
    free(path);
}

static inline void tiny_make(const char *folder, int clips) {
    char *encoder = text_format(NULL, "%s/encoder", folder), *llm = text_format(NULL, "%s/llm", folder);
    tiny_encoder(encoder);
    tiny_llm(llm, 1);
    tiny_shards(folder, clips);
    tiny_config(folder);
    free(encoder);
    free(llm);
}

#endif
