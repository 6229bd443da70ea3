/* live.c - part of dlshard.c: training by whoever is there. A table of the devices that is drawn
   anew in place, or plain lines where nobody looks; what happens goes into the record, too. */

enum { LIVE_ROWS = 16, LIVE_NOTES = 2000, LIVE_EVENTS = 100000 };

typedef struct live_peer {
    int32_t shards;
    bool seen, up, trains;      /* ever part of a step; there; part of the last step */
    run_peer drawn, window;     /* what the table shows; since it was drawn */
    int32_t drawn_steps, steps; /* of them */
    run_peer row;               /* since the last row of the record */
} live_peer;
typedef struct live {
    dls_host host;
    dls_host_fit_desc fit;
    live_peer *peer; /* by rank */
    int32_t peers, me;
    bool terminal, late; /* late: nobody came in time */
    int lines;           /* of the table on the screen */
    uint64_t start, drawn_at, said_at;
    int64_t step, redone, told; /* told: of which there is a point */
    double drawn_s, samples_per_s, steps_per_s, sent;
    dls_progress last;
    double join_s;         /* 0: as long as it takes */
    char note[LIVE_NOTES]; /* lines that are to stand above the table */
    char missing[400];     /* why it can't begin */
    run_peer *rows;        /* room for the record's */
} live;

/* ---- What happens ---- */

static double live_seconds(const live *l) { return (double)(dls_now_us() - l->start) * 1e-6; }
static const char *live_name(live *l, int32_t rank) {
    return rank >= 0 ? dls_peer_name(l->host.peer, rank) : "";
}
static void live_note(live *l, const char *text) {
    const size_t used = strlen(l->note);
    snprintf(l->note + used, sizeof l->note - used, "%s\n", text);
}
/* A row in the record; step 0: how it was when I began. */
static void live_record(live *l, const char *what, double step, int32_t rank) {
    if (points.record != NULL)
        run_write_event(points.record, what, step, live_seconds(l), rank, live_name(l, rank));
}
static void live_add(run_peer *to, const dls_run_member *m) {
    to->samples += m->samples;
    to->compute += m->compute_us * 1e-6;
    to->wire += m->wire_us * 1e-6;
    to->wait += m->wait_us * 1e-6;
    to->sent += m->sent_bytes;
}
static void live_gone(live *l, int32_t rank, bool left, const char *why) {
    char text[300];
    l->peer[rank].trains = false;
    snprintf(text, sizeof text, "%s %s after step %ld%s%s", live_name(l, rank),
             left ? "left" : "was lost", (long)l->step, *why != '\0' ? ": " : "", why);
    live_note(l, text);
    live_record(l, left ? "left" : "lost", (double)l->step, rank);
}
static void live_step(live *l, const dls_run_event *e) {
    const double before = l->step == 0 ? 0 : (double)e->step - 1; /* 0: there when I began */
    char text[200];
    int32_t i, k;
    for (i = 0; i < l->peers; i++) { /* out of the view, though I had not lost it */
        for (k = 0; k < e->member_count && e->member[k].rank != i; k++) {}
        if (l->peer[i].trains && k == e->member_count) live_gone(l, i, false, "");
    }
    for (k = 0; k < e->member_count; k++) {
        live_peer *p = &l->peer[e->member[k].rank];
        if (!p->trains) live_record(l, "joined", before, e->member[k].rank);
        if (!p->trains && before > 0) {
            snprintf(text, sizeof text, "%s joined with step %ld", live_name(l, e->member[k].rank),
                     (long)e->step);
            live_note(l, text);
        }
        p->trains = p->seen = true;
        p->shards = e->member[k].shards;
        live_add(&p->window, &e->member[k]);
        p->steps++;
        live_add(&p->row, &e->member[k]);
        l->sent += e->member[k].sent_bytes;
    }
    l->step = e->step;
    if (e->redone == l->redone) return;
    l->redone = e->redone;
    snprintf(text, sizeof text, "step %ld was done again", (long)e->step);
    live_note(l, text);
    live_record(l, "redone", (double)e->step, -1);
}
static void live_view(live *l, const dls_run_event *e) {
    char text[400];
    dls_view v;
    int n, i;
    dls_peer_view(l->host.peer, &v);
    n = snprintf(text, sizeof text, "together:");
    for (i = 0; i < v.count && n < 300; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %s", live_name(l, v.rank[i]));
    snprintf(text + n, sizeof text - (size_t)n, "; this is place %d, after step %ld", (int)v.mine,
             (long)e->step);
    live_note(l, text);
    live_record(l, "view", l->step == 0 ? 0 : (double)e->step, -1);
}
/* Who is there; whom we lack, while there is nothing else to tell. */
static void live_look(live *l) {
    dls_peer *p = l->host.peer;
    dls_peer_event e;
    char text[300];
    size_t used = 0;
    int32_t i;
    while (dls_host_next(&l->host, &e, text, sizeof text))
        if ((e.type == DLS_PEER_LOST || e.type == DLS_PEER_LEFT) && l->peer[e.rank].trains &&
            (l->step == 0 || l->step < l->last.steps)) /* in the end all go */
            live_gone(l, e.rank, e.type == DLS_PEER_LEFT,
                      e.type == DLS_PEER_LOST ? dls_status_text(e.status) : "");
    l->missing[0] = '\0';
    for (i = 0; i < l->peers; i++) {
        l->peer[i].up = i == l->me || dls_peer_is_up(p, i);
        if (l->peer[i].up || l->step > 0 || used + 2 > sizeof l->missing) continue;
        if (l->host.find != NULL)
            (void)dls_find_explain(l->host.find, dls_peer_id(p, i), text, sizeof text,
                                   dls_now_us());
        else
            snprintf(text, sizeof text, "%s does not answer", live_name(l, i));
        used += (size_t)snprintf(l->missing + used, sizeof l->missing - used, "%s%s",
                                 used > 0 ? "; " : "", text);
    }
}
static void live_event(void *user, const dls_run_event *e) {
    live *l = (live *)user;
    char text[400];
    live_look(l);
    if (e->type == DLS_RUN_STEP) live_step(l, e);
    if (e->type == DLS_RUN_VIEW) live_view(l, e);
    if (e->type == DLS_RUN_STATE) {
        snprintf(text, sizeof text, "took the state after step %ld from the others", (long)e->step);
        live_note(l, text);
        live_record(l, "state", l->step == 0 ? 0 : (double)e->step, l->me);
    }
    if (e->type == DLS_RUN_TROUBLE) {
        live_note(l, dls_error_text(&e->note, text, sizeof text));
        live_record(l, "trouble", (double)l->step, -1);
    }
}

/* ---- What is seen of it ---- */

/* The table; returns its lines. ESC [K: what stood there before goes. */
static int live_rows(live *l) {
    int32_t i, shards = 0, n = 0;
    for (i = 0; i < l->peers; i++) shards += l->peer[i].trains ? l->peer[i].shards : 0;
    printf("%-15s  %-7s %6s %10s %11s %8s %8s%s\n", "device", "state", "share", "samples/s",
           "compute ms", "wire ms", "wait ms", l->terminal ? "\x1b[K" : "");
    for (i = 0; i < l->peers && n < LIVE_ROWS; i++, n++) {
        const live_peer *p = &l->peer[i];
        const double ms = 1e3 / (p->drawn_steps > 0 ? p->drawn_steps : 1);
        printf("%-15.15s  %-7s", live_name(l, i),
               p->trains ? "trains"
               : p->up   ? "is here"
               : p->seen ? "lost"
                         : "away");
        if (p->trains && p->drawn_steps > 0)
            printf(" %4.0f %% %10.0f %11.2f %8.2f %8.2f", 100.0 * p->shards / shards,
                   p->drawn.samples / l->drawn_s, p->drawn.compute * ms, p->drawn.wire * ms,
                   p->drawn.wait * ms);
        printf("%s\n", l->terminal ? "\x1b[K" : "");
    }
    return n + 1;
}
static int live_totals(const live *l, const dls_progress *p) {
    const char *end = l->terminal ? "\x1b[K" : "";
    const double left = l->steps_per_s > 0 ? (double)(p->steps - p->step) / l->steps_per_s : 0;
    char sent[32];
    if (l->step == 0) {
        printf("%s%s\n", l->missing[0] != '\0' ? l->missing : "waiting for the others", end);
        return 1;
    }
    printf("step %ld of %ld, epoch %d of %d   loss %.4f   accuracy %.2f %%%s\n", (long)p->step,
           (long)p->steps, (int)p->epoch, (int)p->epochs, p->loss, 100 * p->accuracy, end);
    printf("%.0f samples/s   %s sent, 0 B saved (exact sums)   %.0f s left%s\n", l->samples_per_s,
           bytes_text(sent, sizeof sent, l->sent), left, end);
    return 2;
}
/* The window becomes what is shown, unless nothing came. */
static void live_turn(live *l, uint64_t now) {
    const double s = (double)(now - l->drawn_at) * 1e-6;
    double samples = 0;
    int32_t i, steps = 0;
    for (i = 0; i < l->peers; i++) {
        samples += l->peer[i].window.samples;
        steps = l->peer[i].steps > steps ? l->peer[i].steps : steps;
    }
    if (steps == 0) return;
    l->drawn_s = s;
    l->samples_per_s = samples / s;
    l->steps_per_s = steps / s;
    l->drawn_at = now;
    for (i = 0; i < l->peers; i++) {
        l->peer[i].drawn = l->peer[i].window;
        l->peer[i].drawn_steps = l->peer[i].steps;
        l->peer[i].steps = 0;
        memset(&l->peer[i].window, 0, sizeof l->peer[i].window);
    }
}
/* On a terminal the lines of before are written over, too long ones are cut (ESC [?7l). */
static void live_draw(live *l, const dls_progress *p) {
    live_turn(l, dls_now_us());
    if (l->lines > 0) printf("\x1b[%dA\r\x1b[J", l->lines);
    fputs(l->note, stdout);
    l->note[0] = '\0';
    if (l->terminal) fputs("\x1b[?7l", stdout);
    l->lines = live_rows(l);
    l->lines += live_totals(l, p);
    if (l->terminal) fputs("\x1b[?7h", stdout);
    fflush(stdout);
}
static void live_say(live *l, const dls_progress *p, uint64_t now) {
    char line[160];
    fputs(l->note, stdout);
    l->note[0] = '\0';
    if (now - l->said_at >= 2000000) {
        l->said_at = now;
        if (l->step == 0)
            printf("waiting: %s\n", l->missing[0] != '\0' ? l->missing : "for the others");
        else
            printf("%s\n", dls_progress_text(p, 0, line, sizeof line));
    }
    fflush(stdout);
}
/* A point of the curve, and the rows of the record. */
static void live_point(live *l, const dls_progress *p) {
    int32_t i;
    int n = 0;
    for (i = 0; i < l->peers; i++) {
        run_peer *row = &l->peer[i].row;
        if (row->compute + row->wire + row->wait <= 0) continue;
        row->rank = (int)i;
        row->name = live_name(l, i);
        l->rows[n++] = *row;
        memset(row, 0, sizeof *row);
    }
    keep_point(p, l->rows, n);
}
static bool live_progress(void *user, const dls_progress *p) {
    live *l = (live *)user;
    const uint64_t now = dls_now_us();
    if (p->step > l->told) {
        l->told = p->step;
        live_point(l, p);
    }
    if (l->terminal && now - l->drawn_at >= 400000 && now - l->said_at >= 400000) {
        l->said_at = now;
        live_draw(l, p);
    } else if (!l->terminal)
        live_say(l, p, now);
    l->last = *p;
    if (l->step == 0 && l->join_s > 0 && live_seconds(l) > l->join_s) l->late = true;
    return !stop && !l->late;
}

/* ---- The whole ---- */

static bool trace_to_file(void *user, const char *text, size_t bytes) {
    return fwrite(text, 1, bytes, (FILE *)user) == bytes;
}
static int trace_write(const dls_trace *trace, const char *path) {
    FILE *f = fopen(path, "w");
    if (f == NULL) return fprintf(stderr, "dlshard: cannot write '%s'\n", path), 1;
    (void)dls_trace_write_json(trace, 1, trace_to_file, f);
    return report_close(f, path, "timeline");
}
static dls_status live_open(live *l, const options *o, dls_error *error) {
    dls_host_desc d = {0};
    dls_status st;
    d.key = o->node.key_file;
    d.roster = o->roster;
    d.listen = o->node.listen;
    d.connect = o->node.connect;
    d.tcp = o->node.tcp;
    d.serial = o->node.serial;
    d.gateway = o->node.gateway;
    d.no_lan = o->node.no_lan;
    d.lan_port = o->node.lan_port;
    d.timeout_us = 1000000;
    st = dls_host_open(&l->host, &d, error);
    if (st != DLS_OK) return st;
    l->peers = DLS_ROSTER_DEVICES; /* the roster may grow while we run */
    l->peer = (live_peer *)calloc((size_t)l->peers, sizeof *l->peer);
    l->rows = (run_peer *)calloc((size_t)l->peers, sizeof *l->rows);
    if (l->peer == NULL || l->rows == NULL) return DLS_E_MEMORY;
    l->peers = dls_peer_count(l->host.peer);
    l->me = dls_peer_rank_of(l->host.peer, l->host.identity.keys.id);
    l->terminal = isatty(1) != 0;
    l->join_s = o->node.join_ms * 1e-3;
    l->start = l->drawn_at = l->said_at = dls_now_us();
    l->fit.fit = o->fit;
    l->fit.fit.progress = live_progress;
    l->fit.fit.progress_ms = 100;
    l->fit.fit.user = l;
    l->fit.event = live_event;
    l->fit.save = true;
    l->fit.share = o->share[l->me];
    l->fit.members_least = o->node.expect;
    return DLS_OK;
}
/* Trains with those who are there. *did is of this device. */
static dls_status live_fit(const options *o, dls_net *net, const dls_data *data,
                           dls_fit_report *did) {
    static live l;
    static dls_trace trace;
    void *mem = o->trace != NULL ? malloc(DLS_TRACE_BYTES(LIVE_EVENTS)) : NULL;
    dls_run_report run = {0};
    dls_error error = {0};
    dls_status st = live_open(&l, o, &error);
    if (st == DLS_OK && o->trace != NULL) {
        st = dls_trace_init(&trace, mem, mem != NULL ? DLS_TRACE_BYTES(LIVE_EVENTS) : 0);
        trace.peer = l.me;
        trace.name = live_name(&l, l.me);
        trace.track[0] = "training";
        l.fit.trace = &trace;
    }
    if (st == DLS_OK && !open_record()) st = DLS_E_IO;
    if (st == DLS_OK) st = dls_host_fit(&l.host, net, data, &l.fit, did, &run, &error);
    if (l.terminal)
        live_draw(&l, &l.last);
    else
        fputs(l.note, stdout);
    if (l.late) {
        st = DLS_E_TIMEOUT;
        fprintf(stderr, "dlshard: nobody else was found in %.0f ms: %s\n", l.join_s * 1e3,
                l.missing);
    } else if (st != DLS_OK && st != DLS_E_STOPPED)
        fail(&error);
    if (run.steps > 0)
        printf("%ld views, %ld steps done again, %ld taken back\n", (long)run.views,
               (long)run.redone, (long)run.lost);
    if (l.fit.trace != NULL && st != DLS_E_TIMEOUT && trace_write(&trace, o->trace) != 0)
        st = DLS_E_IO;
    dls_host_close(&l.host);
    free(mem);
    free(l.peer);
    free(l.rows);
    return st;
}
