/* identity.c - part of noise.c. */

static byte root_seed[32], root_public[32], other_public[32];
static byte sample_cert[DLS_CERT_BYTES], sample_roster[512];
static size_t roster_bytes;

static void load_samples(void) {
    int i;
    for (i = 0; i < 32; i++) root_seed[i] = (byte)(128 + i);
    dls_ed25519_public(root_public, root_seed);
    root_seed[0] ^= 1;
    dls_ed25519_public(other_public, root_seed);
    root_seed[0] ^= 1;
    CHECK_INT(golden(sample_cert, sizeof sample_cert, "cert"), DLS_CERT_BYTES);
    roster_bytes = golden(sample_roster, sizeof sample_roster, "roster");
    CHECK_INT(roster_bytes, dls_roster_bytes(3));
}
static dls_status read_cert(const void *from, size_t bytes, const byte *root) {
    dls_cert cert;
    return dls_cert_read(&cert, from, bytes, root);
}
static dls_status read_roster(const void *from, size_t bytes, const byte *root) {
    dls_device devices[8];
    dls_roster roster;
    const dls_status status = dls_roster_read(&roster, devices, 8, from, bytes, root);
    CHECK(status == DLS_OK || (roster.count == 0 && roster.device == NULL));
    return status;
}

/* What another implementation wrote reads as it should, and is written again to the bit: signing is
   deterministic. */
static void test_identity_values(void) {
    dls_cert cert;
    dls_device devices[3];
    dls_roster roster;
    byte out[512];
    load_samples();
    CHECK_STATUS(dls_cert_read(&cert, sample_cert, DLS_CERT_BYTES, root_public), DLS_OK);
    CHECK_INT(cert.device.id, 258);
    CHECK_INT(cert.device.role, 0x17);
    CHECK_INT(cert.device.flags, 0);
    CHECK(cert.device.public_key[0] == 1 && cert.device.public_key[31] == 32);
    CHECK(strcmp(cert.device.name, "tablet") == 0);
    CHECK_INT(cert.group, 7);
    CHECK_INT(cert.first_epoch, 3);
    CHECK_INT(cert.last_epoch, 0xFFFFFFFF);
    CHECK_STATUS(dls_cert_write(&cert, root_seed, out), DLS_OK);
    CHECK(memcmp(out, sample_cert, DLS_CERT_BYTES) == 0);

    CHECK_STATUS(
        dls_roster_read(&roster, devices, 3, sample_roster, roster_bytes, root_public), DLS_OK);
    CHECK_INT(roster.count, 3);
    CHECK_INT(roster.group, 7);
    CHECK_INT(roster.epoch, 41);
    CHECK_INT(devices[0].id, 1);
    CHECK_INT(devices[0].role, 0x37);
    CHECK_INT(devices[1].flags, DLS_DEVICE_REVOKED);
    CHECK_INT(devices[2].id, 0xFFFFFFFF);
    CHECK_INT(devices[2].flags, DLS_DEVICE_SMALL);
    CHECK(strcmp(devices[2].name, "fifteen letters") == 0);
    CHECK_STATUS(dls_roster_write(&roster, root_seed, out, roster_bytes), DLS_OK);
    CHECK(memcmp(out, sample_roster, roster_bytes) == 0);
    CHECK_STATUS(dls_roster_write(&roster, root_seed, out, roster_bytes - 1), DLS_E_MEMORY);
    CHECK_STATUS(dls_roster_read(&roster, devices, 2, sample_roster, roster_bytes, root_public),
                 DLS_E_LIMIT);
}

static void test_identity_every_bit(void) {
    size_t i;
    load_samples();
    for (i = 0; i < 8 * DLS_CERT_BYTES; i++) {
        dls_status status;
        sample_cert[i / 8] ^= (byte)(1u << i % 8);
        status = read_cert(sample_cert, DLS_CERT_BYTES, root_public);
        CHECK_STATUS(status, i < 8 ? DLS_E_VERSION : DLS_E_AUTH);
        sample_cert[i / 8] ^= (byte)(1u << i % 8);
    }
    for (i = 0; i < 8 * roster_bytes; i++) {
        dls_status status;
        sample_roster[i / 8] ^= (byte)(1u << i % 8);
        status = read_roster(sample_roster, roster_bytes, root_public);
        if (i / 8 == 0)
            CHECK_STATUS(status, DLS_E_VERSION);
        else /* bytes 1 to 3: the count, which the size contradicts */
            CHECK_STATUS(status, i / 8 < 4 ? DLS_E_FORMAT : DLS_E_AUTH);
        sample_roster[i / 8] ^= (byte)(1u << i % 8);
    }
    for (i = 0; i < sizeof sample_roster; i++) {
        if (i != DLS_CERT_BYTES)
            CHECK_STATUS(read_cert(i < DLS_CERT_BYTES ? sample_cert : sample_roster, i, NULL),
                         DLS_E_FORMAT);
        if (i != roster_bytes)
            CHECK_STATUS(read_roster(sample_roster, i, NULL), DLS_E_FORMAT);
    }
    CHECK_STATUS(read_cert(sample_cert, DLS_CERT_BYTES, other_public), DLS_E_AUTH);
    CHECK_STATUS(read_roster(sample_roster, roster_bytes, other_public), DLS_E_AUTH);
    /* A signature of one kind is none of another. */
    CHECK_STATUS(dlsi_identity_verify(sample_cert, 68, "dlshard/roster/v1", root_public),
                 DLS_E_AUTH);
    CHECK_STATUS(read_cert(sample_cert, DLS_CERT_BYTES, root_public), DLS_OK);
    CHECK_STATUS(read_roster(sample_roster, roster_bytes, root_public), DLS_OK);
}

/* What no writer may sign and no reader take, even from a trusted source (root NULL). */
static void test_identity_refused(void) {
    dls_device good, bad[2], from_wire;
    dls_cert cert;
    dls_roster roster;
    byte out[512];
    int i;
    load_samples();
    memset(&good, 0, sizeof good);
    good.id = 5;
    good.role = DLS_ROLE_JOIN;
    good.public_key[9] = 1;
    strcpy(good.name, "x");
    for (i = 0; i <= 12; i++) {
        dls_device *d = &bad[1];
        dls_status want = DLS_E_ARG;
        bad[0] = bad[1] = good;
        d->id = 6;
        if (i == 0) want = DLS_OK;
        if (i == 1) d->role = 64;
        if (i == 2) d->flags = 4;
        if (i == 3) d->flags = DLS_DEVICE_SMALL; /* with a key */
        if (i == 4) d->public_key[9] = 0;        /* no key, not SMALL */
        if (i == 5) memset(d->name, 'x', 16);    /* no zero at the end */
        if (i == 6) d->name[5] = 'x';            /* more after the zero */
        if (i == 7) d->name[0] = '\n';
        if (i == 8) d->name[0] = (char)0xC3;
        if (i == 9 || i == 10) {
            d->public_key[9] = 0;
            d->flags = DLS_DEVICE_SMALL;
            d->role = i == 9 ? DLS_ROLE_COORD : DLS_ROLE_DEPLOY;
        }
        if (i == 11) d->name[0] = '\0', want = DLS_OK; /* nameless */
        if (i == 12) d->public_key[9] = 0, d->flags = DLS_DEVICE_SMALL, want = DLS_OK;
        memset(&cert, 0, sizeof cert);
        cert.device = *d;
        CHECK_STATUS(dls_cert_write(&cert, root_seed, out), want);
        memcpy(out, sample_cert, DLS_CERT_BYTES); /* the same fields from the wire */
        out[1] = d->role;
        out[2] = d->flags;
        memcpy(out + 8, d->public_key, 32);
        memcpy(out + 52, d->name, 16);
        CHECK_STATUS(read_cert(out, DLS_CERT_BYTES, NULL), want == DLS_OK ? DLS_OK : DLS_E_FORMAT);
        roster.group = roster.epoch = 1;
        roster.count = 2;
        roster.device = bad;
        CHECK_STATUS(dls_roster_write(&roster, root_seed, out, sizeof out), want);
        from_wire = *d;
        *d = good;
        d->id = 6;
        CHECK_STATUS(dls_roster_write(&roster, root_seed, out, sizeof out), DLS_OK);
        out[70] = from_wire.role;
        out[71] = from_wire.flags;
        memcpy(out + 72, from_wire.public_key, 32);
        memcpy(out + 104, from_wire.name, 16);
        CHECK_STATUS(read_roster(out, dls_roster_bytes(2), NULL),
                     want == DLS_OK ? DLS_OK : DLS_E_FORMAT);
    }
    for (i = 0; i < 2; i++) { /* equal ids; falling ones */
        bad[1].id = (uint32_t)(5 - i);
        CHECK_STATUS(dls_roster_write(&roster, root_seed, out, sizeof out), DLS_E_ARG);
        bad[1].id = 6;
        CHECK_STATUS(dls_roster_write(&roster, root_seed, out, sizeof out), DLS_OK);
        CHECK_STATUS(read_roster(out, dls_roster_bytes(2), NULL), DLS_OK);
        dlsi_store32(out + 12 + 54, (uint32_t)(5 - i));
        CHECK_STATUS(read_roster(out, dls_roster_bytes(2), NULL), DLS_E_FORMAT);
    }
    cert.device = good;
    cert.first_epoch = 2;
    cert.last_epoch = 1;
    CHECK_STATUS(dls_cert_write(&cert, root_seed, out), DLS_E_ARG);
    memcpy(out, sample_cert, DLS_CERT_BYTES);
    dlsi_store32(out + 48, 2);
    CHECK_STATUS(read_cert(out, DLS_CERT_BYTES, NULL), DLS_E_FORMAT);
    memcpy(out, sample_cert, DLS_CERT_BYTES);
    out[3] = 1;
    CHECK_STATUS(read_cert(out, DLS_CERT_BYTES, NULL), DLS_E_FORMAT);
    roster.count = -1;
    CHECK_STATUS(dls_roster_write(&roster, root_seed, out, sizeof out), DLS_E_ARG);
    CHECK_INT(dls_roster_bytes(-1), 0);
    CHECK_INT(dls_roster_bytes(DLS_ROSTER_DEVICES + 1), 0);
    CHECK_INT(dls_roster_bytes(DLS_ROSTER_DEVICES), 76 + 54 * 1024);
    roster.count = 0;
    CHECK_STATUS(dls_roster_write(&roster, root_seed, out, sizeof out), DLS_OK);
    CHECK_STATUS(read_roster(out, 76, root_public), DLS_OK);
}

static void test_identity_find(void) {
    static dls_device devices[200];
    dls_roster roster;
    uint32_t i, k;
    roster.group = roster.epoch = 1;
    roster.device = devices;
    for (i = 0; i < 200; i++) devices[i].id = 3 * i + 1;
    for (k = 0; k <= 200; k += 1 + k / 3) {
        roster.count = (int32_t)k;
        for (i = 0; i < 602; i++)
            CHECK(dls_roster_find(&roster, i) ==
                  (i % 3 == 1 && i / 3 < k ? &devices[i / 3] : NULL));
    }
    CHECK(dls_roster_find(&roster, UINT32_MAX) == NULL);
}

/* ---- Manifests ---- */

static byte model_bytes[40 * 1024], leaves[40 * 32], tree[40 * 32], path[31 * 32];

/* A model of that many chunks, the last of 100 bytes, and the hashes of them. */
static void make_model(dls_manifest *m, uint32_t chunks) {
    uint32_t i;
    memset(m, 0, sizeof *m);
    m->chunk_bits = 10;
    m->bytes = 1024 * chunks - 924;
    for (i = 0; i < m->bytes; i++) model_bytes[i] = (byte)(7 * i + (i >> 8));
    CHECK_INT(dls_manifest_chunks(m), chunks);
    for (i = 0; i < chunks; i++)
        dls_merkle_leaf(leaves + 32 * i, model_bytes + 1024 * i, i + 1 < chunks ? 1024 : 100);
    memcpy(tree, leaves, sizeof tree);
    CHECK_INT(dls_merkle_root(tree, chunks, 0, NULL), 0);
    memcpy(m->root, tree, 32);
}

static void test_manifest_values(void) {
    dls_manifest m;
    byte sample[DLS_MANIFEST_BYTES], out[DLS_MANIFEST_BYTES], root[32];
    char name[] = "merkle1";
    uint32_t i;
    load_samples();
    for (i = 1; i <= 9; i++) {
        name[6] = (char)('0' + i);
        make_model(&m, i);
        CHECK(is_golden(name, m.root, 32));
    }
    memcpy(root, m.root, 32);
    CHECK_INT(golden(sample, sizeof sample, "manifest"), DLS_MANIFEST_BYTES);
    CHECK_STATUS(dls_manifest_read(&m, sample, sizeof sample, root_public), DLS_OK);
    CHECK_INT(m.chunk_bits, 10);
    CHECK_INT(m.format, 3);
    CHECK_INT(m.group, 7);
    CHECK_INT(m.version, (uint64_t)1 << 40);
    CHECK_INT(m.bytes, 9 * 1024 - 924);
    CHECK(m.model[15] == 15 && m.base[31] == 31 && memcmp(m.root, root, 32) == 0);
    CHECK_STATUS(dls_manifest_write(&m, root_seed, out), DLS_OK);
    CHECK(memcmp(out, sample, sizeof out) == 0);
    for (i = 0; i < 8 * DLS_MANIFEST_BYTES; i++) {
        sample[i / 8] ^= (byte)(1u << i % 8);
        CHECK_STATUS(dls_manifest_read(&m, sample, sizeof sample, root_public),
                     i < 8 ? DLS_E_VERSION : DLS_E_AUTH);
        sample[i / 8] ^= (byte)(1u << i % 8);
        if (i != DLS_MANIFEST_BYTES)
            CHECK_STATUS(dls_manifest_read(&m, sample, i, NULL), DLS_E_FORMAT);
    }
    for (i = 0; i < 6; i++) {
        CHECK_STATUS(dls_manifest_read(&m, sample, sizeof sample, NULL), DLS_OK);
        if (i == 0) m.chunk_bits = 9;
        if (i == 1) m.chunk_bits = 21;
        if (i == 2) m.bytes = 0;
        if (i == 3) m.bytes = UINT64_MAX;
        if (i == 4) m.bytes = ((uint64_t)0x7FFFFFFF << 10) + 1;
        if (i == 5) m.bytes = (uint64_t)0x7FFFFFFF << 10;
        CHECK_STATUS(dls_manifest_write(&m, root_seed, out), i == 5 ? DLS_OK : DLS_E_ARG);
        memcpy(out, sample, sizeof out);
        out[1] = (byte)m.chunk_bits;
        dlsi_store64(out + 32, m.bytes);
        CHECK_STATUS(dls_manifest_read(&m, out, sizeof out, NULL), i == 5 ? DLS_OK : DLS_E_FORMAT);
    }
    m.format = 65536;
    CHECK_STATUS(dls_manifest_write(&m, root_seed, out), DLS_E_ARG);
}

/* Each chunk proves itself in its place and nowhere else. */
static void test_manifest_chunks(void) {
    dls_manifest m;
    uint32_t chunks, i, k, hashes;
    for (chunks = 1; chunks <= 40; chunks += chunks < 18 ? 1 : 11)
        for (i = 0; i < chunks; i++) {
            const size_t bytes = i + 1 < chunks ? 1024 : 100;
            byte *chunk = model_bytes + 1024 * i;
            make_model(&m, chunks);
            memcpy(tree, leaves, sizeof tree);
            hashes = dls_merkle_root(tree, chunks, i, path);
            CHECK(hashes <= 6 && memcmp(tree, m.root, 32) == 0);
            CHECK_STATUS(dls_merkle_check(&m, i, chunk, bytes, path, hashes), DLS_OK);
            CHECK_STATUS(dls_merkle_check(&m, i, chunk, bytes - 1, path, hashes), DLS_E_FORMAT);
            CHECK_STATUS(dls_merkle_check(&m, i, chunk, bytes, path, hashes + 1), DLS_E_FORMAT);
            if (hashes > 0)
                CHECK_STATUS(dls_merkle_check(&m, i, chunk, bytes, path, hashes - 1),
                             DLS_E_FORMAT);
            CHECK_STATUS(dls_merkle_check(&m, chunks, chunk, bytes, path, hashes), DLS_E_FORMAT);
            for (k = 0; k < chunks; k++)
                if (k != i)
                    CHECK(dls_merkle_check(&m, k, chunk, bytes, path, hashes) != DLS_OK);
            for (k = 0; k < 8 * 32 * hashes; k += 7) {
                path[k / 8] ^= (byte)(1u << k % 8);
                CHECK_STATUS(dls_merkle_check(&m, i, chunk, bytes, path, hashes), DLS_E_AUTH);
                path[k / 8] ^= (byte)(1u << k % 8);
            }
            for (k = i % 61; k < 8 * bytes; k += 61) {
                chunk[k / 8] ^= (byte)(1u << k % 8);
                CHECK_STATUS(dls_merkle_check(&m, i, chunk, bytes, path, hashes), DLS_E_AUTH);
                chunk[k / 8] ^= (byte)(1u << k % 8);
            }
        }
}
