#include "eval/answer.h"

#include <stdlib.h>
#include <string.h>

#include "eval/journal.h"

AnswerOptions answer_options_default(void) {
    return (AnswerOptions){.generate = {.max_new = 160, .beams = 1, .top_p = 1, .repetition_penalty = 1, .seed = 1}};
}

int32_t *stop_ids(const Run *run, int *count, Error *err) {
    const int32_t *known;
    int known_count = speech_llm_stop_ids(run->model, &known);
    return chat_stops(run->template, run->tokenizer, known, known_count, count, err);
}

bool batch_answer(Run *run, const Batch *batch, const GenerateOptions *options, char **texts, bool *stopped,
                  Error *err) {
    Generated *made = memory_new((size_t)batch->count, sizeof *made, err);
    if (!made) return false;
    SpeechBatch view = batch_view(batch);
    bool ok = speech_llm_generate(run->model, &view, options, made, err);
    for (int i = 0; i < batch->count; i++) {
        texts[i] = ok ? tokenizer_decode(run->tokenizer, made[i].ids, (size_t)made[i].count, true, err) : NULL;
        ok = ok && texts[i];
        stopped[i] = made[i].stopped;
        free(made[i].ids);
    }
    free(made);
    return ok;
}

static const char *const *class_names(const Run *run) { return (const char *const *)run->classes; }

/* Takes over `text`. */
bool answer_settle(const Run *run, Answer *answer, char *text, bool stopped, Error *err) {
    answer->text = text;
    answer->stopped = stopped;
    if (!response_parse(text, class_names(run), run->class_count, run->response.level_count, &answer->stated, err))
        return false;
    answer->predicted = SCORE_UNPARSABLE;
    for (int c = 0; c < run->class_count && answer->stated.emotion; c++)
        if (!strcmp(answer->stated.emotion, run->classes[c])) answer->predicted = c;
    return true;
}

/* ---- label ranking -------------------------------------------------------------------------- */

typedef struct Ranking { /* "Emotion: happy." and so on, tokenised */
    Ids ids[SCORE_CLASSES_MAX];
    Candidate candidates[SCORE_CLASSES_MAX];
} Ranking;

/* The ids of an answer without what ends its turn, so that more may follow. */
static bool answer_beginning(const Run *run, const char *text, Ids *ids, Error *err) {
    Ids end = {0};
    bool ok = chat_answer(run->template, run->tokenizer, "", &end, err) &&
              chat_answer(run->template, run->tokenizer, text, ids, err);
    if (ok && ids->count > end.count) ids->count -= end.count;
    ids_free(&end);
    return ok;
}

static bool ranking_open(const Run *run, Ranking *ranking, Error *err) {
    if (run->response.part_count == 0 || run->response.parts[0] != PART_EMOTION)
        return fail_usage(err, "--rank compares answers by their emotion, so it must be the response's first part");
    ResponseFormat format = run->response;
    format.part_count = 1;
    for (int c = 0; c < run->class_count; c++) {
        Utterance named = {.id = "", .emotion = run->classes[c]};
        Levels none = {{LEVEL_NONE, LEVEL_NONE, LEVEL_NONE}};
        bool replaced;
        char *text = response_write(&format, &named, &none, 0, &replaced, err);
        bool ok = text && answer_beginning(run, text, &ranking->ids[c], err);
        free(text);
        if (!ok) return false;
        ranking->candidates[c] = (Candidate){ranking->ids[c].items, (int)ranking->ids[c].count};
    }
    return true;
}

static void ranking_close(const Run *run, Ranking *ranking) {
    for (int c = 0; c < run->class_count; c++) ids_free(&ranking->ids[c]);
}

static bool rank_batch(Run *run, const Batch *batch, const Ranking *ranking, Answer *answers, Error *err) {
    double *scores = memory_new((size_t)(batch->count * run->class_count), sizeof *scores, err);
    if (!scores) return false;
    SpeechBatch view = batch_view(batch);
    bool ok = speech_llm_rank(run->model, &view, ranking->candidates, run->class_count, scores, err);
    for (int i = 0; ok && i < batch->count; i++) {
        const double *row = scores + i * run->class_count;
        answers[i].predicted = 0;
        for (int c = 1; c < run->class_count; c++)
            if (row[c] > row[answers[i].predicted]) answers[i].predicted = c;
    }
    free(scores);
    return ok;
}

/* ---- the loop ------------------------------------------------------------------------------- */

typedef struct Work {
    Run *run;
    const Split *split;
    const AnswerOptions *options;
    GenerateOptions generate;
    Answers *answers;
    Loader *loader;
    int channels;
    Ranking ranking;
    Batch batch;
    FILE *journal;
} Work;

/* Adds the audio of the next sample under the utterance of clip `at`. */
static bool add_clip(Work *work, uint32_t at, Error *err) {
    Sample sample;
    if (!loader_next(work->loader, &sample, err)) return false;
    bool ok = work->options->control != CONTROL_NOISE || control_noise(&sample, work->channels, err);
    if (ok) {
        Clip clip = clip_of(work->run, &sample);
        clip.utterance = shards_utterance(work->run->shards, work->split->items[at]);
        ok = batch_add(&work->batch, work->run, &clip, NULL, err);
    }
    sample_free(&sample);
    return ok;
}

/* Answers the clips at[0..count). */
static bool answer_batch(Work *work, const uint32_t *at, int count, Error *err) {
    Answer *fresh = memory_new((size_t)count, sizeof *fresh, err);
    char **texts = memory_new((size_t)count, sizeof *texts, err);
    bool *stopped = memory_new((size_t)count, sizeof *stopped, err), ok = fresh && texts && stopped;
    batch_clear(&work->batch);
    for (int i = 0; ok && i < count; i++) ok = add_clip(work, at[i], err);
    ok = ok && batch_answer(work->run, &work->batch, &work->generate, texts, stopped, err);
    if (ok && work->options->rank) ok = rank_batch(work->run, &work->batch, &work->ranking, fresh, err);
    for (int i = 0; ok && i < count; i++) {
        Answer *answer = &work->answers->items[at[i]];
        ok = answer_settle(work->run, answer, texts[i], stopped[i], err);
        texts[i] = NULL;
        if (work->options->rank) answer->predicted = fresh[i].predicted;
        if (ok && work->journal) {
            json_t *line =
                json_pack("{s:i, s:s, s:b}", "at", (int)at[i], "answer", answer->text, "stopped", (int)stopped[i]);
            if (line && work->options->rank) json_object_set_new(line, "ranked", json_integer(answer->predicted));
            ok = journal_line(work->journal, line, work->options->journal, err);
        }
    }
    for (int i = 0; texts && i < count; i++) free(texts[i]);
    free(texts);
    free(stopped);
    free(fresh);
    return ok;
}

static bool answer_all(Work *work, Error *err) {
    size_t count = work->split->count, left = 0, together = (size_t)work->options->clips;
    if (!together) together = (size_t)device_sequences(work->run->dev);
    uint32_t *order = memory_new(count, sizeof *order, err), *at = memory_new(count, sizeof *at, err);
    bool ok = order && at && control_order(work->run, work->split, work->options->control, order, err);
    for (size_t i = 0; ok && i < count; i++) {
        if (work->answers->items[i].text) continue;
        order[left] = order[i]; /* left <= i */
        at[left++] = (uint32_t)i;
    }
    ok = ok && loader_start(work->loader, order, left, err);
    Progress progress;
    progress_begin(&progress, "answering", "clips", (int64_t)(count - left), (int64_t)count);
    for (size_t done = 0; ok && done < left;) {
        size_t batch = left - done < together ? left - done : together;
        ok = answer_batch(work, at + done, (int)batch, err);
        done += batch;
        progress_update(&progress, (int64_t)(count - left + done), NULL);
    }
    if (ok) progress_end(&progress);
    free(order);
    free(at);
    return ok;
}

bool answers_make(Run *run, const Split *split, const AnswerOptions *options, Answers *answers, Error *err) {
    Work work = {.run = run, .split = split, .options = options, .generate = options->generate, .answers = answers};
    work.channels = config_prosody_channels(run->config);
    answers->count = split->count;
    answers->items = memory_new(split->count, sizeof *answers->items, err);
    int32_t *stops = stop_ids(run, &work.generate.stop_count, err);
    work.generate.stop = stops;
    bool ok = answers->items && stops;
    for (size_t i = 0; ok && i < split->count; i++) {
        answers->items[i].index = split->items[i];
        answers->items[i].truth = run->class_of[split->items[i]];
    }
    if (ok && options->rank) ok = ranking_open(run, &work.ranking, err);
    if (ok && options->journal) ok = (work.journal = journal_open(run, split, options, answers, err)) != NULL;
    LoaderOptions loading = run_loader_options(run, split);
    loading.shuffle = false;
    ok = ok && (work.loader = loader_open(run->shards, &loading, err)) && answer_all(&work, err);
    if (work.loader) loader_close(work.loader);
    if (work.journal) fclose(work.journal);
    ranking_close(run, &work.ranking);
    batch_free(&work.batch);
    free(stops);
    return ok;
}

void answers_free(Answers *answers) {
    for (size_t i = 0; answers->items && i < answers->count; i++) {
        free(answers->items[i].text);
        response_free(&answers->items[i].stated);
    }
    free(answers->items);
    *answers = (Answers){0};
}
