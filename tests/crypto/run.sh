# Ciphers, hashes and signatures: the vectors of others on this CPU and, by qemu, on four more; the
# same inputs to libsodium; constant time under valgrind; the hooks. DIFF: inputs per primitive.
. ./lib.sh
: "${DIFF:=100000}"
vectors=$PWD/crypto/vectors.txt
small="-Os -DDLS_ENABLE_SIMD=0 -DDLSI_LIMB_BITS=32" # what a microcontroller compiles

build "$out/crypto" crypto/crypto.c -O2 && run_c "$out/crypto" "$vectors" here
# shellcheck disable=SC2086
build "$out/small" crypto/crypto.c $small && run_c "$out/small" "$vectors" small

# A spoilt vector is noticed in each kind but one: of speccheck the first is refused either way.
awk '/^#/ || seen[$1]++ { print; next } # the last digit of the last field: an output
     { c = substr($0, length($0)); sub(/.$/, c == "0" ? "1" : "0"); print }' \
    "$vectors" >"$out/spoilt.txt"
if "$out/crypto" "$out/spoilt.txt" spoilt >"$out/spoilt.log" 2>&1 ||
    [ "$(grep -c '^FAIL' "$out/spoilt.log")" -ne 9 ]; then
    fail "spoilt vectors are noticed" "$out/spoilt.log"
else
    ok "spoilt vectors are noticed"
fi
[ -z "$SAN" ] || exit 0

# ---- Other CPUs ----

for target in aarch64:aarch64-linux-gnu arm:arm-linux-gnueabihf riscv64:riscv64-linux-gnu \
    s390x:s390x-linux-gnu; do
    cpu=${target%%:*} gcc=${target#*:}-gcc
    have "$gcc" || { skip "$cpu" "$gcc" && continue; }
    have "qemu-$cpu" || { skip "$cpu" "qemu-$cpu" && continue; }
    if "$gcc" -std=gnu99 -O1 -static -DDLS_ENABLE_SOCKETS=0 -DDLS_ENABLE_THREADS=0 -I"$root" -I. \
        crypto/crypto.c -o "$out/$cpu" >"$out/$cpu.cc" 2>&1; then
        run_c "qemu-$cpu" "$out/$cpu" "$vectors" "$cpu"
    else
        fail "compiling for $cpu" "$out/$cpu.cc"
    fi
done

# ---- The same as libsodium ----

# compiles FILE-WITH-INCLUDES FLAG...: whether a library is there
compiles() { # HEADER FLAG...
    printf '#include <%s>\nint main(void) { return 0; }\n' "$1" >"$out/probe.c"
    shift
    "$CC" "$out/probe.c" -o "$out/probe" "$@" >/dev/null 2>&1
}
sodium=0 crypto=0
! compiles sodium.h -lsodium || sodium=1
! compiles openssl/evp.h -lcrypto || crypto=1
alike() { # PROGRAM PRIMITIVE COUNT SEED
    if "$1" "$2" "$3" "$4" >"$out/diff-$2-$4.txt" 2>&1; then
        ok "$2: $3 inputs, seed $4, as libsodium"
    else
        fail "$2 unlike libsodium" "$out/diff-$2-$4.txt"
    fi
}
if [ $sodium = 1 ]; then
    LIBS=-lsodium
    if build "$out/diff" crypto/diff.c -O2; then
        alike "$out/diff" ed25519 $((DIFF / 2)) 1 & # the slow one, in halves side by side
        alike "$out/diff" ed25519 $((DIFF / 2)) 2
        wait
        alike "$out/diff" x25519 $((DIFF / 2)) 1 &
        alike "$out/diff" x25519 $((DIFF / 2)) 2
        alike "$out/diff" aead "$DIFF" 1
        alike "$out/diff" sha512 "$DIFF" 1
        wait
    fi
else
    skip "the same as libsodium" "libsodium-dev"
fi
if [ $crypto = 1 ]; then
    LIBS=-lcrypto
    if build "$out/diff_hash" crypto/diff.c -O2 -DWITH_CRYPTO; then
        alike "$out/diff_hash" blake2s "$DIFF" 1
    fi
else
    skip "BLAKE2s, the same as libcrypto" "libssl-dev"
fi
if [ $sodium$crypto = 11 ]; then
    LIBS="-lsodium -lcrypto"
    build "$out/hooks" crypto/hooks.c && run_c "$out/hooks"
else
    skip "hooks" "libsodium-dev and libssl-dev"
fi

# ---- Constant time ----

if ! have valgrind || ! compiles valgrind/memcheck.h; then
    skip "constant time" valgrind
    exit 0
fi
# ct COMPILER NAME FLAG...: status 0 clean, 99 reports, other: it went wrong
ct() {
    ct_cc=$1 ct_name=$out/ct-$2
    shift 2
    "$ct_cc" -std=gnu99 -g -DDLS_ENABLE_SOCKETS=0 -DDLS_ENABLE_THREADS=0 -DDLS_ENABLE_TRAIN=0 "$@" \
        -I"$root" crypto/ct.c -o "$ct_name" >"$ct_name.txt" 2>&1 || return 1
    valgrind -q --error-exitcode=99 "$ct_name" >>"$ct_name.txt" 2>&1
}
for cc in gcc clang; do
    have $cc || { skip "constant time, $cc" $cc && continue; }
    for level in -O0 -O1 -O2 -O3 -Os; do
        if ct $cc "$cc$level" $level; then
            ok "constant time, $cc $level"
        else
            fail "constant time, $cc $level" "$out/ct-$cc$level.txt"
        fi
    done
    for level in -O0 -O2 -Os; do
        if ct $cc "$cc$level-32" $level -DDLS_ENABLE_SIMD=0 -DDLSI_LIMB_BITS=32; then
            ok "constant time, $cc $level, 32-bit limbs, no SIMD"
        else
            fail "constant time, $cc $level, 32-bit limbs" "$out/ct-$cc$level-32.txt"
        fi
    done
done
for plant in 1 2; do
    ct "$CC" plant$plant -O1 -DPLANT=$plant
    if [ $? -eq 99 ]; then
        ok "constant time: planted $plant is reported"
    else
        fail "constant time: planted $plant is not reported" "$out/ct-plant$plant.txt"
    fi
done
