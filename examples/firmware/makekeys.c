/* cc -O1 makekeys.c -o build/makekeys -lpthread
   makekeys new DIR GROUP NAME:ROLE...   a collective's keys and roster; ids 1, 2, ...; ROLE is coord,
                                     member or small (no identity key, the least code)
   makekeys revoke DIR NAME TO           TO: the next roster, in which that device is revoked
   makekeys c DIR NAME GATEWAY [ID@A.B.C.D:PORT]...   keys.c of a firmware, to standard output
   Files of DIR, raw bytes: root.key (seed; keep it offline), root.pub, group.key, roster, NAME.key. */
#define DLSHARD_IMPLEMENTATION
#include "../../dlshard.h"
#include <stdio.h>
#include <stdlib.h>

#define DEVICES 64
static dls_device device[DEVICES];
static dls_roster roster;
static unsigned char bytes[65536], root[32], group_psk[32];

static void give_up(const char *what, const char *path) {
    fprintf(stderr, "makekeys: %s %s\n", what, path);
    exit(1);
}
static FILE *open_in(const char *dir, const char *name, const char *suffix, const char *mode) {
    char path[512];
    FILE *f;
    snprintf(path, sizeof path, "%s/%s%s", dir, name, suffix);
    f = fopen(path, mode);
    if (f == NULL) give_up("cannot open", path);
    return f;
}
static size_t get(const char *dir, const char *name, const char *suffix, void *to, size_t most) {
    FILE *f = open_in(dir, name, suffix, "rb");
    const size_t n = fread(to, 1, most, f);
    fclose(f);
    return n;
}
static void put(const char *dir, const char *name, const char *suffix, const void *from, size_t n) {
    FILE *f = open_in(dir, name, suffix, "wb");
    if (fwrite(from, 1, n, f) != n || fclose(f) != 0) give_up("cannot write", name);
}
static void put_roster(const char *dir, const char *name) {
    const dls_status st = dls_roster_write(&roster, root, bytes, sizeof bytes);
    if (st != DLS_OK) give_up("cannot sign a roster:", dls_status_text(st));
    put(dir, name, "", bytes, dls_roster_bytes(roster.count));
}
static dls_device *find(const char *name) {
    int32_t i;
    for (i = 0; i < roster.count; i++)
        if (strcmp(device[i].name, name) == 0) return &device[i];
    give_up("not in the roster:", name);
    return NULL;
}

static void add(const char *dir, const char *spec) {
    dls_device *d = &device[roster.count++];
    const char *role = strchr(spec, ':');
    unsigned char key[32];
    if (role == NULL || role - spec > 15 || roster.count > DEVICES) give_up("what is", spec);
    d->id = (uint32_t)roster.count;
    memcpy(d->name, spec, (size_t)(role - spec));
    d->role = DLS_ROLE_JOIN | DLS_ROLE_TRAIN;
    if (strcmp(role, ":coord") == 0) d->role |= DLS_ROLE_COORD;
    if (strcmp(role, ":small") == 0) {
        d->flags = DLS_DEVICE_SMALL;
        dls_device_psk(key, group_psk, roster.group, d->id);
    } else {
        if (dls_random(key, 32) != DLS_OK) give_up("no random numbers for", spec);
        dls_x25519_public(d->public_key, key);
    }
    put(dir, d->name, ".key", key, 32);
}
static void make_new(const char *dir, const char *group, char **spec, int n) {
    unsigned char public_key[32];
    roster.group = (uint32_t)strtoul(group, NULL, 0);
    roster.epoch = 1;
    if (dls_random(root, 32) != DLS_OK || dls_random(group_psk, 32) != DLS_OK)
        give_up("no random numbers for", dir);
    while (n-- > 0) add(dir, *spec++);
    dls_ed25519_public(public_key, root);
    put(dir, "root", ".key", root, 32);
    put(dir, "root", ".pub", public_key, 32);
    put(dir, "group", ".key", group_psk, 32);
    put_roster(dir, "roster");
}

static void print_array(const char *name, const unsigned char *p, size_t n) {
    size_t i;
    printf("const unsigned char %s[%u] = {", name, (unsigned)n);
    for (i = 0; i < n; i++) printf("%s%u,", i % 20 == 0 ? "\n    " : " ", p[i]);
    printf("\n};\n");
}
static void print_c(const char *dir, const char *name, const char *gateway, char **call, int n) {
    const dls_device *d = find(name);
    const bool is_small = (d->flags & DLS_DEVICE_SMALL) != 0;
    const size_t size = get(dir, "roster", "", bytes, sizeof bytes);
    unsigned char key[32], none[32] = {0};
    int i;
    get(dir, name, ".key", key, 32);
    printf("/* Keys of device %s. Secret. Made by makekeys.c. */\n#include \"peer.h\"\n", name);
    printf("const uint32_t key_id = %u, key_gateway = %s;\n", (unsigned)d->id, gateway);
    printf("const bool key_has_secret = %s;\n", is_small ? "false" : "true");
    print_array("key_secret", is_small ? none : key, 32);
    print_array("key_psk", is_small ? key : group_psk, 32);
    print_array("key_roster", bytes, size);
    printf("const size_t key_roster_bytes = sizeof key_roster;\n");
    printf("const int32_t key_calls_count = %d;\nconst key_call key_calls[] = {\n", n);
    for (i = 0; i < n; i++) {
        unsigned id, a[4], port;
        if (sscanf(call[i], "%u@%u.%u.%u.%u:%u", &id, a, a + 1, a + 2, a + 3, &port) != 6)
            give_up("not ID@A.B.C.D:PORT:", call[i]);
        printf("    {%u, {%u, %u, %u, %u, %u, %u}},\n", id, a[0], a[1], a[2], a[3], port >> 8,
               port & 255);
    }
    if (n == 0) printf("    {0, {0}},\n");
    printf("};\n");
}

int main(int argc, char **argv) {
    roster.device = device;
    if (argc > 4 && strcmp(argv[1], "new") == 0) {
        make_new(argv[2], argv[3], argv + 4, argc - 4);
        return 0;
    }
    if (argc < 5) give_up("usage: see the head of", "makekeys.c");
    get(argv[2], "root", ".key", root, 32);
    get(argv[2], "group", ".key", group_psk, 32);
    if (dls_roster_read(&roster, device, DEVICES, bytes,
                        get(argv[2], "roster", "", bytes, sizeof bytes), NULL) != DLS_OK)
        give_up("not a roster:", argv[2]);
    if (strcmp(argv[1], "revoke") == 0) {
        find(argv[3])->flags |= DLS_DEVICE_REVOKED;
        roster.epoch++;
        put_roster(argv[2], argv[4]);
    } else {
        print_c(argv[2], argv[3], argv[4], argv + 5, argc - 5);
    }
    return 0;
}
