# A small CNN, trained on the host, runs on two Cortex-M in QEMU with the MCU profile: outputs must
# be those of the host's strict mode, bit for bit; nothing of an OS may be linked; sizes are limited.
. ./lib.sh
[ -z "$SAN" ] || { skip "firmware" "no sanitizer"; exit 0; }
have arm-none-eabi-gcc || { skip "firmware" arm-none-eabi-gcc; exit 0; }

build "$out/make_model" mcu/make_model.c -DDLS_ENABLE_SOCKETS=0 -DDLS_ENABLE_PEERS=0 || exit 0
check "the host trains the model" \
    sh -c "'$out/make_model' '$root/examples/data' >'$out/model.h'" || exit 0

# firmware NAME FLAGS...: compiles and links $out/NAME.elf
firmware() {
    name=$1
    shift
    set -- -std=c99 -mthumb "$@" -Os -ffunction-sections -fdata-sections
    # shellcheck disable=SC2086
    arm-none-eabi-gcc "$@" $strict_flags -DNDEBUG -DWITH_MODEL -I"$root" -Imcu -I"$out" \
        -c mcu/firmware.c -o "$out/$name.o" &&
        arm-none-eabi-gcc "$@" $strict_flags -I"$root" -c mcu/board.c -o "$out/board.o" &&
        arm-none-eabi-gcc "$@" -nostartfiles --specs=nano.specs -Wl,--gc-sections,-T,mcu/link.ld \
            "$out/$name.o" "$out/board.o" -o "$out/$name.elf"
}
# An OS, a heap or a console in the image would be one of these.
clean() {
    ! arm-none-eabi-nm "$1" | grep -E ' [A-Za-z] (_?malloc|_?free|_?calloc|_?realloc|_sbrk|.*printf|puts|putchar|pthread_.*|clock.*|time|gettimeofday|_write|_read|_open|fopen|fwrite|exit|abort|__assert.*|dls_op_(lstm|find|attention)|dls_now_us)$'
}
# said TEXT: the number after it in the last run's output
said() { sed -n "s/^$1 //p" "$out/run.txt" | tr -d '\r'; }

for cpu in "cortex-m4 mps2-an386 -mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16" \
    "cortex-m0plus mps2-an385 -mcpu=cortex-m0plus"; do
    # shellcheck disable=SC2086
    set -- $cpu
    core=$1 board=$2
    shift 2
    check "$core: compiles without warnings and links" firmware "$core" "$@"
    [ -f "$out/$core.elf" ] || continue
    check "$core: no heap, console, threads or clock linked" clean "$out/$core.elf"
    if ! have qemu-system-arm; then
        skip "$core: runs" qemu-system-arm
        continue
    fi
    timeout 60 qemu-system-arm -M "$board" -nographic -monitor none -serial none \
        -semihosting-config enable=on,target=native -kernel "$out/$core.elf" >"$out/run.txt" 2>&1
    echo "status $?" >>"$out/run.txt"
    if [ "$(said status)" = 0 ] && [ "$(said images)" = 16 ] && [ "$(said equal)" = 16 ]; then
        ok "$core: 16 images, outputs equal the host's bit for bit"
    else
        fail "$core: outputs equal the host's" "$out/run.txt"
    fi
    if [ "$(said stack_start)" -le 2048 ] && [ "$(said stack_run)" -le 2048 ]; then
        ok "$core: stack $(said stack_start) bytes to start, $(said stack_run) to run"
    else
        fail "$core: over 2048 bytes of stack" "$out/run.txt"
    fi
done

# The comparison can fail: outputs compared with others are not equal.
mkdir -p "$out/spoilt"
sed '/ expected\[/,/^};/ s/0xc0\([0-9a-f]*\),/0xc1\1,/' "$out/model.h" >"$out/spoilt/model.h"
arm-none-eabi-gcc -std=c99 -mthumb -mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16 -Os -DNDEBUG \
    -DWITH_MODEL -I"$root" -Imcu -I"$out/spoilt" -nostartfiles --specs=nano.specs \
    -ffunction-sections -fdata-sections -Wl,--gc-sections,-T,mcu/link.ld mcu/firmware.c mcu/board.c \
    -o "$out/spoilt.elf" >"$out/run.txt" 2>&1
if ! have qemu-system-arm; then
    skip "spoilt expectations are noticed" qemu-system-arm
else
    timeout 60 qemu-system-arm -M mps2-an386 -nographic -monitor none -serial none \
        -semihosting-config enable=on,target=native -kernel "$out/spoilt.elf" >"$out/run.txt" 2>&1
    if [ $? -eq 1 ] && [ "$(said images)" = 16 ] && [ "$(said equal)" -lt 16 ]; then
        ok "spoilt expectations are noticed"
    else
        fail "spoilt expectations are not noticed" "$out/run.txt"
    fi
fi

check "sizes within limits" "$root/tools/size" --check
