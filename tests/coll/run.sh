# Collectives: every kind by every algorithm, 1 to 17 members in one process, over streams pumped in
# random order and over lossy datagrams in virtual time; then members of either byte order, over TCP.
. ./lib.sh
build "$out/coll" coll/coll.c -lm && run_c "$out/coll"
[ -z "$SAN" ] || exit 0

big=s390x-linux-gnu-gcc qemu=
for name in qemu-s390x qemu-s390x-static; do have $name && qemu=$name; done
if ! have $big; then skip "big-endian members beside little-endian ones" $big && exit 0; fi
if [ -z "$qemu" ]; then skip "big-endian members beside little-endian ones" qemu-s390x && exit 0; fi
"$big" -std=gnu99 -O1 -static -I"$root" -I. coll/coll.c -o "$out/coll-big" -lm -lpthread \
    >"$out/big.cc" 2>&1 || { fail "compiling for s390x" "$out/big.cc" && exit 0; }
peers=$("$out/coll" ports)
"$qemu" "$out/coll-big" mix 0 "$peers" >"$out/mix0.txt" 2>&1 &
first=$!
"$qemu" "$out/coll-big" mix 2 "$peers" >"$out/mix2.txt" 2>&1 &
second=$!
"$out/coll" mix 1 "$peers" >"$out/mix1.txt" 2>&1
if wait $first && wait $second && [ -s "$out/mix0.txt" ] && cmp -s "$out/mix0.txt" "$out/mix1.txt" &&
    cmp -s "$out/mix0.txt" "$out/mix2.txt" && ! grep -q bad "$out/mix1.txt"; then
    ok "big-endian members beside little-endian ones"
else
    cat "$out"/mix?.txt >"$out/mix.txt"
    fail "big-endian members beside little-endian ones" "$out/mix.txt"
fi
