// node convert.js DIR >vectors.txt: test vectors from the JSON files of their authors, one a line.
// DIR holds wycheproof_*.json (C2SP/wycheproof testvectors_v1 @dac1dd4), blake2s_kat.json (from
// BLAKE2/BLAKE2 blake2-kat.json @ed1974e), ed25519_speccheck.json (novifinancial/ed25519-speccheck
// cases.json @6551933) and rfc_basic.json (values printed in RFC 7748, 8439, 8032, 7693 and, for
// REKEY, computed by the rule of the Noise specification with OpenSSL).
const fs = require('fs'), dir = process.argv[2];
const read = (name) => JSON.parse(fs.readFileSync(`${dir}/${name}.json`));
const tests = (file, f) => file.testGroups.forEach((g) => g.tests.forEach((t) => f(t, g)));
const count = {}, lines = [];
function line(kind, ...fields) {
    count[kind] = (count[kind] || 0) + 1;
    lines.push([kind, ...fields.map((f) => f === '' ? '-' : f)].join(' '));
}
let left_out = 0;

tests(read('wycheproof_x25519'), (t) => line('x25519', t.tcId, t.private, t.public, t.shared));
tests(read('wycheproof_chacha20_poly1305'), (t) => {
    if (t.iv.length !== 24 || t.tag.length !== 32) { left_out++; return; } // our call has no sizes
    line('aead', t.tcId, t.result, t.key, t.iv, t.aad, t.msg, t.ct, t.tag);
});
tests(read('wycheproof_ed25519'), (t, g) => {
    if (t.sig.length !== 128) { left_out++; return; }
    line('ed25519', t.tcId, t.result, g.publicKey.pk, t.msg, t.sig);
});
read('ed25519_speccheck').forEach((t, i) => // libsodium 1.0.18 takes number 3 only
    line('speccheck', i, i === 3 ? 'valid' : 'invalid', t.pub_key, t.message, t.signature));
read('blake2s_kat').kat.forEach((t) => line('blake2s', t.inlen, t.keyed ? 1 : 0, t.out));

const rfc = read('rfc_basic');
rfc.rfc7748_5_2.forEach((t, i) => line('x25519', `rfc${i}`, t.scalar, t.u, t.out));
for (const n of [1, 1000]) line('iterated', n, rfc.rfc7748_5_2_iterated.after[n]);
const a = rfc.rfc8439_2_8_2;
line('aead', 'rfc', 'valid', a.key, a.nonce, a.aad, a.pt, a.ct, a.tag);
rfc.rfc8032_7_1.forEach((t, i) => line('sign', i, t.sk, t.pk, t.msg, t.sig));
line('abc', rfc.rfc7693_blake2s_abc);
line('selftest', rfc.rfc7693_blake2s_selftest_grand_hash);
line('rekey', ...rfc.noise_rekey_chachapoly.chain);

console.log(`# Test vectors, made by convert.js from: Wycheproof (x25519, aead, ed25519; the C2SP authors,
# Apache-2.0, see LICENSE-Apache-2.0.txt), ed25519-speccheck (the Novi authors, Apache-2.0), the
# BLAKE2 authors' answers (blake2s, CC0) and RFC 7748, 8439, 8032, 7693 (the rest). Changed: form
# only; ${left_out} tests of nonces, tags and signatures of other sizes are left out, which our calls
# cannot be given. KIND FIELD..., bytes in hex, "-" for none.
# Lines: ${Object.keys(count).map((k) => `${k} ${count[k]}`).join(', ')}`);
console.log(lines.join('\n'));
