/* semollm encode: what the encoder makes of a recording, for comparison with others. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "model/device_choice.h"
#include "model/safetensors.h"
#include "model/transfer.h"
#include "model/wavlm.h"

typedef struct EncodeOptions {
    const char *out, *normalize;
    DeviceChoice device;
} EncodeOptions;

static bool parse_toggle(const char *text, Toggle *toggle, Error *err) {
    static const char *const names[] = {"auto", "on", "off"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(text, names[i])) {
            *toggle = (Toggle)i;
            return true;
        }
    return fail_usage(err, "encode: --normalize is \"%s\", expected auto, on or off", text);
}

/* hidden_0 .. hidden_N, each [frames, H]. */
static bool write_states(const char *path, const WavlmConfig *config, int64_t frames, const float *values, Error *err) {
    StoredTensor stored[WAVLM_LAYERS_MAX + 1];
    char names[WAVLM_LAYERS_MAX + 1][16];
    const int64_t elements = frames * config->hidden;
    for (int i = 0; i <= config->layers; i++) {
        snprintf(names[i], sizeof names[i], "hidden_%d", i);
        stored[i] = (StoredTensor){.name = names[i],
                                   .dtype = DTYPE_F32,
                                   .dims = 2,
                                   .shape = {frames, config->hidden},
                                   .data = values + i * elements,
                                   .bytes = (size_t)elements * sizeof *values};
    }
    return tensors_write(path, stored, (size_t)config->layers + 1, NULL, err);
}

/* A clip's hidden states to host memory, all of them one after the other. */
static bool forward(const Wavlm *wavlm, WavlmWork *work, const Audio *audio, Tensor memory, float *values, Error *err) {
    const int64_t start[2] = {0, audio->count}, frames = memory.rows / (wavlm->config.layers + 1);
    Tensor states[WAVLM_LAYERS_MAX + 1];
    for (int i = 0; i <= wavlm->config.layers; i++) states[i] = tensor_rows(memory, i * frames, frames);
    WavlmBatch batch = {.count = 1, .start = start, .wave = audio->samples};
    return wavlm_forward(wavlm, work, &batch, states, err) && floats_download(wavlm->dev, memory, values, err);
}

static bool encode(const Wavlm *wavlm, const Audio *audio, const char *out, Error *err) {
    const int64_t frames = wavlm_frames(&wavlm->config, audio->count);
    const WavlmLimits limits = {.clips = 1, .samples = audio->count, .longest = audio->count};
    const int64_t rows = (wavlm->config.layers + 1) * frames, hidden = wavlm->config.hidden;
    const DType dtype = device_dtype(wavlm->dev);
    Arena arena = {.name = "encoder"};
    WavlmWork work = {0};
    float *values = memory_new((size_t)rows, (size_t)hidden * sizeof *values, err);
    void *memory = values ? device_alloc(wavlm->dev, (size_t)(rows * hidden) * dtype_size(dtype), err) : NULL;
    Tensor states = tensor_of(memory, dtype, rows, hidden);
    bool ok = memory && wavlm_plan(wavlm, &work, &limits, &arena, err) &&
              forward(wavlm, &work, audio, states, values, err) &&
              write_states(out, &wavlm->config, frames, values, err);
    wavlm_work_free(&work);
    device_free(wavlm->dev, arena.base);
    device_free(wavlm->dev, memory);
    arena_free(&arena);
    free(values);
    return ok;
}

static bool check_length(const Wavlm *wavlm, const Audio *audio, const char *path, Error *err) {
    const int64_t field = wavlm_receptive_field(&wavlm->config);
    if (audio->count >= field) return true;
    return fail(err, "%s: %" PRId64 " samples at 16 kHz, and the encoder needs at least %" PRId64 " (%.3f s)", path,
                audio->count, field, (double)field / AUDIO_RATE);
}

static bool run(const EncodeOptions *options, const char *folder, const char *path, Error *err) {
    Toggle normalize = TOGGLE_AUTO;
    Audio audio = {0};
    Wavlm wavlm = {0};
    if (!parse_toggle(options->normalize, &normalize, err)) return false;
    if (!audio_read(&audio, path, 0, 0, AUDIO_RATE, err)) return false;
    Device *dev = device_choose(&options->device, err);
    bool ok = dev && wavlm_open(&wavlm, dev, folder, normalize, err) && check_length(&wavlm, &audio, path, err) &&
              encode(&wavlm, &audio, options->out, err);
    wavlm_close(&wavlm);
    device_close(dev);
    audio_free(&audio);
    return ok;
}

bool command_encode(int argc, char **argv, Error *err) {
    EncodeOptions options = {.normalize = "auto"};
    const Option table[] = {{"out", 'o', OPTION_TEXT, &options.out, "FILE",
                             "the safetensors file to write: hidden_0 .. hidden_N, each [frames, H]"},
                            {"normalize", 0, OPTION_TEXT, &options.normalize, "MODE",
                             "waveforms to zero mean and unit variance: auto (as the folder says), on, off"},
                            DEVICE_OPTIONS(options.device),
                            {0}};
    const Usage usage = {.command = "encode",
                         .arguments = "WAVLM_DIR AUDIO",
                         .summary =
                             "Writes every hidden state of a WavLM folder's encoder for a recording: hidden_0 is "
                             "the first layer's input, hidden_N the last hidden state.",
                         .options = table,
                         .least = 2,
                         .most = 2};
    Texts arguments = {0};
    bool help = false;
    bool ok = options_parse(&usage, argc, argv, &arguments, &help, err);
    if (ok && !help && !options.out) ok = fail_usage(err, "encode: -o FILE is missing; see semollm encode --help");
    if (ok && !help) ok = run(&options, arguments.items[0], arguments.items[1], err);
    texts_free(&arguments);
    return ok;
}
