/* cc -O1 makekeys.c -o makekeys -lpthread
   makekeys DEVICE.key LAB.roster GATEWAY_ID [ID@A.B.C.D:PORT]...
   A device's key and its group's roster, as `dlshard enrol` makes them, as C for its firmware, to
   standard output. GATEWAY_ID: who is at the other end of its UART; ID@...: where devices are to be
   called by UDP. */
#define DLSHARD_IMPLEMENTATION
#include "../../dlshard.h"
#include <stdio.h>

static void print_array(const char *name, const void *bytes, size_t n) {
    const unsigned char *p = (const unsigned char *)bytes;
    size_t i;
    printf("const unsigned char %s[%u] = {", name, (unsigned)n);
    for (i = 0; i < n; i++) printf("%s%u,", i % 20 == 0 ? "\n    " : " ", p[i]);
    printf("\n};\n");
}
static int print_calls(char **call, int n) {
    int i;
    printf("const int32_t key_calls_count = %d;\nconst key_call key_calls[] = {\n", n);
    for (i = 0; i < n; i++) {
        unsigned id, a[4], port;
        if (sscanf(call[i], "%u@%u.%u.%u.%u:%u", &id, a, a + 1, a + 2, a + 3, &port) != 6) {
            fprintf(stderr, "makekeys: '%s' is not like 3@192.168.1.7:7000\n", call[i]);
            return 1;
        }
        printf("    {%u, {%u, %u, %u, %u, %u, %u}},\n", id, a[0], a[1], a[2], a[3], port >> 8,
               port & 255);
    }
    printf("%s};\n", n == 0 ? "    {0, {0}},\n" : "");
    return 0;
}

int main(int argc, char **argv) {
    dls_roster_file file;
    dls_keys keys;
    dls_error error;
    char text[400];
    dls_status st;
    int result = 1;
    if (argc < 4) {
        fputs("makekeys DEVICE.key LAB.roster GATEWAY_ID [ID@A.B.C.D:PORT]...\n", stderr);
        return 2;
    }
    memset(&file, 0, sizeof file);
    st = dls_keys_load(&keys, argv[1], &error);
    if (st == DLS_OK) st = dls_roster_load(&file, argv[2], keys.root, &error);
    if (st == DLS_OK) {
        printf("/* Keys of device %s. Secret. Made by makekeys.c. */\n#include \"peer.h\"\n",
               keys.name);
        printf("const uint32_t key_id = %u, key_gateway = %s;\n", (unsigned)keys.id, argv[3]);
        printf("const bool key_has_secret = %s;\n", keys.is_small ? "false" : "true");
        print_array("key_secret", keys.secret, 32);
        print_array("key_psk", keys.psk, 32);
        print_array("key_roster", file.bytes, file.count);
        printf("const size_t key_roster_bytes = sizeof key_roster;\n");
        result = print_calls(argv + 4, argc - 4);
    } else {
        fprintf(stderr, "makekeys: %s\n", dls_error_text(&error, text, sizeof text));
    }
    dls_roster_free(&file);
    dls_wipe(&keys, sizeof keys);
    return result;
}
