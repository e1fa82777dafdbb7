/* The espeak-ng program as a function: a child process whose standard output is read to its end. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "data/synth.h"

extern char **environ;

static const char PROGRAM[] = "espeak-ng";
enum { WAV_HEADER = 44, OUTPUT_MAX = 1 << 26, MARGIN = AUDIO_RATE / 16 };

static bool read_all(int from, Text *output, Error *err) {
    char block[1 << 14];
    for (;;) {
        ssize_t got = read(from, block, sizeof block);
        if (got == 0) return true;
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail(err, "%s: its output cannot be read: %s", PROGRAM, strerror(errno));
        if (output->length + (size_t)got > OUTPUT_MAX) return fail(err, "%s: its output has no end", PROGRAM);
        text_add(output, block, (size_t)got);
    }
}

static bool start(char *const *arguments, char *const *environment, int output, pid_t *child, Error *err) {
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0) return fail(err, "out of memory for starting %s", PROGRAM);
    int problem = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    if (!problem) problem = posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    if (!problem) problem = posix_spawnp(child, PROGRAM, &actions, NULL, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    if (problem == ENOENT)
        return fail(err, "%s is not installed: install the package espeak-ng (`make deps` does)", PROGRAM);
    if (problem) return fail(err, "%s cannot be started: %s", PROGRAM, strerror(problem));
    return true;
}

static bool finish(pid_t child, Error *err) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return fail(err, "%s: lost: %s", PROGRAM, strerror(errno));
    if (WIFSIGNALED(status)) return fail(err, "%s was ended by signal %d", PROGRAM, WTERMSIG(status));
    if (WEXITSTATUS(status) != 0) return fail(err, "%s failed with exit status %d", PROGRAM, WEXITSTATUS(status));
    return true;
}

/* Runs the program and gathers what it writes. */
static bool run(char *const *arguments, char *const *environment, Text *output, Error *err) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return fail(err, "no pipe to %s: %s", PROGRAM, strerror(errno));
    pid_t child = 0;
    bool started = start(arguments, environment, ends[1], &child, err);
    close(ends[1]);
    bool ok = started && read_all(ends[0], output, err);
    close(ends[0]);
    if (started) ok = finish(child, err) && ok;
    if (ok && output->failed) ok = fail(err, "out of memory for the output of %s", PROGRAM);
    return ok;
}

char *espeak_data(Error *err) {
    char program[] = "espeak-ng", flag[] = "--version", *arguments[] = {program, flag, NULL};
    Text output = {0};
    char *data = NULL;
    if (run(arguments, environ, &output, err)) {
        const char *at = output.data ? strstr(output.data, "Data at: ") : NULL;
        if (at) {
            at += strlen("Data at: ");
            data = text_format(err, "%.*s", (int)strcspn(at, "\r\n"), at);
        } else {
            fail(err, "%s --version does not say where its data is (\"Data at: FOLDER\")", PROGRAM);
        }
    }
    text_free(&output);
    return data;
}

/* ---- speech ---- */

static void put_32(unsigned char *at, size_t value) {
    for (int i = 0; i < 4; i++) at[i] = (unsigned char)(value >> (8 * i));
}

/* A WAV that was piped cannot know its length: the header's is put right. */
static bool decode(Text *wave, Audio *audio, Error *err) {
    if (wave->length < WAV_HEADER || memcmp(wave->data, "RIFF", 4) != 0 || memcmp(wave->data + 36, "data", 4) != 0)
        return fail(err, "%s wrote %zu bytes that are no WAV; its --stdout should be one", PROGRAM, wave->length);
    size_t bytes = (wave->length - WAV_HEADER) & ~(size_t)1;
    put_32((unsigned char *)wave->data + 4, bytes + WAV_HEADER - 8);
    put_32((unsigned char *)wave->data + 40, bytes);
    return audio_decode(audio, wave->data, WAV_HEADER + bytes, PROGRAM, AUDIO_RATE, err);
}

/* Cuts the silence before and after, up to a sixteenth of a second. */
static void trim(Audio *audio) {
    float peak = 0;
    for (int64_t i = 0; i < audio->count; i++) peak = fmaxf(peak, fabsf(audio->samples[i]));
    int64_t first = 0, last = audio->count;
    while (first < last && fabsf(audio->samples[first]) <= 0.01f * peak) first++;
    while (last > first && fabsf(audio->samples[last - 1]) <= 0.01f * peak) last--;
    first = first > MARGIN ? first - MARGIN : 0;
    last = last + MARGIN < audio->count ? last + MARGIN : audio->count;
    audio->count = last - first;
    memmove(audio->samples, audio->samples + first, (size_t)audio->count * sizeof *audio->samples);
}

/* The environment with ESPEAK_DATA_PATH first; free() the array and its first item. */
static char **environment_with(const char *data, Error *err) {
    size_t count = 0;
    while (environ[count]) count++;
    char **list = memory_new(count + 2, sizeof *list, err);
    char *first = list ? text_format(err, "ESPEAK_DATA_PATH=%s", data) : NULL;
    if (!first) {
        free(list);
        return NULL;
    }
    list[0] = first;
    memcpy(list + 1, environ, count * sizeof *list);
    return list;
}

bool espeak_speak(const Utter *utter, Audio *audio, Error *err) {
    char pitch[16], speed[16], gap[16];
    snprintf(pitch, sizeof pitch, "%.0f", utter->pitch);
    snprintf(speed, sizeof speed, "%.0f", utter->speed);
    snprintf(gap, sizeof gap, "%d", utter->word_gap);
    char *voice = text_format(err, "%s+%s", utter->accent, utter->voice);
    char *text = text_format(err, "<prosody range=\"%d%%\">%s</prosody>", utter->range_percent, utter->text);
    char **environment = utter->data ? environment_with(utter->data, err) : environ;
    Text wave = {0};
    bool ok = voice && text && environment;
    if (ok) {
        const char *arguments[] = {PROGRAM, "-v", voice, "-p", pitch,      "-s", speed,
                                   "-g",    gap,  "-z",  "-m", "--stdout", text, NULL};
        ok = run((char *const *)arguments, environment, &wave, err) && decode(&wave, audio, err);
    }
    if (ok) trim(audio);
    text_free(&wave);
    free(voice);
    free(text);
    if (environment && utter->data) {
        free(environment[0]);
        free(environment);
    }
    return ok;
}
