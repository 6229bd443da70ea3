# Whole networks: equal states on every instruction set, thread count and split.
. ./lib.sh
# a sanitizer's verdict must not look like the status of a program that reported its failures
ASAN_OPTIONS=exitcode=99 UBSAN_OPTIONS=exitcode=99:print_stacktrace=1
export ASAN_OPTIONS UBSAN_OPTIONS
NET_OUT=$out
export NET_OUT
build "$out/net" net/main.c && run_c "$out/net"
