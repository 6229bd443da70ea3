# Sourced by each suite's run.sh. Working directory: tests/. Prints "ok", "FAIL" and "skip" lines.
suite=$(basename "$(dirname "$0")")
: "${BUILD:=$PWD/build}" "${CC:=cc}" "${CXX:=c++}"
out=$BUILD/$suite
mkdir -p "$out"
root=$(cd .. && pwd)
strict_flags="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wundef -Werror"
san_flags=
if [ -n "$SAN" ]; then
    san_flags="-g -fsanitize=$SAN -fno-sanitize-recover=all -fno-omit-frame-pointer"
    CC=${SAN_CC:-$CC}
fi

# A sanitizer's verdict must not look like the status of a program that reported its failures.
ASAN_OPTIONS=exitcode=99 UBSAN_OPTIONS=exitcode=99:print_stacktrace=1 TSAN_OPTIONS=exitcode=99
export ASAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS

ok() { echo "ok $suite: $1"; }
fail() { # NAME [FILE with the reason]
    echo "FAIL $suite: $1"
    [ -z "$2" ] || head -n "${3:-30}" "$2"
}
skip() { echo "skip $suite: $1: needs $2"; }
have() { command -v "$1" >/dev/null 2>&1; }

# check NAME COMMAND...: ok when the command succeeds; its output is shown when it does not.
check() {
    check_name=$1
    shift
    if "$@" >"$out/check.$$" 2>&1; then ok "$check_name"; else fail "$check_name" "$out/check.$$"; fi
    rm -f "$out/check.$$"
}

# build PROGRAM SOURCE [FLAG...]: compile tests/SOURCE, link $LIBS; when that fails, a FAIL line and
# status 1.
build() {
    build_to=$1 build_from=$2
    shift 2
    # shellcheck disable=SC2086
    if "$CC" -std=gnu99 ${OPT:--O1} $san_flags -I"$root" -I. "$@" "$build_from" -o "$build_to" \
        $COVER_FLAGS $LIBS -lpthread >"$build_to.cc" 2>&1; then return 0; fi
    fail "compiling $build_from" "$build_to.cc"
    return 1
}

# run_c PROGRAM [ARG...]: a program made with test.h prints its own lines; a crash is one more FAIL.
run_c() {
    "$@" || [ $? -eq 1 ] || fail "$(basename "$1") crashed"
}
