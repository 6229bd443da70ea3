/* Robust aggregation beside rules written down plainly, and 2 of 8 hostile. Part of codec.c. */

enum { R_MOST = 9, R_N = 333 };
static float r_data[R_MOST][R_N];
static const float *r_x[R_MOST];

static void r_draw(int count, uint64_t seed) {
    for (int i = 0; i < count; i++) {
        draw(r_data[i], R_N, seed * 100 + (uint64_t)i, 1.0);
        r_x[i] = r_data[i];
    }
}
static dls_status r_run(const dls_robust_desc *d, float *to, float *used) {
    const size_t bytes = dls_robust_size(d);
    void *mem = malloc(bytes + 1);
    dls_status st;
    if (bytes > 0)
        CHECK_STATUS(dls_robust_run(d, r_x, R_N, to, used, mem, bytes - 1), DLS_E_MEMORY);
    st = dls_robust_run(d, r_x, R_N, to, used, mem, bytes);
    free(mem);
    return st;
}
static int ascending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}
static void test_coordinates(void) {
    for (int count = 1; count <= R_MOST; count++)
        for (int hostile = 0; 2 * hostile < count; hostile++) {
            float to[R_N], column[R_MOST];
            dls_robust_desc d;
            memset(&d, 0, sizeof d);
            d.count = count;
            d.hostile = hostile;
            r_draw(count, (uint64_t)count);
            d.kind = DLS_ROBUST_MEDIAN;
            CHECK_STATUS(r_run(&d, to, NULL), DLS_OK);
            for (int i = 0; i < R_N; i++) {
                for (int k = 0; k < count; k++) column[k] = r_data[k][i];
                qsort(column, (size_t)count, sizeof *column, ascending);
                CHECK_NEAR(to[i], (column[(count - 1) / 2] + column[count / 2]) / 2, 1e-6);
            }
            d.kind = DLS_ROBUST_TRIMMED;
            CHECK_STATUS(r_run(&d, to, NULL), DLS_OK);
            for (int i = 0; i < R_N; i++) {
                double sum = 0;
                for (int k = 0; k < count; k++) column[k] = r_data[k][i];
                qsort(column, (size_t)count, sizeof *column, ascending);
                for (int k = hostile; k < count - hostile; k++) sum += (double)column[k];
                CHECK_NEAR(to[i], sum / (count - 2 * hostile), 1e-6);
            }
        }
}
static double r_far(int a, int b) {
    double sum = 0;
    for (int i = 0; i < R_N; i++) sum += pow((double)r_data[a][i] - (double)r_data[b][i], 2);
    return sum;
}
static int doubles_up(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static void test_krum(void) {
    for (int count = 3; count <= R_MOST; count++)
        for (int hostile = 0; 2 * hostile + 3 <= count; hostile++) {
            float to[R_N], used[R_MOST];
            double score[R_MOST], order[R_MOST], limit;
            int best = 0;
            dls_robust_desc d;
            memset(&d, 0, sizeof d);
            d.kind = DLS_ROBUST_KRUM;
            d.count = count;
            d.hostile = hostile;
            r_draw(count, (uint64_t)(20 + count));
            for (int i = 0; i < count; i++) {
                double far[R_MOST];
                int others = 0;
                for (int j = 0; j < count; j++)
                    if (j != i) far[others++] = r_far(i, j);
                qsort(far, (size_t)others, sizeof *far, doubles_up);
                score[i] = 0;
                for (int j = 0; j < count - hostile - 2; j++) score[i] += far[j];
                order[i] = score[i];
                if (score[i] < score[best]) best = i;
            }
            CHECK_STATUS(r_run(&d, to, used), DLS_OK);
            CHECK(memcmp(to, r_data[best], sizeof to) == 0);
            for (int i = 0; i < count; i++) CHECK(used[i] == (i == best ? 1.0f : 0.0f));
            d.kind = DLS_ROBUST_MULTI_KRUM;
            CHECK_STATUS(r_run(&d, to, used), DLS_OK);
            qsort(order, (size_t)count, sizeof *order, doubles_up);
            limit = order[count - hostile - 1];
            for (int i = 0; i < count; i++)
                CHECK((used[i] != 0) == (score[i] <= limit * (1 + 1e-12)));
            for (int i = 0; i < R_N; i++) {
                double sum = 0;
                for (int k = 0; k < count; k++)
                    if (used[k] != 0) sum += (double)r_data[k][i];
                CHECK_NEAR(to[i], sum / (count - hostile), 1e-6);
            }
        }
}
static void test_centred(void) {
    enum { COUNT = 6 };
    float to[R_N], centre[R_N];
    double v[R_N];
    dls_robust_desc d;
    memset(&d, 0, sizeof d);
    d.kind = DLS_ROBUST_CLIP;
    d.count = COUNT;
    d.radius = 3.0f;
    d.rounds = 4;
    d.centre = centre;
    r_draw(COUNT, 5);
    draw(centre, R_N, 1234, 0.1);
    for (int i = 0; i < R_N; i++) v[i] = (double)centre[i];
    for (int round = 0; round < 4; round++) {
        double next[R_N];
        memcpy(next, v, sizeof v);
        for (int k = 0; k < COUNT; k++) {
            double far = 0;
            for (int i = 0; i < R_N; i++) far += pow((double)r_data[k][i] - v[i], 2);
            far = sqrt(far);
            for (int i = 0; i < R_N; i++)
                next[i] += ((double)r_data[k][i] - v[i]) * fmin(1, 3.0 / far) / COUNT;
        }
        memcpy(v, next, sizeof v);
    }
    CHECK_STATUS(r_run(&d, to, NULL), DLS_OK);
    for (int i = 0; i < R_N; i++) CHECK_NEAR(to[i], v[i], 1e-5);
}
static void test_mean(void) {
    static const float weight[] = {1, 0, 3, 4};
    float to[R_N], used[4];
    dls_robust_desc d;
    memset(&d, 0, sizeof d);
    d.count = 4;
    d.weight = weight;
    r_draw(4, 9);
    CHECK_STATUS(r_run(&d, to, used), DLS_OK);
    CHECK(used[0] == 0.125f && used[1] == 0.0f && used[3] == 0.5f);
    for (int i = 0; i < R_N; i++)
        CHECK_NEAR(to[i], (r_data[0][i] + 3 * r_data[2][i] + 4 * r_data[3][i]) / 8, 1e-6);
    r_data[1][70] = INFINITY;
    CHECK_STATUS(r_run(&d, to, used), DLS_E_NUMBER);
    d.kind = DLS_ROBUST_TRIMMED;
    d.hostile = 2;
    CHECK_INT(dls_robust_size(&d), 0);
    CHECK_STATUS(r_run(&d, to, used), DLS_E_ARG);
    d.kind = DLS_ROBUST_KRUM;
    d.hostile = 1;
    CHECK_INT(dls_robust_size(&d), 0); /* Krum needs 2 f + 3 = 5 */
    d.count = 8;
    CHECK(dls_robust_size(&d) < 4096); /* 8 x 64 floats = 2 KB, distances, alignment */
}
/* 6 honest vectors around one direction, 2 hostile in league: how far off each rule ends. */
static void test_two_of_eight(void) {
    static const char *const attack[] = {"sign flip x 10", "noise x 50", "small push"};
    for (int a = 0; a < 3; a++) {
        float truth[R_N], to[R_N], honest[R_N], used[8];
        double size, off[DLS_ROBUST_COUNT], spread = 0;
        draw(truth, R_N, 4242, 1.0);
        size = sqrt(length2(truth, R_N));
        r_draw(8, (uint64_t)(60 + a));
        for (int i = 0; i < R_N; i++) {
            for (int k = 0; k < 8; k++) r_data[k][i] = truth[i] + 0.3f * r_data[k][i];
            honest[i] = 0;
            for (int k = 2; k < 8; k++) honest[i] += r_data[k][i] / 6;
            for (int k = 0; k < 2; k++) {
                if (a == 0) r_data[k][i] = -10.0f * truth[i];
                if (a == 1) r_data[k][i] = 50.0f * (r_data[k][i] - truth[i]);
                if (a == 2) r_data[k][i] = truth[i] - 2.0f * fabsf(truth[i]);
            }
            spread += pow((double)(honest[i] - truth[i]), 2);
        }
        for (int kind = 0; kind < DLS_ROBUST_COUNT; kind++) {
            dls_robust_desc d;
            memset(&d, 0, sizeof d);
            d.kind = (dls_robust_kind)kind;
            d.count = 8;
            d.hostile = 2;
            CHECK_STATUS(r_run(&d, to, used), DLS_OK);
            for (int i = 0; i < R_N; i++) to[i] -= truth[i];
            off[kind] = sqrt(length2(to, R_N)) / size;
            if (kind == DLS_ROBUST_KRUM || kind == DLS_ROBUST_MULTI_KRUM)
                CHECK(used[0] == 0.0f && used[1] == 0.0f);
        }
        printf("  %-15s: honest mean off by %.2f; mean %.2f median %.2f trimmed %.2f krum %.2f "
               "multi-krum %.2f clip %.2f\n",
               attack[a], sqrt(spread) / size, off[0], off[1], off[2], off[3], off[4], off[5]);
        CHECK(off[DLS_ROBUST_MEAN] > 0.45);
        for (int kind = 1; kind < 5; kind++) CHECK(off[kind] < 0.45);
        if (a < 2) CHECK(off[DLS_ROBUST_CLIP] < 0.3 * off[DLS_ROBUST_MEAN]);
    }
}
static void test_guard(void) {
    dls_guard_report report[5];
    r_draw(5, 31);
    r_data[1][332] = NAN;
    for (int i = 0; i < R_N; i++) r_data[3][i] *= 20.0f;
    CHECK_INT(dls_robust_guard(r_x, 5, R_N, 0, 5, report), 3);
    CHECK_INT(report[0].verdict, DLS_GUARD_OK);
    CHECK_INT(report[1].verdict, DLS_GUARD_NUMBER);
    CHECK_INT(report[3].verdict, DLS_GUARD_NORM);
    CHECK(report[3].norm > report[3].limit && report[2].norm < report[2].limit);
    CHECK_INT(dls_robust_guard(r_x, 5, R_N, 0, 0, report), 4);
    CHECK_INT(dls_robust_guard(r_x, 5, R_N, report[0].norm, 0, report) >= 1, 1);
    CHECK(report[4].limit == report[0].norm);
    CHECK_TEXT(dls_guard_name(report[1].verdict), "NaN");
    CHECK_INT(dls_robust_guard(r_x + 1, 1, R_N, 0, 5, report), 0); /* none is finite */
}
static void test_quarantine(void) {
    dls_quarantine q;
    uint64_t step = 0, out[3];
    memset(&q, 0, sizeof q);
    for (int i = 0; i < 50; i++) { /* one in five is forgiven */
        CHECK(dls_quarantine_may(&q, step));
        CHECK(!dls_quarantine_note(&q, step, i % 5 == 0));
        step++;
    }
    for (int times = 0; times < 3; times++) {
        int strikes = 0;
        while (!dls_quarantine_note(&q, step, true)) {
            strikes++;
            step++;
        }
        CHECK(times == 0 ? strikes >= 1 : strikes == 0); /* later: on probation */
        CHECK(!dls_quarantine_may(&q, step + 1));
        CHECK(dls_quarantine_may(&q, q.until) && !dls_quarantine_may(&q, q.until - 1));
        out[times] = q.until - step - 1;
        step = q.until;
    }
    CHECK_INT(out[0], 16);
    CHECK_INT(out[1], 32);
    CHECK_INT(out[2], 64);
    CHECK_INT(q.times, 3);
    for (int i = 0; i < 20; i++) CHECK(!dls_quarantine_note(&q, step++, false));
    CHECK_INT(q.score, 0);
    CHECK(!dls_quarantine_note(&q, step, true)); /* earned back */
    for (int i = 0; i < 40; i++) (void)dls_quarantine_note(&q, step, true);
    CHECK_INT(q.until - step - 1, 65536);
}

static void robust_tests(void) {
    RUN(coordinates);
    RUN(krum);
    RUN(centred);
    RUN(mean);
    RUN(two_of_eight);
    RUN(guard);
    RUN(quarantine);
}
