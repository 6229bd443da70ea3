/* cc -O2 02_text.c -o 02_text -lpthread
   A character-level transformer learns a text and writes some.
   ./02_text [FILE] [STEPS] */
#define DLSHARD_IMPLEMENTATION
#include "../dlshard.h"

#include <stdio.h>
#include <stdlib.h>

enum { T = 64, BATCH = 16, DIM = 96, HEADS = 4, LAYERS = 3, VOCAB = 128 };

static dls_net *make_net(void) {
    dls_net *net = dls_net_create(NULL);
    dls_attention_desc heads = {0};
    dls_val ids, table, x, y;
    int i;
    heads.heads = HEADS;
    heads.causal = true;
    ids = dls_net_input_ids(net, T);
    table = dls_net_embedding(net, ids, VOCAB, DIM);
    x = dls_net_position(net, table);
    for (i = 0; i < LAYERS; i++) {
        y = dls_net_linear(net, dls_net_layernorm(net, x), 3 * DIM, DLS_ACT_NONE);
        y = dls_net_attention_packed(net, y, &heads);
        y = dls_net_linear(net, y, DIM, DLS_ACT_NONE);
        x = dls_net_add(net, x, y, DLS_ACT_NONE);
        y = dls_net_linear(net, dls_net_layernorm(net, x), 4 * DIM, DLS_ACT_GELU);
        y = dls_net_linear(net, y, DIM, DLS_ACT_NONE);
        x = dls_net_add(net, x, y, DLS_ACT_NONE);
    }
    dls_net_tied_linear(net, dls_net_layernorm(net, x), table);
    return net;
}

/* A batch of windows of the text; each position's label is the next character. */
static void windows(const unsigned char *text, size_t size, uint64_t seed, int32_t *ids,
                    int32_t *label) {
    int i, t;
    for (i = 0; i < BATCH; i++) {
        const size_t at = dls_rand_at(seed, (uint32_t)i) % (size - T - 1);
        for (t = 0; t < T; t++) {
            ids[i * T + t] = text[at + (size_t)t] % VOCAB;
            label[i * T + t] = text[at + (size_t)t + 1] % VOCAB;
        }
    }
}

/* Draws a character. */
static int draw(const float *logits, uint32_t random) {
    float p[VOCAB], at = (float)random / 4294967296.0f;
    int i;
    dls_softmax(logits, VOCAB, 0.6, p);
    for (i = 0; i < VOCAB - 1 && (at -= p[i]) > 0; i++) {}
    return i;
}

static int write_text(dls_net *net, const char *start, int count) {
    dls_exec *run = dls_exec_create(net, NULL);
    int32_t ids[T] = {0};
    int n = 0, i;
    if (run == NULL) return 1;
    for (; start[n] != '\0' && n < T; n++) ids[n] = start[n];
    printf("%s", start);
    for (i = 0; i < count; i++) {
        const int at = n < T ? n : T;
        int next;
        memcpy(dls_exec_input(run, 0), ids, sizeof ids);
        if (dls_exec_forward(run, 1) != DLS_OK) return 1;
        next = draw(dls_exec_output(run) + (at - 1) * VOCAB, dls_rand_at(7, (uint32_t)i));
        putchar(next);
        if (n == T) memmove(ids, ids + 1, (T - 1) * sizeof *ids);
        ids[n < T ? n++ : T - 1] = next;
    }
    putchar('\n');
    dls_exec_destroy(run);
    return 0;
}

int main(int argc, char **argv) {
    const char *path = argc > 1 ? argv[1] : "data/text.txt";
    const int steps = argc > 2 ? atoi(argv[2]) : 300;
    static int32_t ids[BATCH * T], label[BATCH * T];
    dls_net *net = make_net();
    dls_train_desc desc = {0};
    dls_target target = {0};
    dls_step_stats stats = {0};
    dls_error error;
    dls_train *train;
    char message[320];
    double first = 0;
    void *text;
    size_t size;
    int i;

    if (dls_file_read(path, &text, &size, &error) != DLS_OK || size < 2 * T) {
        fprintf(stderr, "02_text: %s\n", dls_error_text(&error, message, sizeof message));
        return 1;
    }
    desc.batch = BATCH;
    desc.pool = dls_pool_create(NULL);
    desc.optim.kind = DLS_OPTIM_ADAMW;
    desc.optim.lr = 2e-3f;
    desc.optim.warmup_steps = 30;
    desc.optim.clip_norm = 1.0f;
    train = dls_train_create(net, &desc);
    if (train == NULL) {
        fprintf(stderr, "02_text: %s\n",
                dls_error_text(dls_net_error(net), message, sizeof message));
        return 1;
    }
    target.label = label;
    for (i = 1; i <= steps; i++) {
        windows(text, size, (uint64_t)i, ids, label);
        if (dls_train_step(train, ids, &target, BATCH, &stats) != DLS_OK) return 1;
        if (i == 1) first = stats.loss;
        if (i % 50 == 0 || i == 1) printf("step %4d  loss %.3f nats a character\n", i, stats.loss);
        fflush(stdout);
    }
    dls_train_destroy(train);
    if (write_text(net, "The network ", 200) != 0) return 1;
    dls_pool_destroy(desc.pool);
    dls_net_destroy(net);
    free(text);
    return steps >= 100 && !(stats.loss < 0.8 * first); /* it must have learnt something */
}
