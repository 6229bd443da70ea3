# Ciphers, hashes and signatures: the vectors of others on this CPU and, by qemu, on four more; the
# same inputs to libsodium; constant time under valgrind; the hooks. DIFF: inputs per primitive, CT:
# levels of optimisation for the last; `make -C tests crypto` has more of both than the everyday run.
. ./lib.sh
: "${DIFF:=4000}" "${CT:=-O0 -O2}"
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

# ---- A microcontroller: answers, stack, size ----

# firmware FLAG...: $out/mcu.elf
firmware() {
    # shellcheck disable=SC2086
    arm-none-eabi-gcc -std=c99 -mthumb "$@" -Os -DNDEBUG -DDLS_ENABLE_PEERS=1 -DDLS_ENABLE_SIGN=1 \
        $strict_flags -ffunction-sections -fdata-sections -I"$root" -Imcu crypto/mcu.c mcu/board.c \
        -nostartfiles --specs=nano.specs -Wl,--gc-sections,-T,mcu/link.ld -o "$out/mcu.elf"
}
bytes() {
    arm-none-eabi-size -A "$out/mcu.elf" |
        awk '{ n[$1] = $2 } END { print n[".text"] + n[".rodata"] }'
}
for cpu in "cortex-m4 mps2-an386" "cortex-m0plus mps2-an385"; do
    core=${cpu% *} board=${cpu#* }
    have arm-none-eabi-gcc || { skip "$core" arm-none-eabi-gcc && continue; }
    none=0 all=0
    firmware -mcpu="$core" -DPART=0 >"$out/mcu.cc" 2>&1 && none=$(bytes)
    firmware -mcpu="$core" -DPART=7 >"$out/mcu.cc" 2>&1 && all=$(bytes)
    if [ "$none" -gt 0 ] && [ "$all" -gt 0 ] && [ $((all - none)) -le 8192 ]; then
        ok "$core: X25519, ChaCha20-Poly1305, BLAKE2s are $((all - none)) bytes (of 8192)"
    else
        fail "$core: $((all - none)) bytes, more than 8192, or no program" "$out/mcu.cc"
    fi
    check "$core: with signatures" firmware -mcpu="$core"
    have qemu-system-arm || { skip "$core: runs" qemu-system-arm && continue; }
    timeout 120 qemu-system-arm -M "$board" -icount shift=0 -nographic -monitor none -serial none \
        -semihosting-config enable=on,target=native -kernel "$out/mcu.elf" >"$out/mcu.txt" 2>&1
    awk '/stack/ { n++; if ($0 !~ / good stack/ || $NF > 2048) bad = 1; if ($NF > most) most = $NF }
         END { print most; exit bad || n != 9 }' "$out/mcu.txt" >"$out/mcu-stack.txt"
    if [ $? -eq 0 ]; then
        ok "$core: answers right, stack $(cat "$out/mcu-stack.txt") bytes at most"
    else
        fail "$core: answers and stack" "$out/mcu.txt"
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
ct_all() { # COMPILER
    have "$1" || { skip "constant time, $1" "$1" && return; }
    for level in $CT; do
        if ct "$1" "$1$level" $level; then
            ok "constant time, $1 $level"
        else
            fail "constant time, $1 $level" "$out/ct-$1$level.txt"
        fi
    done
    for level in -O0 -O2 -Os; do
        if ct "$1" "$1$level-32" $level -DDLS_ENABLE_SIMD=0 -DDLSI_LIMB_BITS=32; then
            ok "constant time, $1 $level, 32-bit limbs, no SIMD"
        else
            fail "constant time, $1 $level, 32-bit limbs" "$out/ct-$1$level-32.txt"
        fi
    done
}
ct_all gcc >"$out/ct-gcc.log" & # its lines come after clang's
ct_all clang
wait
cat "$out/ct-gcc.log"
for plant in 1 2; do
    ct "$CC" plant$plant -O1 -DPLANT=$plant
    if [ $? -eq 99 ]; then
        ok "constant time: planted $plant is reported"
    else
        fail "constant time: planted $plant is not reported" "$out/ct-plant$plant.txt"
    fi
done
