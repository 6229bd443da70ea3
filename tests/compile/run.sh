# The header under many compilers and settings, beside other code, and misused: each misuse must end
# in a clear error. STRICT=1 runs the whole of tools/matrix, else its quick part.
. ./lib.sh
[ -z "$SAN" ] || { skip "compiling" "no sanitizer"; exit 0; }
whole=--quick
[ "$STRICT" != 1 ] || whole=
# shellcheck disable=SC2086
"$root/tools/matrix" $whole | sed -e '/^matrix:/d' -e "s/^\([a-zA-Z]*\) matrix: /\1 compile: /"

have_cxx=1
have "$CXX" || have_cxx=0
c99="$CC -std=c99 $strict_flags -I$root"
cxx11="$CXX -std=c++11 $strict_flags -I$root"
syntax="-fsyntax-only -DDLSHARD_IMPLEMENTATION"

# shellcheck disable=SC2086
{
    check "the header alone is a C file" $c99 $syntax -x c "$root/dlshard.h"
    printf '#include "dlshard.h"\n#include "dlshard.h"\n#define DLSHARD_IMPLEMENTATION\n%s\n%s\n' \
        '#include "dlshard.h"' '#include "dlshard.h"' >"$out/twice.c"
    check "declared twice, then implemented twice" $c99 -fsyntax-only -D_DEFAULT_SOURCE "$out/twice.c"
    cp "$root/dlshard.h" "$out/renamed.h"
    printf '#define DLSHARD_SELF "renamed.h"\n#define DLSHARD_IMPLEMENTATION\n#include "renamed.h"\n' \
        >"$out/renamed.c"
    check "the file under another name" $CC -std=c99 $strict_flags -fsyntax-only "$out/renamed.c"

    for half in declarations implementation; do
        printf '#include "hostile.h"\n#include "dlshard.h"\n' >"$out/hostile.c"
        cp "$out/hostile.c" "$out/hostile.cc"
        flag=
        [ $half = declarations ] || flag=-DDLSHARD_IMPLEMENTATION
        check "$half after hostile macros" $CC -std=gnu99 -Wall -Wextra -Werror -I"$root" -Icompile \
            $flag -fsyntax-only "$out/hostile.c"
        [ $have_cxx = 0 ] || check "$half after hostile macros, C++" $CXX -std=gnu++11 -Wall -Wextra \
            -Werror -I"$root" -Icompile $flag -fsyntax-only "$out/hostile.cc"
    done

    {
        echo '#include <stdio.h>'
        echo '#include <stdlib.h>'
        echo '#include <math.h>'
        echo '#include <pthread.h>'
        echo '#define DLSHARD_IMPLEMENTATION'
        echo '#include "dlshard.h"'
        echo '#include <time.h>'
    } >"$out/late.c"
    check "implemented after system headers, gnu99" $CC -std=gnu99 -Wall -Wextra -Werror -I"$root" \
        -fsyntax-only "$out/late.c"
    check "the declarations include three headers" sh -c \
        "[ \$(sed -n '/ifndef DLSHARD_H/,/endif ...API/p' '$root/dlshard.h' | grep -c '^#include') -eq 3 ]"

    # ---- What cannot work says so ----
    # refused TEXT FLAG...: preprocessing fails with that #error
    refused() {
        text=$1
        shift
        if $CC -E -I"$root" "$@" >/dev/null 2>"$out/error.txt"; then
            fail "#error $text: compiles"
        elif grep -q "#error.*dlshard: $text" "$out/error.txt"; then
            ok "#error $text"
        else
            fail "#error $text" "$out/error.txt"
        fi
    }
    echo '#include "dlshard.h"' >"$out/page.c"
    refused "DLS_PROFILE must be" -DDLS_PROFILE=9 "$out/page.c"
    refused "DLS_PROFILE must be" -DDLS_PROFILE=0 "$out/page.c"
    refused "DLS_ENABLE_THREADS needs" -U__GNUC__ -DDLS_ENABLE_THREADS=1 "$out/page.c"
    refused "DLS_ENABLE_SOCKETS brings" -DDLS_ENABLE_STREAMS=0 "$out/page.c"
    refused "DLS_ENABLE_STB_IMAGE" -DDLS_ENABLE_STB_IMAGE=1 -DDLS_ENABLE_FILES=0 "$out/page.c"
    refused "DLS_REPLAY_BITS must be" -DDLS_REPLAY_BITS=96 "$out/page.c"
    refused "DLS_REPLAY_BITS must be" -DDLS_REPLAY_BITS=8192 "$out/page.c"
    refused "DLS_WINDOW_MAX must be" -DDLS_WINDOW_MAX=2 "$out/page.c"
    refused "DLS_WINDOW_MAX must be" -DDLS_WINDOW_MAX=65536 "$out/page.c"
    refused "compile this file without -ffast-math" -ffast-math "$out/page.c"
    refused "floats must stay floats" -U__FLT_EVAL_METHOD__ -D__FLT_EVAL_METHOD__=2 "$out/page.c"
    refused "DLS_ENABLE_PEERS without" -DDLSHARD_IMPLEMENTATION -DDLS_PROFILE=1 \
        -DDLS_ENABLE_PEERS=1 "$out/page.c"
    refused "include the implementation before" -std=c99 "$out/late.c"
    for wrong in $(sed -n '/The #error page/,/What init functions/p' "$root/dlshard.h" |
        sed -n 's/^#error "dlshard: \([A-Za-z_]*\).*/\1/p'); do
        grep -q "refused \"$wrong" compile/run.sh || fail "#error $wrong... has no test here"
    done
}

# ---- Several copies in one program, two languages, unlike settings ----
# shellcheck disable=SC2086
{
    small="-DDLS_ENABLE_SIMD=0 -DDLS_ENABLE_SOCKETS=0 -O1"
    objects=
    built=1
    for f in copy_a copy_b copy_shared user copies; do
        with_cxx=
        [ $have_cxx = 0 ] || with_cxx=-DWITH_CXX
        $c99 $small $with_cxx -c compile/$f.c -o "$out/$f.o" >"$out/$f.cc" 2>&1 &
        objects="$objects $out/$f.o"
        [ $f != copy_b ] || wait
    done
    wait
    linker=$CC
    if [ $have_cxx = 1 ]; then
        $cxx11 $small -c compile/user_cxx.cc -o "$out/user_cxx.o" >"$out/user_cxx.cc" 2>&1
        objects="$objects $out/user_cxx.o"
        linker=$CXX
    else
        skip "C++ file in the program" "$CXX"
    fi
    for o in $objects; do
        [ -f "$o" ] || { fail "compiling $o" "${o%.o}.cc"; built=0; }
    done
    if [ $built = 1 ]; then
        check "two private copies, a shared one and its users link" $linker $objects -lpthread \
            -o "$out/copies"
        check "they compute the same" "$out/copies"
    fi

    $c99 $small -c compile/abi_main.c -o "$out/abi_main.o" >"$out/abi.txt" 2>&1 &
    $c99 $small -DDLS_REAL64=1 -c compile/abi_other.c -o "$out/abi_other.o" >>"$out/abi.txt" 2>&1
    wait
    if $CC "$out/abi_main.o" "$out/abi_other.o" -lpthread -o "$out/abi" >>"$out/abi.txt" 2>&1; then
        check "a file with other numbers is told DLS_E_ABI" "$out/abi"
    else
        fail "compiling the ABI test" "$out/abi.txt"
    fi

    if [ $have_cxx = 1 ]; then
        if $cxx11 -O1 compile/all_cxx.cc -lpthread -o "$out/all_cxx" >"$out/all_cxx.txt" 2>&1; then
            check "C++11 program trains" "$out/all_cxx"
        else
            fail "compiling the C++11 program" "$out/all_cxx.txt"
        fi
    else
        skip "C++11 program" "$CXX"
    fi
}
