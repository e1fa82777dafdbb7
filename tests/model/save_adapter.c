/* Puts random LoRA on a fixture's model and saves it with the logits it gives:
 * save_adapter tests/fixtures/decoder/VARIANT FOLDER. tests/oracle/peft_roundtrip.py reads both in PEFT. */
#include "tests/model/decoder_fixture.h"

static void save(Fixture *f, const char *folder) {
    int32_t rows[TOKENS];
    DecoderBatch batch = {.count = SEQUENCES, .cu = CU, .responses = TOKENS, .rows = rows};
    float *logits = calloc(TOKENS * VOCAB, sizeof *logits);
    char *path = path_join(folder, "logits.safetensors", &f->err);
    StoredTensor tensor = {.name = "logits", .dtype = DTYPE_F32, .dims = 2, .shape = {TOKENS, VOCAB}, .data = logits};
    tensor.bytes = TOKENS * VOCAB * sizeof *logits;
    for (int32_t i = 0; i < TOKENS; i++) rows[i] = i;
    fixture_layout(f, &(DecoderLimits){.tokens = TOKENS, .segments = SEQUENCES, .responses = TOKENS});
    fixture_forward(f, fixture_ints(f, "ids"), &batch);
    assert_ok(decoder_logits(f->decoder, 0, TOKENS, logits, &f->err), &f->err);
    assert_ok(folder_make(folder, &f->err), &f->err);
    assert_ok(decoder_lora_save(f->decoder, folder, &f->err), &f->err);
    assert_ok(tensors_write(path, &tensor, 1, NULL, &f->err), &f->err);
    free(path);
    free(logits);
}

int main(int argc, char **argv) {
    if (argc != 3) return EXIT_USAGE;
    const char *variant = strrchr(argv[1], '/');
    Fixture *f = fixture_open(variant ? variant + 1 : argv[1]);
    LoraConfig config = {.rank = 5, .alpha = 7.3f, .dropout = 0.05f, .rslora = true, .targets = LORA_ALL & ~LORA_K};
    assert_ok(decoder_lora_declare(f->decoder, &config, 11, &f->params, &f->err), &f->err);
    assert_ok(params_commit(&f->params, f->dev, &f->err), &f->err);
    assert_ok(decoder_lora_init(f->decoder, &f->err), &f->err);
    for (int64_t i = 0; i < f->params.total; i++) f->params.value[i] += 0.1f * sinf((float)(i * i % 1000));
    save(f, argv[2]);
    fixture_close(f);
    return 0;
}
