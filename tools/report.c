/* report.c - part of dlshard.c: the record of a training run as CSV, and what is drawn from it: a
   page (HTML with SVG, nothing from elsewhere) and the training curve alone (SVG). */

/* ---- The record: one documented place for its columns ----
   RFC 4180 with a line of names first. Three kinds of rows, by the first column:
   step   what all peers did together since the step row before: seconds since the start, mean
          loss and accuracy (0..1), samples per second
   peer   after its step row, one for each peer that took part: its rank and name, samples it
          computed, seconds it spent computing, moving bytes (wire) and waiting for others, bytes
          it sent and bytes that compression saved it; all since the step row before
   other  something happened at that step and second, to a peer: joined, lost, left, state (it was
          sent to it); or to the run, peer empty: view, redone (that step), trouble, stopped. Any
          word does. At step 0: how it was when the record began.
   Columns that a kind does not need are empty. */
static const char *const run_column[] = {
    "kind",          "step",    "seconds",   "peer",   "name",   "loss",       "accuracy",
    "samples_per_s", "samples", "compute_s", "wire_s", "wait_s", "sent_bytes", "saved_bytes"};
enum { RUN_COLUMNS = 14, RUN_NAME = 32, RUN_PEERS = 1024 };

typedef struct run_step {
    double step, seconds, loss, accuracy, samples_per_s;
} run_step;
typedef struct run_peer { /* sent, saved: bytes; the rest seconds, but samples */
    int rank;
    const char *name;
    double samples, compute, wire, wait, sent, saved;
} run_peer;

static void run_write_name(FILE *f, const char *name) {
    fputc('"', f);
    for (; *name != '\0'; name++) {
        if (*name == '"') fputc('"', f);
        fputc(*name, f);
    }
    fputc('"', f);
}
/* The first line. */
static void run_write_head(FILE *f) {
    int i;
    for (i = 0; i < RUN_COLUMNS; i++) fprintf(f, "%s%s", i > 0 ? "," : "", run_column[i]);
    fputc('\n', f);
}
/* A step row and the rows of its peers. */
static void run_write_step(FILE *f, const run_step *s, const run_peer *peer, int peers) {
    int i;
    fprintf(f, "step,%.0f,%.6f,,,%.9g,%.6f,%.1f,,,,,,\n", s->step, s->seconds, s->loss, s->accuracy,
            s->samples_per_s);
    for (i = 0; i < peers; i++) {
        const run_peer *p = &peer[i];
        fprintf(f, "peer,%.0f,%.6f,%d,", s->step, s->seconds, p->rank);
        run_write_name(f, p->name);
        fprintf(f, ",,,,%.0f,%.6f,%.6f,%.6f,%.0f,%.0f\n", p->samples, p->compute, p->wire, p->wait,
                p->sent, p->saved);
    }
}
/* Something that happened; rank -1: to no peer. */
static void run_write_event(FILE *f, const char *what, double step, double seconds, int rank,
                            const char *name) {
    run_write_name(f, what);
    fprintf(f, ",%.0f,%.6f,", step, seconds);
    if (rank >= 0) fprintf(f, "%d", rank);
    fputc(',', f);
    if (rank >= 0) run_write_name(f, name);
    fputs(",,,,,,,,,\n", f);
}

/* ---- Reading it ---- */

typedef struct run_part { /* what peer `of` (its place, not its rank) did for step row `at` */
    int at, of;
    double samples, compute, wire, wait, sent, saved;
} run_part;
typedef struct run_event {
    char what[RUN_NAME];
    double step, seconds;
    int of; /* place of a peer, -1: none */
} run_event;
typedef struct run_name {
    int rank;
    char name[RUN_NAME];
} run_name;
typedef struct run {
    run_step *step;
    run_part *part;
    run_event *event;
    run_name *peer;
    int steps, parts, events, peers;
} run_record;

static void run_free(run_record *r) {
    free(r->step);
    free(r->part);
    free(r->event);
    free(r->peer);
}
/* Room for one more of `count`; false: none. */
static bool run_grow(void *list, int count, size_t each) {
    void *old, *more;
    if (count > 0 && (count & (count - 1)) != 0) return true; /* doubles at powers of two */
    memcpy(&old, list, sizeof old);
    if (count > 1 << 26) return false;
    more = realloc(old, (size_t)(count > 0 ? 2 * count : 1) * each);
    if (more == NULL) return false;
    memcpy(list, &more, sizeof more);
    return true;
}
static void run_copy_name(char *to, const char *from) { snprintf(to, RUN_NAME, "%s", from); }
/* Place of a peer, by its rank; -1: no room. */
static int run_peer_of(run_record *r, int rank, const char *name) {
    int i;
    for (i = 0; i < r->peers && r->peer[i].rank != rank; i++) {}
    if (i < r->peers) return i;
    if (i == RUN_PEERS || !run_grow(&r->peer, i, sizeof *r->peer)) return -1;
    r->peer[i].rank = rank;
    if (*name != '\0')
        run_copy_name(r->peer[i].name, name);
    else
        snprintf(r->peer[i].name, RUN_NAME, "peer %d", rank);
    return r->peers++;
}

/* Cuts the row at *p into fields, in place, and moves *p behind it. Returns how many there are. */
static int run_fields(char **p, char *end, char **field) {
    char *s = *p, *begin, *to;
    int n = 0;
    bool more = true;
    for (; more; n++) {
        const bool quoted = s < end && *s == '"';
        begin = to = s;
        if (n < RUN_COLUMNS) field[n] = begin;
        if (quoted) s++;
        while (s < end && (quoted || (*s != ',' && *s != '\n'))) {
            if (quoted && *s == '"' && *++s != '"') break;
            *to++ = *s++;
        }
        while (s < end && *s != ',' && *s != '\n') s++;
        more = s < end && *s == ',';
        if (s < end) s++;
        if (to > begin && to[-1] == '\r' && !quoted) to--;
        *to = '\0';
    }
    *p = s;
    return n;
}
/* A row's fields; NULL, or what is wrong. */
static const char *run_row(run_record *r, char **field) {
    double v[RUN_COLUMNS];
    int i, of = -1;
    for (i = 1; i < RUN_COLUMNS; i++) {
        char *last = field[i];
        v[i] = i == 4 || *last == '\0' ? 0 : strtod(last, &last); /* 4: the name */
        if (i != 4 && (*last != '\0' || !(v[i] > -1e18 && v[i] < 1e18))) return "no number";
        if (i != 4 && i != 5 && v[i] < 0) return "a number below 0";
    }
    if (r->steps > 0 && v[2] < r->step[r->steps - 1].seconds) return "time goes back";
    if (!strcmp(field[0], "step")) {
        run_step *s;
        if (!run_grow(&r->step, r->steps, sizeof *r->step)) return "no memory";
        s = &r->step[r->steps++];
        s->step = v[1], s->seconds = v[2], s->loss = v[5], s->accuracy = v[6];
        s->samples_per_s = v[7];
        return NULL;
    }
    if (field[3][0] != '\0') {
        of = v[3] < RUN_PEERS ? run_peer_of(r, (int)v[3], field[4]) : -1;
        if (of < 0) return "a rank over 1023";
    }
    if (!strcmp(field[0], "peer")) {
        run_part *p;
        if (of < 0 || r->steps == 0) return "a peer row without rank, or before the first step row";
        if (!run_grow(&r->part, r->parts, sizeof *r->part)) return "no memory";
        p = &r->part[r->parts++];
        p->at = r->steps - 1, p->of = of, p->samples = v[8], p->compute = v[9], p->wire = v[10];
        p->wait = v[11], p->sent = v[12], p->saved = v[13];
        return NULL;
    }
    if (!run_grow(&r->event, r->events, sizeof *r->event)) return "no memory";
    run_copy_name(r->event[r->events].what, field[0]);
    r->event[r->events].step = v[1], r->event[r->events].seconds = v[2];
    r->event[r->events++].of = of;
    return NULL;
}
/* Reads a record; false after a message. *r is to be freed either way. */
static bool run_read(run_record *r, const char *path) {
    char *field[RUN_COLUMNS], *p, *end;
    void *bytes;
    size_t count;
    dls_error error;
    const char *wrong = NULL;
    int row, i, n;
    memset(r, 0, sizeof *r);
    if (dls_file_read(path, &bytes, &count, &error) != DLS_OK) return fail(&error), false;
    p = (char *)bytes;
    end = p + count;
    for (row = 1; p < end && wrong == NULL; row++) {
        n = run_fields(&p, end, field);
        if (n == 1 && field[0][0] == '\0') continue; /* an empty line */
        if (n != RUN_COLUMNS)
            wrong = "not 14 columns: is it the record of a run?";
        else if (row > 1)
            wrong = run_row(r, field);
        for (i = 0; row == 1 && i < n && wrong == NULL; i++)
            if (strcmp(field[i], run_column[i]) != 0) wrong = "the columns are not those of a run";
    }
    DLS_FREE(bytes);
    if (wrong == NULL && r->steps == 0) wrong = "no step rows";
    if (wrong != NULL) fprintf(stderr, "dlshard: %s, row %d: %s\n", path, row - 1, wrong);
    return wrong == NULL;
}

/* ---- Drawing ---- */

/* A chart: data x0..x1, 0..y1 into a box of an SVG. */
typedef struct chart {
    FILE *f;
    double x0, x1, y1;
    int left, top, width, height;
} chart;
static double chart_x(const chart *c, double x) {
    return c->left + c->width * (x - c->x0) / (c->x1 > c->x0 ? c->x1 - c->x0 : 1);
}
static double chart_y(const chart *c, double y) {
    return c->top + c->height * (1 - y / (c->y1 > 0 ? c->y1 : 1));
}
/* A width of 1, 2 or 5 times a power of ten, of which about n make up the range. */
static double chart_tick(double range, int n) {
    double tick = 1e-9;
    int i;
    for (i = 0; tick * n < range && i < 90; i++) tick *= i % 3 == 1 ? 2.5 : 2;
    return tick;
}
/* 0 to y1 on the left, rounded up so that a line runs along the top; lines across. */
static void chart_axis_y(chart *c, const char *unit, const char *colour) {
    const double tick = chart_tick(c->y1 > 0 ? c->y1 : 1, 4);
    double y;
    int i, lines = 1;
    while (lines * tick < c->y1 && lines < 10) lines++;
    c->y1 = lines * tick;
    for (i = 0; i <= lines; i++) {
        y = chart_y(c, i * tick);
        fprintf(c->f,
                "<path d='M%d %.1fh%d' stroke='#e6e9ed'/><text x='%d' y='%.1f' "
                "text-anchor='end' fill='%s'>%.6g</text>\n",
                c->left, y, c->width, c->left - 8, y + 4, colour, i * tick);
    }
    fprintf(c->f, "<text x='%d' y='22' fill='%s'>%s</text>\n", c->left - 44, colour, unit);
}
static void chart_axis_x(const chart *c, const char *label) {
    const double tick = chart_tick(c->x1 - c->x0, c->width / 60);
    const int bottom = c->top + c->height;
    double x = 0;
    while (x < c->x0) x += tick;
    for (; x <= c->x1 + tick * 1e-6; x += tick)
        fprintf(c->f,
                "<path d='M%.1f %dv5' stroke='#8a94a0'/><text x='%.1f' y='%d' "
                "text-anchor='middle'>%.6g</text>\n",
                chart_x(c, x), bottom, chart_x(c, x), bottom + 19, x);
    fprintf(c->f, "<path d='M%d %dh%d' stroke='#8a94a0'/>", c->left, bottom, c->width);
    fprintf(c->f, "<text x='%d' y='%d' text-anchor='middle'>%s</text>\n", c->left + c->width / 2,
            bottom + 37, label);
}
/* The same over seconds, in a unit that suits their number. */
static void chart_axis_time(const chart *c) {
    const double each = c->x1 < 600 ? 1 : c->x1 < 4 * 3600 ? 60 : 3600;
    chart in_unit = *c;
    in_unit.x0 /= each;
    in_unit.x1 /= each;
    chart_axis_x(&in_unit, each < 60 ? "seconds" : each < 3600 ? "minutes" : "hours");
}
static void chart_rect(const chart *c, double x, double y, double w, double h) { /* in a path */
    /* absolute, so that neighbours share their edges after rounding */
    if (w > 0 && h > 0) fprintf(c->f, "M%.1f %.1fH%.1fV%.1fH%.1fz", x, y, x + w, y + h, x);
}

static const char *const colour_loss = "#b03a2e", *const colour_accuracy = "#1f618d";
static const char *const colour_peer[] = {"#4477aa", "#ee6677", "#228833", "#ccbb44",
                                          "#66ccee", "#aa3377", "#e69f00", "#777777"};
static const char *const phase_name[] = {"compute", "wire", "wait"};
static const char *const phase_colour[] = {"#3b7dbd", "#f0a030", "#cfd5dc"};
enum { COLOURS = 8 };

static void curve_line(const chart *c, const run_step *s, int n, bool accuracy) {
    int i;
    fprintf(c->f, "<polyline fill='none' stroke='%s' stroke-width='2' points='",
            accuracy ? colour_accuracy : colour_loss);
    for (i = 0; i < n; i++)
        fprintf(c->f, "%.1f,%.1f ", chart_x(c, s[i].step),
                chart_y(c, accuracy ? s[i].accuracy * c->y1 : s[i].loss));
    fputs("'/>\n", c->f);
}
/* The training curve over steps: loss from 0 up, on the left; accuracy 0 to 100 %, on the right. */
static chart curve_draw(FILE *f, int width, int height, int top, const run_step *s, int n) {
    chart c = {f, 0, 0, 0, 56, top, width - 112, height - top - 50};
    int i;
    for (i = 0; i < n; i++) {
        if (s[i].loss > c.y1) c.y1 = s[i].loss;
        if (s[i].step > c.x1) c.x1 = s[i].step;
    }
    chart_axis_y(&c, "training loss", colour_loss);
    chart_axis_x(&c, "step");
    for (i = 0; i <= 4; i++)
        fprintf(f, "<text x='%d' y='%.1f' fill='%s'>%d %%</text>\n", width - 48,
                c.top + c.height * (1 - i / 4.0) + 4, colour_accuracy, 25 * i);
    fprintf(f, "<text x='%d' y='22' text-anchor='end' fill='%s'>training accuracy</text>\n",
            width - 12, colour_accuracy);
    curve_line(&c, s, n, false);
    curve_line(&c, s, n, true);
    return c;
}
static void svg_open(FILE *f, int width, int height, const char *what) {
    fprintf(f,
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %d' font-family='system-ui,"
            "sans-serif' font-size='12' fill='#3c4650' role='img' aria-label='%s'>\n",
            width, height, what);
}
/* Flushes and closes; 0, or 1 after a message. */
static int report_close(FILE *f, const char *path, const char *what) {
    const bool bad_write = ferror(f) != 0;
    if (fclose(f) != 0 || bad_write)
        return fprintf(stderr, "dlshard: writing '%s' failed\n", path), 1;
    printf("%s in %s\n", what, path);
    return 0;
}
/* The curve as a file of its own. */
static int curve_write(const char *path, const run_step *s, int n) {
    FILE *f = fopen(path, "w");
    if (f == NULL) return fprintf(stderr, "dlshard: cannot write '%s'\n", path), 1;
    svg_open(f, 800, 400, "training curve");
    fputs("<rect width='800' height='400' fill='white'/>\n", f);
    (void)curve_draw(f, 800, 400, 34, s, n);
    fputs("</svg>\n", f);
    return report_close(f, path, "curve");
}

/* ---- The page ---- */

enum { WIDE = 1000, HALF = 492 };

/* The run in up to a few hundred bins of equal numbers of step rows, for charts that stay light. */
typedef struct bins {
    int n, peers;
    double *from, *to; /* seconds */
    run_step *step;    /* means */
    run_part *part;    /* [n][peers], sums; at -1: the peer was not there */
} bins;
static void bins_free(bins *b) {
    free(b->from);
    free(b->to);
    free(b->step);
    free(b->part);
}
static void bins_add(run_part *to, const run_part *p) {
    to->at = to->at < 0 ? 1 : to->at + 1;
    to->samples += p->samples;
    to->compute += p->compute;
    to->wire += p->wire;
    to->wait += p->wait;
    to->sent += p->sent;
    to->saved += p->saved;
}
static bool bins_make(bins *b, const run_record *r) {
    int most = r->peers > 8 ? 2400 / r->peers : 300, i, k;
    memset(b, 0, sizeof *b);
    most = most < 20 ? 20 : most;
    b->n = r->steps < most ? r->steps : most;
    b->peers = r->peers;
    b->from = (double *)calloc((size_t)b->n, sizeof(double));
    b->to = (double *)calloc((size_t)b->n, sizeof(double));
    b->step = (run_step *)calloc((size_t)b->n, sizeof(run_step));
    b->part = (run_part *)calloc((size_t)b->n * (size_t)r->peers + 1, sizeof(run_part));
    if (b->from == NULL || b->to == NULL || b->step == NULL || b->part == NULL)
        return fprintf(stderr, "dlshard: no memory\n"), false;
    for (k = 0; k < b->n * b->peers; k++) b->part[k].at = -1;
    for (k = 0; k < b->n; k++) {
        const int first = (int)((long long)k * r->steps / b->n);
        const int last = (int)((long long)(k + 1) * r->steps / b->n);
        run_step *s = &b->step[k];
        for (i = first; i < last; i++) {
            s->loss += r->step[i].loss / (last - first);
            s->accuracy += r->step[i].accuracy / (last - first);
            s->samples_per_s += r->step[i].samples_per_s / (last - first);
        }
        s->step = r->step[last - 1].step;
        s->seconds = b->to[k] = r->step[last - 1].seconds;
        b->from[k] = first > 0 ? r->step[first - 1].seconds : 0;
    }
    for (i = 0; i < r->parts; i++) {
        k = (int)(((r->part[i].at + 1LL) * b->n - 1) / r->steps); /* first <= at < last, above */
        bins_add(&b->part[k * b->peers + r->part[i].of], &r->part[i]);
    }
    return true;
}

static void html_text(FILE *f, const char *s) {
    for (; *s != '\0'; s++) {
        if (strchr("<>&'\"", *s) != NULL || (unsigned char)*s < 32)
            fprintf(f, "&#%d;", (unsigned char)*s < 32 ? 32 : *s);
        else
            fputc(*s, f);
    }
}
/* 1234567 bytes as "1.23 MB". */
static char *bytes_text(char *to, size_t size, double bytes) {
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    int i = 0;
    for (; bytes >= 1000 && i < 5; i++) bytes /= 1000;
    snprintf(to, size,
             bytes < 10 && i > 0    ? "%.2f %s"
             : bytes < 100 && i > 0 ? "%.1f %s"
                                    : "%.0f %s",
             bytes, unit[i]);
    return to;
}
static void html_bytes(FILE *f, double bytes) {
    char text[32];
    fputs(bytes_text(text, sizeof text, bytes), f);
}
static bool event_is_loss(const run_event *e) {
    return !strcmp(e->what, "lost") || !strcmp(e->what, "left");
}
static const char *event_colour(const run_event *e) {
    return event_is_loss(e) ? "#c0392b" : !strcmp(e->what, "joined") ? "#1e8449" : "#8a94a0";
}
/* How it was at the start is no news. */
static bool event_is_start(const run_event *e) { return e->step <= 0 && !event_is_loss(e); }
static void event_text(FILE *f, const run_record *r, const run_event *e) {
    if (e->of >= 0) html_text(f, r->peer[e->of].name);
    if (e->of >= 0) fputc(' ', f);
    html_text(f, e->what);
}
static void event_title(FILE *f, const run_record *r, const run_event *e) {
    fputs("<title>", f);
    event_text(f, r, e);
    fprintf(f, ", step %.0f, %.1f s</title></path>\n", e->step, e->seconds);
}
/* A dashed line where something happened; over the training curve with words. */
static void chart_events(const chart *c, const run_record *r, bool over_steps) {
    double last = -1e9;
    int i, row = 0;
    for (i = 0; i < r->events; i++) {
        const run_event *e = &r->event[i];
        const double x = chart_x(c, over_steps ? e->step : e->seconds);
        const bool right = x > c->left + c->width - 50;
        if (event_is_start(e)) continue;
        fprintf(c->f, "<path d='M%.1f %dv%d' stroke='%s' stroke-dasharray='4 3'>", x, c->top,
                c->height, event_colour(e));
        event_title(c->f, r, e);
        if (!over_steps) continue;
        row = x < last + 100 ? (row + 1) % 3 : 0; /* above one that would overlap */
        last = x;
        fprintf(c->f, "<text x='%.1f' y='%d' font-size='11' fill='%s' text-anchor='%s'>", x,
                c->top - 6 - 14 * row, event_colour(e), right ? "end" : "middle");
        event_text(c->f, r, e);
        fputs("</text>\n", c->f);
    }
}
/* Marks in the lanes of the timeline: a cross for who went, a plus for who came. */
static void chart_marks(const chart *c, const run_record *r, int lane) {
    int i;
    for (i = 0; i < r->events; i++) {
        const run_event *e = &r->event[i];
        const double x = chart_x(c, e->seconds), y = c->top + lane * e->of + lane / 2.0;
        if (e->of < 0 || event_is_start(e)) continue;
        fprintf(c->f,
                "<circle cx='%.1f' cy='%.1f' r='7' fill='white' stroke='%s' stroke-width='1.5'/>"
                "<path d='M%.1f %.1f%s' stroke='%s' stroke-width='1.8'>",
                x, y, event_colour(e), x - 3, y - 3,
                event_is_loss(e) ? "l6 6m0 -6l-6 6" : "m0 3h6m-3 -3v6", event_colour(e));
        event_title(c->f, r, e);
    }
}
static void html_card(FILE *f, const char *title, const char *about, int width, int height) {
    fprintf(f, "<section class='%s'><h2>%s</h2><p>%s</p>\n", width == WIDE ? "wide" : "half", title,
            about);
    svg_open(f, width, height, title);
}
static const double *part_phase(const run_part *p, int phase) {
    return phase == 0 ? &p->compute : phase == 1 ? &p->wire : &p->wait;
}
static double part_seconds(const run_part *p) { return p->compute + p->wire + p->wait; }

static void page_curve(FILE *f, const run_record *r, const bins *b) {
    chart c;
    html_card(f, "Training curve",
              "Mean loss and accuracy on training data since the point before.", WIDE, 380);
    c = curve_draw(f, WIDE, 380, 74, b->step, b->n); /* words of events stand above */
    chart_events(&c, r, true);
    fputs("</svg></section>\n", f);
}
static bool page_has_shares(const run_record *r) { return r->parts > 0 && r->peers > 1; }
static void page_rate(FILE *f, const run_record *r, const bins *b) {
    const int width = page_has_shares(r) ? HALF : WIDE;
    chart c = {f, 0, b->to[b->n - 1], 0, 56, 34, width - 72, 176};
    int k;
    html_card(f, "Throughput", "All peers together.", width, 260);
    for (k = 0; k < b->n; k++)
        c.y1 = b->step[k].samples_per_s > c.y1 ? b->step[k].samples_per_s : c.y1;
    chart_axis_y(&c, "samples / s", "#3c4650");
    chart_axis_time(&c);
    fprintf(f, "<path fill='#3b7dbd' fill-opacity='.15' stroke='none' d='");
    for (k = 0; k < b->n; k++)
        chart_rect(&c, chart_x(&c, b->from[k]), chart_y(&c, b->step[k].samples_per_s),
                   chart_x(&c, b->to[k]) - chart_x(&c, b->from[k]),
                   c.top + c.height - chart_y(&c, b->step[k].samples_per_s));
    fputs("'/><path fill='none' stroke='#3b7dbd' stroke-width='1.5' d='", f);
    for (k = 0; k < b->n; k++)
        fprintf(f, "%c%.1f %.1fH%.1f", k > 0 ? 'L' : 'M', chart_x(&c, b->from[k]),
                chart_y(&c, b->step[k].samples_per_s), chart_x(&c, b->to[k]));
    fputs("'/>\n", f);
    chart_events(&c, r, false);
    fputs("</svg></section>\n", f);
}
static void legend_peers(FILE *f, const run_record *r) {
    int i;
    fputs("<div class='legend'>", f);
    for (i = 0; i < r->peers; i++) {
        fprintf(f, "<span><i style='background:%s'></i>", colour_peer[i % COLOURS]);
        html_text(f, r->peer[i].name);
        fputs("</span>", f);
    }
    fputs("</div>\n", f);
}
static void page_shares(FILE *f, const run_record *r, const bins *b) {
    chart c = {f, 0, b->to[b->n - 1], 100, 56, 34, HALF - 72, 176};
    double *below = (double *)calloc((size_t)b->n, sizeof *below);
    int i, j, k;
    if (below == NULL) return;
    html_card(f, "Shares of the work", "Who computed how much of each step.", HALF, 260);
    chart_axis_y(&c, "% of samples", "#3c4650");
    chart_axis_time(&c);
    for (i = 0; i < r->peers; i++) {
        fprintf(f, "<path shape-rendering='crispEdges' fill='%s' d='", colour_peer[i % COLOURS]);
        for (k = 0; k < b->n; k++) {
            const run_part *p = &b->part[k * b->peers];
            const double x = chart_x(&c, b->from[k]);
            double all = 0, share;
            for (j = 0; j < r->peers; j++) all += p[j].samples;
            share = all > 0 ? 100 * p[i].samples / all : 0;
            chart_rect(&c, x, chart_y(&c, below[k] + share), chart_x(&c, b->to[k]) - x,
                       c.height * share / 100);
            below[k] += share;
        }
        fputs("'/>\n", f);
    }
    free(below);
    chart_events(&c, r, false);
    fputs("</svg>", f);
    legend_peers(f, r);
    fputs("</section>\n", f);
}
static void legend_phases(FILE *f) {
    int i;
    fputs("<div class='legend'>", f);
    for (i = 0; i < 3; i++)
        fprintf(f, "<span><i style='background:%s'></i>%s</span>", phase_colour[i], phase_name[i]);
}

/* One lane a peer: in every bin how its time went, from the bottom: compute, wire, wait. */
static void page_timeline(FILE *f, const run_record *r, const bins *b) {
    const int lane = 34, height = 30 + lane * r->peers + 50;
    chart c = {f, 0, b->to[b->n - 1], 1, 130, 24, WIDE - 150, lane * r->peers};
    int i, k, phase;
    html_card(f, "Timeline",
              "How each peer spent its time; where nothing is drawn it was not there.", WIDE,
              height);
    for (i = 0; i < r->peers; i++) {
        const int top = c.top + lane * i + 3, tall = lane - 6;
        fprintf(f, "<text x='%d' y='%d' text-anchor='end'>", c.left - 10, top + tall / 2 + 4);
        html_text(f, r->peer[i].name);
        fprintf(f, "</text><rect x='%d' y='%d' width='%d' height='%d' fill='#f5f6f8'/>\n", c.left,
                top, c.width, tall);
        for (phase = 0; phase < 3; phase++) {
            fprintf(f, "<path shape-rendering='crispEdges' fill='%s' d='", phase_colour[phase]);
            for (k = 0; k < b->n; k++) {
                const run_part *p = &b->part[k * b->peers + i];
                const double x = chart_x(&c, b->from[k]), all = part_seconds(p);
                double below = 0, part;
                if (p->at < 0 || all <= 0) continue;
                if (phase > 0) below += p->compute / all;
                if (phase > 1) below += p->wire / all;
                part = *part_phase(p, phase) / all;
                chart_rect(&c, x, top + tall * (1 - below - part), chart_x(&c, b->to[k]) - x,
                           tall * part);
            }
            fputs("'/>\n", f);
        }
    }
    chart_marks(&c, r, lane);
    chart_axis_time(&c);
    fputs("</svg>", f);
    legend_phases(f);
    fputs("<span>&#10799; lost or left</span><span>&#43; joined</span></div></section>\n", f);
}
static void page_times(FILE *f, const run_record *r, const run_part *sum) {
    const int lane = 30;
    chart c = {f, 0, 0, 1, 130, 10, WIDE - 210, lane * r->peers};
    int i, phase;
    for (i = 0; i < r->peers; i++)
        if (part_seconds(&sum[i]) > c.x1) c.x1 = part_seconds(&sum[i]);
    html_card(f, "Time by peer", "Seconds of the whole run; the share of each in its bar.", WIDE,
              lane * r->peers + 56);
    for (i = 0; i < r->peers; i++) {
        const double all = part_seconds(&sum[i]);
        const int top = c.top + lane * i + 4, tall = lane - 8;
        double x = c.left;
        fprintf(f, "<text x='%d' y='%d' text-anchor='end'>", c.left - 10, top + 15);
        html_text(f, r->peer[i].name);
        fputs("</text>\n", f);
        for (phase = 0; phase < 3 && all > 0; phase++) {
            const double part = *part_phase(&sum[i], phase), w = c.width * part / c.x1;
            fprintf(f, "<rect x='%.1f' y='%d' width='%.1f' height='%d' fill='%s'/>", x, top, w,
                    tall, phase_colour[phase]);
            if (w > 40)
                fprintf(f, "<text x='%.1f' y='%d' text-anchor='middle' fill='%s'>%.0f %%</text>\n",
                        x + w / 2, top + 15, phase == 0 ? "white" : "#3c4650", 100 * part / all);
            x += w;
        }
        fprintf(f, "<text x='%.1f' y='%d'>%.1f s</text>\n", x + 8, top + 15, all);
    }
    chart_axis_time(&c);
    fputs("</svg>", f);
    legend_phases(f);
    fputs("</div></section>\n", f);
}
static void page_table(FILE *f, const run_record *r, const run_part *sum, const run_part *all) {
    int i;
    fputs("<section class='wide'><h2>Peers</h2><table><tr><th>peer<th>samples<th>share<th>compute"
          "<th>wire<th>wait<th>sent<th>saved by compression</tr>\n",
          f);
    for (i = 0; i < r->peers; i++) {
        const run_part *p = &sum[i];
        const double raw = p->sent + p->saved;
        fprintf(f, "<tr><td><i style='background:%s'></i>", colour_peer[i % COLOURS]);
        html_text(f, r->peer[i].name);
        fprintf(f, "<td>%.0f<td>%.1f %%<td>%.1f s<td>%.1f s<td>%.1f s<td>", p->samples,
                all->samples > 0 ? 100 * p->samples / all->samples : 0, p->compute, p->wire,
                p->wait);
        html_bytes(f, p->sent);
        fputs("<td>", f);
        html_bytes(f, p->saved);
        fprintf(f, " (%.0f %%)</tr>\n", raw > 0 ? 100 * p->saved / raw : 0);
    }
    fputs("</table></section>\n", f);
}
static void page_events(FILE *f, const run_record *r) {
    int i;
    if (r->events == 0) return;
    fputs("<section class='wide'><h2>Events</h2><table><tr><th>event<th>second<th>step</tr>\n", f);
    for (i = 0; i < r->events; i++) {
        const run_event *e = &r->event[i];
        fprintf(f, "<tr><td><i style='background:%s'></i>", event_colour(e));
        event_text(f, r, e);
        fprintf(f, "<td>%.1f<td>%.0f</tr>\n", e->seconds, e->step);
    }
    fputs("</table></section>\n", f);
}

static const char page_style[] =
    "body{font:15px/1.45 system-ui,sans-serif;color:#26303a;background:#f4f6f8;margin:0}"
    "main{max-width:1060px;margin:0 auto;padding:24px 16px;display:flex;flex-wrap:wrap;gap:16px}"
    "header{width:100%}h1{font-size:24px;margin:0}h2{font-size:16px;margin:0}"
    "p{margin:0 0 8px;color:#66717d;font-size:13px}"
    "section{background:#fff;border:1px solid #e2e6ea;border-radius:8px;padding:14px 16px;"
    "box-sizing:border-box;overflow-x:auto}.wide{width:100%}.half{flex:1 1 440px}"
    "svg{display:block;width:100%;height:auto}.wide svg{min-width:680px}.half svg{max-width:600px}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(116px,1fr));gap:12px;"
    "width:100%}.tiles div{background:#fff;border:1px solid #e2e6ea;border-radius:8px;padding:10px "
    "12px}"
    ".tiles b{display:block;font-size:20px;font-weight:600;white-space:nowrap}.tiles "
    "span{color:#66717d;"
    "font-size:13px}i{display:inline-block;width:11px;height:11px;border-radius:2px;"
    "margin-right:6px}.legend{font-size:13px;color:#3c4650}.legend span{margin-right:16px;"
    "white-space:nowrap}table{border-collapse:collapse;width:100%;font-size:14px;"
    "font-variant-numeric:tabular-nums}th,td{text-align:right;padding:5px 8px;border-bottom:1px "
    "solid #edf0f2}th{color:#66717d;font-weight:500}th:first-child,td:first-child{text-align:left}";

static void page_head(FILE *f, const run_record *r, const run_part *all, const char *name) {
    const run_step *last = &r->step[r->steps - 1];
    double rate = 0, before = 0;
    int i, joined = 0, gone = 0;
    for (i = 0; i < r->steps; i++) { /* the mean over time, from what was measured in each part */
        rate += r->step[i].samples_per_s * (r->step[i].seconds - before);
        before = r->step[i].seconds;
    }
    for (i = 0; i < r->events; i++) {
        joined += !strcmp(r->event[i].what, "joined") && !event_is_start(&r->event[i]);
        gone += event_is_loss(&r->event[i]);
    }
    fputs("<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
          "content='width=device-width'><title>",
          f);
    html_text(f, name);
    fprintf(f, "</title><style>%s</style></head>\n<body><main><header><h1>Training run</h1><p>",
            page_style);
    html_text(f, name);
    fputs("</p></header>\n<div class='tiles'>", f);
    fprintf(f, "<div><b>%.0f</b><span>steps</span></div><div><b>", last->step);
    if (last->seconds < 600)
        fprintf(f, "%.1f s", last->seconds);
    else
        fprintf(f, "%ld h %ld min", (long)last->seconds / 3600, (long)last->seconds / 60 % 60);
    fputs("</b><span>time</span></div>", f);
    fprintf(f, "<div><b>%.4f</b><span>loss at the end</span></div>", last->loss);
    if (last->accuracy > 0)
        fprintf(f, "<div><b>%.2f %%</b><span>accuracy at the end</span></div>",
                100 * last->accuracy);
    fprintf(f, "<div><b>%.0f</b><span>samples / s, mean</span></div>",
            last->seconds > 0 ? rate / last->seconds : 0);
    if (r->peers > 1)
        fprintf(f, "<div><b>%d</b><span>peers; %d joined, %d lost or left</span></div>", r->peers,
                joined, gone);
    if (all->sent > 0) {
        fputs("<div><b>", f);
        html_bytes(f, all->sent);
        fprintf(f, "</b><span>sent, %.0f %% saved</span></div>",
                100 * all->saved / (all->sent + all->saved));
    }
    fputs("</div>\n", f);
}
static int page_write(const char *path, const run_record *r, const bins *b, const char *name) {
    run_part *sum = (run_part *)calloc((size_t)r->peers + 1, sizeof *sum);
    FILE *f = sum != NULL ? fopen(path, "w") : NULL;
    int i;
    if (f == NULL) return free(sum), fprintf(stderr, "dlshard: cannot write '%s'\n", path), 1;
    for (i = 0; i < r->parts; i++) {
        bins_add(&sum[r->part[i].of], &r->part[i]);
        bins_add(&sum[r->peers], &r->part[i]); /* of all */
    }
    page_head(f, r, &sum[r->peers], name);
    page_curve(f, r, b);
    page_rate(f, r, b);
    if (page_has_shares(r)) page_shares(f, r, b);
    if (r->parts > 0) {
        page_timeline(f, r, b);
        page_times(f, r, sum);
        page_table(f, r, sum, &sum[r->peers]);
    }
    page_events(f, r);
    fputs("</main></body></html>\n", f);
    free(sum);
    return report_close(f, path, "report");
}
/* Reads the record at `csv` and writes the page, to csv's name with .html when `path` is NULL. */
static int report(const char *csv, const char *path) {
    const char *const name = strrchr(csv, '/') != NULL ? strrchr(csv, '/') + 1 : csv;
    const size_t stem =
        strlen(csv) - (strlen(csv) > 4 && !strcmp(csv + strlen(csv) - 4, ".csv") ? 4 : 0);
    char *beside = (char *)malloc(stem + 6);
    bins b;
    run_record r;
    int status = 1;
    memset(&b, 0, sizeof b);
    if (beside != NULL) snprintf(beside, stem + 6, "%.*s.html", (int)stem, csv);
    if (run_read(&r, csv) && bins_make(&b, &r) && beside != NULL)
        status = page_write(path != NULL ? path : beside, &r, &b, name);
    bins_free(&b);
    run_free(&r);
    free(beside);
    return status;
}
