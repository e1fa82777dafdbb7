#include "data/teach.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "data/teach_questions.h"

enum { CALLERS_MOST = 256, TOGETHER_MOST = 256, UNANSWERED_IN_A_ROW_MOST = 40, SAMPLES = 3, TRIES_COUNTED = 8 };

/* What the callers share; all of it is under the lock. */
typedef struct Work {
    const TeachJob *job;
    const TeachOptions *options;
    Questions questions;
    AnswerCache cache;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t *queue; /* of open questions, a ring */
    size_t head, queued, in_flight;
    size_t settled, kept, set_aside, unanswered;
    int64_t kept_at[TRIES_COUNTED], faults[FAULT_COUNT], from_cache;
    int64_t reserved_in, reserved_out; /* tokens of what is in flight, at most */
    int unanswered_in_a_row;
    bool too_dear;
    Progress progress;
    Error failure;
} Work;

/* --- ceilings --- */

static double cost_of(const TeachOptions *options, int64_t tokens_in, int64_t tokens_out) {
    return ((double)tokens_in * options->price_in + (double)tokens_out * options->price_out) / 1e6;
}

/* Whether a question of so many tokens, and the longest answer to it, stays under the ceilings. */
static bool can_pay(const Work *work, int64_t tokens) {
    const TeachOptions *options = work->options;
    int64_t in = work->cache.tokens_in + work->reserved_in + tokens;
    int64_t out = work->cache.tokens_out + work->reserved_out + options->teacher->answer_tokens;
    if (options->tokens_most && in + out > options->tokens_most) return false;
    return !(options->cost_most > 0) || cost_of(options, in, out) <= options->cost_most;
}

/* --- settling --- */

static void count_settled(Work *work, const Question *question) {
    work->settled += question->state != QUESTION_OPEN;
    work->kept += question->state == QUESTION_KEPT;
    work->set_aside += question->state == QUESTION_SET_ASIDE;
    work->unanswered += question->state == QUESTION_UNANSWERED;
    if (question->state == QUESTION_KEPT)
        work->kept_at[question->asked < TRIES_COUNTED ? question->asked - 1 : TRIES_COUNTED - 1]++;
}

static bool settle(Work *work, Question *question, const char *text, bool cut, Error *err) {
    if (!question_settle(&work->questions, question, text, cut, err)) return false;
    work->faults[question->fault]++;
    count_settled(work, question);
    return true;
}

static void enqueue(Work *work, size_t question) {
    work->queue[(work->head + work->queued++) % work->questions.count] = question;
}

/* As far as answers are known already; what is still open then is asked. */
static bool settle_from_cache(Work *work, size_t index, Error *err) {
    Question *question = &work->questions.items[index];
    while (question->state == QUESTION_OPEN) {
        Asking asking;
        if (!question_asking(&work->questions, question, &asking, err)) return false;
        const CachedAnswer *known = answer_cache_find(&work->cache, asking.key);
        asking_free(&asking);
        if (!known) {
            enqueue(work, index);
            return true;
        }
        work->from_cache++;
        if (!settle(work, question, known->text, known->cut, err)) return false;
    }
    return true;
}

/* --- asking --- */

typedef struct Round { /* the questions of one call */
    size_t index[TOGETHER_MOST];
    Asking asking[TOGETHER_MOST];
    TeacherQuestion questions[TOGETHER_MOST];
    TeacherAnswer answers[TOGETHER_MOST];
    int64_t tokens; /* reserved for the questions */
    int count;
} Round;

static bool going(const Work *work) {
    return work->failure.exit_code == EXIT_DONE && !work->too_dear &&
           !(work->job->stop && atomic_load(work->job->stop));
}

/* The first of the queue into the round; false: it cannot be paid while so much is in flight, or there is an error. */
static bool take_one(Work *work, Round *round) {
    const Teacher *teacher = work->options->teacher;
    size_t index = work->queue[work->head];
    Asking *asking = &round->asking[round->count];
    if (!question_asking(&work->questions, &work->questions.items[index], asking, &work->failure)) return false;
    int64_t tokens = teacher->tokens(teacher->self, &asking->question, &work->failure);
    if (tokens < 0 || !can_pay(work, tokens)) {
        asking_free(asking);
        return false;
    }
    work->head = (work->head + 1) % work->questions.count;
    work->queued--;
    work->in_flight++;
    work->reserved_in += tokens;
    work->reserved_out += teacher->answer_tokens;
    round->tokens += tokens;
    round->index[round->count] = index;
    round->questions[round->count++] = asking->question;
    return true;
}

/* Waits where all that is left is in flight, and may have to be asked again, or where what is in flight may yet cost
 * less than it could. False: there is nothing more to do. */
static bool take_round(Work *work, Round *round) {
    round->count = 0;
    round->tokens = 0;
    pthread_mutex_lock(&work->lock);
    while (going(work) && round->count == 0 && (work->queued || work->in_flight)) {
        while (work->queued && round->count < work->options->teacher->together && take_one(work, round)) {
        }
        if (round->count || !going(work)) break;
        if (work->in_flight) {
            pthread_cond_wait(&work->changed, &work->lock);
        } else {
            work->too_dear = true;
        }
    }
    pthread_mutex_unlock(&work->lock);
    return round->count > 0;
}

static void take_answer(Work *work, size_t index, AnswerKey key, const TeacherAnswer *answer) {
    Question *question = &work->questions.items[index];
    if (answer->text) {
        work->unanswered_in_a_row = 0;
        if (answer_cache_add(&work->cache, key, answer, &work->failure) &&
            settle(work, question, answer->text, answer->cut, &work->failure) && question->state == QUESTION_OPEN)
            enqueue(work, index);
    } else if (answer->why) {
        free(question->why);
        question->why = text_copy(answer->why, &work->failure);
        question->state = QUESTION_UNANSWERED;
        count_settled(work, question);
        if (++work->unanswered_in_a_row >= UNANSWERED_IN_A_ROW_MOST)
            fail(&work->failure, "%d questions in a row got no answer, the last because %s", UNANSWERED_IN_A_ROW_MOST,
                 answer->why);
    }
}

static void show_progress(Work *work) {
    char note[120];
    snprintf(note, sizeof note, "%zu set aside, %" PRId64 " tokens", work->set_aside + work->unanswered,
             work->cache.tokens_in + work->cache.tokens_out);
    progress_update(&work->progress, (int64_t)work->settled, note);
}

static void finish_round(Work *work, Round *round, bool answered, const Error *why) {
    pthread_mutex_lock(&work->lock);
    if (!answered) fail(&work->failure, "%s", why->text);
    for (int i = 0; i < round->count; i++) {
        if (answered) take_answer(work, round->index[i], round->asking[i].key, &round->answers[i]);
        asking_free(&round->asking[i]);
    }
    work->in_flight -= (size_t)round->count;
    work->reserved_in -= round->tokens;
    work->reserved_out -= round->count * work->options->teacher->answer_tokens;
    show_progress(work);
    pthread_cond_broadcast(&work->changed);
    pthread_mutex_unlock(&work->lock);
    teacher_answers_free(round->answers, round->count);
}

typedef struct Caller {
    Work *work;
    pthread_t thread;
    int number;
} Caller;

static void *run_caller(void *argument) {
    Caller *caller = argument;
    Work *work = caller->work;
    const Teacher *teacher = work->options->teacher;
    Round *round = memory_new(1, sizeof *round, NULL);
    while (round && take_round(work, round)) {
        Error why = {0};
        bool answered =
            teacher->answer(teacher->self, caller->number, round->questions, round->count, round->answers, &why);
        finish_round(work, round, answered, &why);
    }
    free(round);
    return NULL;
}

static void run_callers(Work *work) {
    Caller callers[CALLERS_MOST];
    int wanted = work->options->teacher->callers, started = 0;
    if ((size_t)wanted > work->queued) wanted = (int)work->queued;
    callers[0] = (Caller){.work = work};
    for (int i = 1; i < wanted; i++) {
        callers[i] = (Caller){.work = work, .number = i};
        if (pthread_create(&callers[i].thread, NULL, run_caller, &callers[i]) != 0) break;
        started = i;
    }
    if (wanted) run_caller(&callers[0]); /* this thread asks too, so that without any other it still gets done */
    for (int i = 1; i <= started; i++) pthread_join(callers[i].thread, NULL);
}

/* --- how it ended --- */

static bool explain_one(Work *work, size_t index, Error *err) {
    Utterance *utterance = &work->job->manifest->items[index];
    const Question *question = &work->questions.items[work->questions.of_utterance[index]];
    if (question->state != QUESTION_KEPT)
        return json_object_set_new(utterance->json, "set_aside", json_string(question->why)) == 0 ||
               fail(err, "out of memory while marking \"%s\"", utterance->id);
    char *text = text_copy(question->answer, err);
    char *teacher = text_format(err, "%s prompt %s", work->options->teacher->name, work->questions.prompt.hash);
    if (!text || !teacher) {
        free(text);
        free(teacher);
        return false;
    }
    free(utterance->explanation);
    free(utterance->teacher);
    utterance->explanation = text;
    utterance->teacher = teacher;
    return utterance_sync(utterance, err);
}

static double percent(size_t part, size_t whole) { return whole ? 100.0 * (double)part / (double)whole : 0; }

static void print_census(const Work *work, FILE *out) {
    const Questions *questions = &work->questions;
    size_t asked = work->settled, left = questions->count - work->settled;
    fprintf(out, "%s: %zu utterances, %zu questions\n", work->options->teacher->name, work->job->manifest->count,
            questions->count);
    fprintf(out, "  kept      %8zu (%.1f %%)", work->kept, percent(work->kept, asked));
    for (int i = 0; i < TRIES_COUNTED; i++)
        if (work->kept_at[i]) fprintf(out, ", %" PRId64 " at try %d", work->kept_at[i], i + 1);
    fprintf(out, "\n  set aside %8zu (%.1f %%)\n  no answer %8zu\n", work->set_aside, percent(work->set_aside, asked),
            work->unanswered);
    if (left) fprintf(out, "  not asked %8zu\n", left);
    for (int kind = FAULT_NONE + 1; kind < FAULT_COUNT; kind++)
        if (work->faults[kind]) fprintf(out, "  answer %s: %" PRId64 "\n", FAULT_NAMES[kind], work->faults[kind]);
    fprintf(out, "  answers known before: %" PRId64 "; in %s: %" PRId64 " tokens of prompts, %" PRId64 " of answers",
            work->from_cache, work->cache.path, work->cache.tokens_in, work->cache.tokens_out);
    double cost = cost_of(work->options, work->cache.tokens_in, work->cache.tokens_out);
    if (cost > 0) fprintf(out, ", cost %.4f", cost);
    fprintf(out, "\n");
    if (work->set_aside + work->unanswered)
        fprintf(out, "  what was set aside or not answered keeps the template's explanation, marked \"set_aside\"\n");
}

static bool check_ended(const Work *work, Error *err) {
    static const char KEPT[] = "answers so far are kept, and the same command goes on from them";
    size_t settled = work->settled, count = work->questions.count;
    if (work->failure.exit_code != EXIT_DONE) return fail(err, "%s; %s", work->failure.text, KEPT);
    if (work->too_dear)
        return fail(err,
                    "the next question could go past --max-tokens-total or --max-cost: %zu of %zu questions are "
                    "settled, with %" PRId64 " tokens; %s with a higher ceiling",
                    settled, count, work->cache.tokens_in + work->cache.tokens_out, KEPT);
    if (work->unanswered == count)
        return fail(err, "none of %zu questions got an answer: %s", count, work->questions.items[0].why);
    if (settled < count) return fail(err, "stopped: %zu of %zu questions are settled; %s", settled, count, KEPT);
    return true;
}

static bool ask_all(Work *work, Error *err) {
    pthread_mutex_init(&work->lock, NULL);
    pthread_cond_init(&work->changed, NULL);
    progress_begin(&work->progress, "explanations", "questions", (int64_t)work->settled,
                   (int64_t)work->questions.count);
    run_callers(work);
    progress_end(&work->progress);
    pthread_cond_destroy(&work->changed);
    pthread_mutex_destroy(&work->lock);
    print_census(work, stderr);
    return check_ended(work, err);
}

/* --- without asking --- */

static bool print_sample(const Work *work, size_t index, FILE *out, Error *err) {
    Asking asking;
    if (!question_asking(&work->questions, &work->questions.items[index], &asking, err)) return false;
    fprintf(out, "--- question %zu of %zu, asked for %zu of the utterances\n", index + 1, work->questions.count,
            work->questions.items[index].utterances);
    if (asking.system) fprintf(out, "[system]\n%s\n", asking.system);
    fprintf(out, "[user]\n%s\n", asking.user);
    asking_free(&asking);
    return true;
}

static bool count_open_tokens(const Work *work, int64_t *tokens, Error *err) {
    const Teacher *teacher = work->options->teacher;
    *tokens = 0;
    for (size_t i = 0; i < work->queued; i++) {
        Asking asking;
        if (!question_asking(&work->questions, &work->questions.items[work->queue[i]], &asking, err)) return false;
        int64_t own = teacher->tokens(teacher->self, &asking.question, err);
        asking_free(&asking);
        if (own < 0) return false;
        *tokens += own;
    }
    return true;
}

static bool print_plan(const Work *work, FILE *out, Error *err) {
    size_t count = work->questions.count, samples = count < SAMPLES ? count : SAMPLES;
    int64_t tokens, most = work->options->teacher->answer_tokens * (int64_t)work->queued;
    for (size_t i = 0; i < samples; i++)
        if (!print_sample(work, i * count / samples, out, err)) return false;
    if (!count_open_tokens(work, &tokens, err)) return false;
    fprintf(out, "---\n%zu utterances, %zu questions; %zu are answered in %s, %zu are to be asked of %s\n",
            work->job->manifest->count, count, work->settled, work->cache.path, work->queued,
            work->options->teacher->name);
    fprintf(out, "asked once each: %" PRId64 " tokens of prompts, at most %" PRId64 " of answers", tokens, most);
    double cost = cost_of(work->options, tokens, most);
    if (cost > 0) fprintf(out, ", cost at most %.4f", cost);
    fprintf(out, "\n");
    return true;
}

/* --- all of it --- */

static bool teach_questions(Work *work, Error *err) {
    work->queue = memory_new(work->questions.count, sizeof *work->queue, err);
    bool done = work->queue != NULL;
    for (size_t i = 0; i < work->questions.count && done; i++) done = settle_from_cache(work, i, err);
    if (!done) return false;
    if (work->options->dry_run) return print_plan(work, stdout, err);
    done = ask_all(work, err);
    for (size_t i = 0; i < work->job->manifest->count && done; i++) done = explain_one(work, i, err);
    return done;
}

bool teach(const TeachJob *job, const TeachOptions *options, Error *err) {
    Work work = {.job = job, .options = options};
    if (!questions_open(&work.questions, job, options, err)) return false;
    work.cache.path = options->answers;
    /* A dry run leaves no file behind that was not there. */
    bool done =
        (options->dry_run && !file_exists(options->answers)) || answer_cache_open(&work.cache, options->answers, err);
    if (done) {
        done = teach_questions(&work, err);
        done = answer_cache_close(&work.cache, err) && done;
    }
    free(work.queue);
    questions_free(&work.questions);
    return done;
}

void teacher_answers_free(TeacherAnswer *answers, int count) {
    for (int i = 0; i < count; i++) {
        free(answers[i].text);
        free(answers[i].why);
        answers[i] = (TeacherAnswer){0};
    }
}
